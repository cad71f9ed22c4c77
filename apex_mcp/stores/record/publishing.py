"""The second commit: what a model found in a version becomes visible, all at once."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import Extraction, Layer
from apex_mcp.stores.record.components import components
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.graph_rows import GraphRows, insert_graph
from apex_mcp.stores.record.index_log import LOG
from apex_mcp.stores.record.linking import Told, link_entities
from apex_mcp.stores.record.name_vectors import keep_name_vectors
from apex_mcp.stores.record.rereading import clear, take_back
from apex_mcp.stores.record.tombstones import ForgetKey, hold_off_forgetting, without_forgotten
from apex_mcp.stores.record.versions import RAISE_REVISIONS
from apex_mcp.stores.record.visibility import CURRENT, DIFFERENT

# Held alone by whoever must not be overtaken, while it is resolved and published; shared by each other commit.
RESOLVING: LiteralString = "apex-mcp resolving "
_SHARE: LiteralString = "SELECT pg_try_advisory_xact_lock_shared(hashtext(%s)) AS shared"

_LOCK: LiteralString = """
SELECT e.state, v.namespace FROM enrichments e JOIN versions v ON v.id = e.version_id
WHERE e.version_id = %s AND e.claim = %s AND e.state IN ('running', 'done') FOR UPDATE OF e
"""

# The namespace's row is locked: whether the version is current is settled.
_PUBLISH: LiteralString = f"""
UPDATE versions v SET enriched_from = n.revision, names_embedded_with = NULL FROM namespaces n
WHERE v.id = %s AND n.name = v.namespace AND {CURRENT}
RETURNING v.namespace, v.enriched_from
"""

# The namespace's row is locked here, too.
_FOLLOW: LiteralString = """
UPDATE namespaces SET enriched_at = revision WHERE name = %(namespace)s
    AND (%(seen)s::bigint IS NULL OR enriched_at = %(seen)s) RETURNING revision
"""

_END: LiteralString = """
UPDATE enrichments SET state = %(state)s, usage = usage || %(usage)s::jsonb, failure = NULL, lease_owner = NULL,
    lease_until = NULL, not_before = NULL, finished_at = clock_timestamp()
WHERE version_id = %(version)s AND claim = %(claim)s AND state = 'running'
"""

_INSERT_ENDS: LiteralString = """
INSERT INTO fact_ends (fact_id, by_fact_id, version_id, invalid_at)
SELECT r.fact_id, r.by_fact_id, %s, r.invalid_at FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[])
    AS r(fact_id, by_fact_id, invalid_at)
JOIN facts f ON f.id = r.fact_id JOIN facts b ON b.id = r.by_fact_id
WHERE f.id <> b.id AND f.namespace = b.namespace ON CONFLICT DO NOTHING
"""

# Whoever states again what ended a fact ends it, too, without a question: at the same time, or else when this one says it.
_SUPPORT_ENDS: LiteralString = f"""
WITH told AS (
    SELECT DISTINCT ON (x.fact_id, x.by_fact_id) x.fact_id, x.by_fact_id, o.id AS version_id,
           CASE WHEN x.invalid_at = s.valid_at THEN x.invalid_at ELSE coalesce(o.document_time, i.accepted_at) END AS at
    FROM versions o JOIN ingestions i ON i.id = o.ingestion_id JOIN fact_sources s ON s.version_id = o.id
    JOIN fact_ends x ON x.by_fact_id = s.fact_id AND x.version_id <> o.id JOIN versions v ON v.id = x.version_id
    WHERE o.id = %s AND v.enriched_from IS NOT NULL AND {CURRENT}
    ORDER BY x.fact_id, x.by_fact_id, x.invalid_at = s.valid_at DESC NULLS LAST)
INSERT INTO fact_ends (fact_id, by_fact_id, version_id, invalid_at)
SELECT t.fact_id, t.by_fact_id, t.version_id, t.at FROM told t JOIN facts f ON f.id = t.fact_id
ORDER BY f.id FOR KEY SHARE OF f
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The version's entity `name` and another one that is known are one thing; or not, where the reason says so."""

    name: str
    other_id: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The model's explicit word: one fact, by its id, ended another one at this time; one of them is the version's."""

    by_id: UUID
    ended_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Enriched:
    """What a model found in a version, and how.

    Attributes:
        vectors: of its entities' names, by `embedder`: whoever is resolved next finds them.
        usage: what is noted of it beside the cost of its requests.
        seen: `EnrichmentStore.published` before links and ends were looked for; None where nothing is to be compared.
    """

    extraction: Extraction
    links: tuple[Link, ...] = ()
    ends: tuple[End, ...] = ()
    embedder: str = ""
    vectors: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes])
    usage: dict[str, float] = field(default_factory=dict[str, float])
    seen: int | None = None


class Overtaken(Exception):
    """Another version of the namespace was published since this one was resolved, or is about to: nothing was written."""


class _Past(Exception):
    """The version is not current any more; rolls the transaction back."""


async def publish(
    database: Database, version_id: UUID, claim: UUID, enriched: Enriched, *, alone: bool
) -> bool:
    """Make it visible, in one transaction and in place of what was published of the version before.

    False where the claim is lost or the version is not current any more.

    The same call again changes nothing and answers the same.

    Raises:
        Overtaken: what it was resolved against is not all that is known now.
    """
    try:
        async with database.transaction(answer_seconds=LONG_SECONDS) as connection:
            keys = await hold_off_forgetting(connection)
            row = await (await connection.execute(_LOCK, (version_id, claim))).fetchone()
            if row is None or row["state"] == "done":
                return row is not None
            if not alone:
                await _require_turn(connection, row["namespace"], enriched)
            enriched = await _remembered(connection, keys, row["namespace"], enriched)
            await _write(connection, row["namespace"], version_id, enriched)
            bound = {
                "state": "done",
                "usage": json.dumps(enriched.usage),
                "version": version_id,
                "claim": claim,
            }
            await connection.execute(_END, bound)
            await connection.execute(LOG, ([version_id],))
            await note_changes(connection, [version_id])
            return True
    except _Past:
        async with database.connection() as connection:
            bound = {"state": "superseded", "usage": "{}", "version": version_id, "claim": claim}
            await connection.execute(_END, bound)
        return False


async def _remembered(
    connection: Connection, keys: Sequence[ForgetKey], namespace: str, enriched: Enriched
) -> Enriched:
    """Without what was forgotten meanwhile."""
    if not keys:
        return enriched
    extraction = await without_forgotten(connection, keys, namespace, enriched.extraction)
    names = {entity.name for entity in extraction.entities}
    lost = {entity.name for entity in enriched.extraction.entities} - names
    return replace(
        enriched, extraction=extraction, links=tuple(one for one in enriched.links if one.name not in lost)
    )


async def _require_turn(connection: Connection, namespace: str, enriched: Enriched) -> None:
    """Before anything is written that would be written in vain."""
    row = await (await connection.execute(_SHARE, (RESOLVING + namespace,))).fetchone()
    if row is None or not row["shared"]:
        raise Overtaken
    if enriched.seen is not None and enriched.seen != await published(connection, namespace):
        raise Overtaken


async def published(connection: Connection, namespace: str) -> int:
    """The revision of the namespace's last second commit; 0 if there is none."""
    found = await connection.execute("SELECT enriched_at FROM namespaces WHERE name = %s", (namespace,))
    row = await found.fetchone()
    return row["enriched_at"] if row else 0


async def _write(connection: Connection, namespace: str, version_id: UUID, enriched: Enriched) -> None:
    """Rows first, then the namespace's lock, as a text's commit does: else the two could wait for each other."""
    before = await take_back(connection, version_id)
    graph = GraphRows()
    graph.add(namespace, version_id, enriched.extraction)
    await insert_graph(connection, graph, Layer.MODEL)
    if enriched.vectors:
        await keep_name_vectors(connection, enriched.embedder, enriched.vectors)
    await _insert_ends(connection, version_id, enriched.ends)
    await connection.execute(RAISE_REVISIONS, ([namespace],))
    row = await (await connection.execute(_PUBLISH, (version_id,))).fetchone()
    if row is None:
        raise _Past
    following = {"namespace": namespace, "seen": enriched.seen}
    if (await connection.execute(_FOLLOW, following)).rowcount == 0:
        raise Overtaken
    if before is not None:
        await clear(connection, version_id, before)
    told = await _told(connection, namespace, row["enriched_from"], version_id, enriched.links)
    await link_entities(connection, [version_id], Layer.MODEL, told)


async def _insert_ends(connection: Connection, version_id: UUID, ended: Iterable[End]) -> None:
    rows: list[tuple[Any, ...]] = [(one.ended_id, one.by_id, one.at) for one in ended]
    if rows:
        await connection.execute(_INSERT_ENDS, (version_id, *map(list, zip(*rows, strict=True))))
    await connection.execute(_SUPPORT_ENDS, (version_id,))


async def _told(
    connection: Connection, namespace: str, revision: int, version_id: UUID, links: Iterable[Link]
) -> list[Told]:
    """The model's links, to all that the other one is one with; what it denied is of that one alone."""
    pairs = [(ids.entity_id(namespace, link.name), link) for link in links]
    found = await components(connection, namespace, revision, {link.other_id for _, link in pairs})
    return [
        Told(version_id, ours, other, link.reason)
        for ours, link in pairs
        for other in (found[link.other_id].members if link.reason != DIFFERENT else (link.other_id,))
        if other != ours
    ]
