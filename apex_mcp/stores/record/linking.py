"""Links between entities that name one thing, made with each commit that names them.

Every version that names an entity has link rows of its own to all that this entity is one with: what one version supports
stays when another is forgotten. A namespace's row is locked meanwhile, so of two commits one sees the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import Layer
from apex_mcp.stores.record.components import components
from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.visibility import CURRENT, DIFFERENT

# Types of which equal spelling is all that two have in common.
VALUES = frozenset({"Amount", "Date", "Email", "Money", "Number", "Percentage", "Url", "Value"})

# Current now: what is looked at under the lock of the namespace's row.
_NOW: LiteralString = f"{CURRENT} AND (s.layer = 0 OR v.enriched_from IS NOT NULL)"

# Single names of persons are shared by many, with a title too: that of `h`, which has the alias, and the alias `k`. Whether
# others have this alias is asked when links are read: see `visibility.AMBIGUOUS`.
_COMPATIBLE: LiteralString = """
(s.type = o.type OR s.type = 'Thing' OR o.type = 'Thing') AND length(k.key) > 1
AND NOT ('Person' IN (s.type, o.type)
         AND 0 IN (position(' ' IN btrim(regexp_replace(k.key, %(titles)s, '', 'g'), ' .,-')),
                   position(' ' IN btrim(regexp_replace(h.normalised, %(titles)s, '', 'g'), ' .,-'))))
"""
_TITLES = rf"(?:^|[ .,-]+)(?:{'|'.join(sorted(ids.TITLES))})(?![^ .,-])"

# Not by EXISTS, here and below: see `visibility.NAMED`. More partners than this are bound together by the ones that came first.
_PROPOSED: LiteralString = f"""
WITH ours AS MATERIALIZED (
    SELECT e.id, e.seq, e.namespace, e.normalised, e.core, o.version_id, o.type, o.alias_keys
    FROM entity_sources o JOIN entities e ON e.id = o.entity_id
    WHERE o.version_id = ANY(%(versions)s) AND o.layer = %(layer)s AND o.type <> ALL(%(values)s)
),
proposed AS (
    SELECT o.id, o.version_id, p.other, k.reason, true AS known FROM ours o
    CROSS JOIN LATERAL (SELECT b_id AS other, a_id, b_id FROM entity_pairs WHERE a_id = o.id
                        UNION ALL SELECT a_id, a_id, b_id FROM entity_pairs WHERE b_id = o.id) AS p
    CROSS JOIN LATERAL (
        SELECT s.reason FROM entity_links s JOIN versions v ON v.id = s.version_id
        WHERE s.a_id = p.a_id AND s.b_id = p.b_id AND {_NOW} LIMIT 1) AS k
  UNION ALL
    SELECT o.id, o.version_id, n.id, 'name', false FROM ours o
    JOIN entities n ON n.namespace = o.namespace AND n.core = o.core AND n.id <> o.id
    WHERE o.type IN ('Organization', 'Thing') AND o.core <> ''
      AND (SELECT true FROM entity_sources s JOIN versions v ON v.id = s.version_id
                  WHERE s.entity_id = n.id AND s.type IN ('Organization', 'Thing') AND {_NOW} LIMIT 1)
  UNION ALL
    SELECT h.id, h.version_id, n.id, 'alias', false FROM ours h
    CROSS JOIN LATERAL unnest(h.alias_keys) AS k(key)
    JOIN entities n ON n.namespace = h.namespace AND n.normalised = k.key AND n.id <> h.id
    WHERE (SELECT true FROM entity_sources s JOIN versions v ON v.id = s.version_id
                  CROSS JOIN LATERAL (SELECT h.type) AS o(type)
                  WHERE s.entity_id = n.id AND {_COMPATIBLE} AND {_NOW} LIMIT 1)
  UNION ALL
    SELECT n.id, n.version_id, h.id, 'alias', false FROM ours n
    CROSS JOIN LATERAL (SELECT n.normalised) AS k(key)
    JOIN entity_aliases a ON a.namespace = n.namespace AND a.key = k.key AND a.entity_id <> n.id
    JOIN entities h ON h.id = a.entity_id
    WHERE (SELECT true FROM entity_sources s JOIN versions v ON v.id = s.version_id
                  CROSS JOIN LATERAL (SELECT n.type) AS o(type)
                  WHERE s.entity_id = h.id AND k.key = ANY(s.alias_keys) AND {_COMPATIBLE} AND {_NOW} LIMIT 1)
),
ranked AS (
    SELECT q.*, e.seq, e.namespace, e.normalised, e.core, q.reason = '{DIFFERENT}' AS differ,
           dense_rank() OVER (PARTITION BY q.id, q.version_id, q.reason = '{DIFFERENT}' ORDER BY e.seq) AS place
    FROM proposed q JOIN entities e ON e.id = q.other
)
SELECT DISTINCT ON (r.version_id, r.id, r.other, r.differ) r.version_id, r.namespace, r.reason, r.known,
       CASE WHEN (o.seq < r.seq) <> r.differ THEN o.id ELSE r.other END AS a_id,
       CASE WHEN (o.seq < r.seq) <> r.differ THEN r.other ELSE o.id END AS b_id,
       o.normalised AS name, o.core AS core, r.normalised AS other_name, r.core AS other_core,
       EXISTS (SELECT 1 FROM entity_splits x WHERE x.namespace = r.namespace AND x.revision_to IS NULL) AS splits
FROM ranked r JOIN entities o ON o.id = r.id WHERE r.place <= 32
ORDER BY r.version_id, r.id, r.other, r.differ, r.known DESC, r.reason
"""

_ORDERED: LiteralString = f"""
SELECT a.id AS a_id, b.id AS b_id, t.version_id, t.reason, a.namespace,
       EXISTS (SELECT 1 FROM entity_splits x WHERE x.namespace = a.namespace AND x.revision_to IS NULL) AS splits
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[]) AS t(one, other, version_id, reason)
JOIN entities a ON a.id IN (t.one, t.other) JOIN entities b ON b.id IN (t.one, t.other)
WHERE a.namespace = b.namespace AND a.id <> b.id AND (a.seq < b.seq) <> (t.reason = '{DIFFERENT}')
"""

_INSERT_PAIRS: LiteralString = """
INSERT INTO entity_pairs (a_id, b_id) SELECT DISTINCT a, b FROM unnest(%s::uuid[], %s::uuid[]) AS r(a, b) ORDER BY a, b
ON CONFLICT DO NOTHING
"""

_INSERT_LINKS: LiteralString = """
INSERT INTO entity_links (a_id, b_id, version_id, layer, reason)
SELECT a, b, v, %s, r FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[]) AS t(a, b, v, r)
ON CONFLICT DO NOTHING
"""

_SPLITS: LiteralString = """
SELECT a_id, b_id FROM entity_splits WHERE namespace = %s AND revision_to IS NULL
"""


@dataclass(frozen=True, slots=True)
class Told:
    """A link that a version's model found, or denied: an entity of the version, and another one."""

    version_id: UUID
    entity_id: UUID
    other_id: UUID
    reason: str


async def link_entities(
    connection: Connection, version_ids: Sequence[UUID], layer: Layer, told: Sequence[Told] = ()
) -> None:
    """Within a commit, once its versions are current and their namespaces locked: link what they name in this layer."""
    bound = {"versions": list(version_ids), "layer": int(layer), "values": list(VALUES), "titles": _TITLES}
    proposed = await (await connection.execute(_PROPOSED, bound)).fetchall()
    # Of different legal forms, a core alone makes no two one.
    rows = [
        row
        for row in proposed
        if row["reason"] != "name"
        or not ids.differ_in_form(row["name"], row["core"], row["other_name"], row["other_core"])
    ]
    if told:
        columns = [(one.entity_id, one.other_id, one.version_id, one.reason) for one in told]
        ordered = await connection.execute(_ORDERED, tuple(map(list, zip(*columns, strict=True))))
        rows += [{**row, "known": False} for row in await ordered.fetchall()]
    if any(row["splits"] for row in rows):
        rows = await _without_reunions(connection, rows)
    if not rows:
        return
    a, b, versions, reasons = (
        [row[name] for row in rows] for name in ("a_id", "b_id", "version_id", "reason")
    )
    async with connection.pipeline():
        await connection.execute(_INSERT_PAIRS, (a, b))
        await connection.execute(_INSERT_LINKS, (int(layer), a, b, versions, reasons))


async def _without_reunions(connection: Connection, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without new links by which two that the user keeps apart would become one through a third.

    A link of these two themselves is kept: it does not count while they are split, and does when they are joined again.
    """
    kept: list[dict[str, Any]] = []
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_namespace.setdefault(row["namespace"], []).append(row)
    for namespace, some in by_namespace.items():
        splits = await (await connection.execute(_SPLITS, (namespace,))).fetchall()
        apart = {frozenset((row["a_id"], row["b_id"])) for row in splits}
        revision = await (
            await connection.execute("SELECT revision FROM namespaces WHERE name = %s", (namespace,))
        ).fetchone()
        assert revision is not None  # its row is locked
        ends = {row[side] for row in some for side in ("a_id", "b_id")}
        found = await components(connection, namespace, revision["revision"], ends)
        group = {id_: set(component.members) for id_, component in found.items()}
        for row in some:
            ours, theirs = group[row["a_id"]], group[row["b_id"]]
            if (
                ours is theirs
                or row["known"]
                or row["reason"] == DIFFERENT
                or frozenset((row["a_id"], row["b_id"])) in apart
            ):
                kept.append(row)
            elif not any(frozenset((x, y)) in apart for x in ours for y in theirs):
                kept.append(row)
                ours |= theirs
                group |= dict.fromkeys((one for one in theirs if one in group), ours)
    return kept
