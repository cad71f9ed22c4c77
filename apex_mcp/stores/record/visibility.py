"""What is visible at a revision of a namespace, as SQL fragments, and which entities are shown as one.

All fragments bind `%(namespace)s` and `%(revision)s`, and name a version `v`.
"""

from collections.abc import Iterable
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection

# A version counts where the asked revision lies between its own.
VISIBLE: LiteralString = """
v.namespace = %(namespace)s AND v.tombstoned_at IS NULL AND v.revision_from <= %(revision)s
AND (v.revision_to IS NULL OR v.revision_to > %(revision)s)
"""

# A row `s` (entity_sources, fact_sources) or `l` (entity_links) of a version counts with the commit that it came with.
LAYER_S: LiteralString = "(s.layer = 0 OR v.enriched_from <= %(revision)s)"
LAYER_L: LiteralString = "(l.layer = 0 OR v.enriched_from <= %(revision)s)"

VISIBLE_S: LiteralString = f"{VISIBLE} AND {LAYER_S}"

# A link counts unless the user said that the two are not one.
VISIBLE_L: LiteralString = f"""
{VISIBLE} AND {LAYER_L} AND NOT EXISTS (
    SELECT 1 FROM entity_splits x WHERE x.namespace = %(namespace)s AND x.a_id = l.a_id AND x.b_id = l.b_id
      AND x.revision_from <= %(revision)s AND (x.revision_to IS NULL OR x.revision_to > %(revision)s))
"""

# The two ways along a link are two queries, because each has an index of its own.
_COMPONENTS: LiteralString = f"""
WITH RECURSIVE reach (seed, id) AS (
    SELECT u.id, u.id FROM unnest(%(ids)s::uuid[]) AS u(id)
    UNION
    SELECT r.seed, o.id FROM reach r CROSS JOIN LATERAL (
        SELECT l.b_id AS id FROM entity_links l JOIN versions v ON v.id = l.version_id
        WHERE l.a_id = r.id AND {VISIBLE_L}
        UNION ALL
        SELECT l.a_id FROM entity_links l JOIN versions v ON v.id = l.version_id
        WHERE l.b_id = r.id AND {VISIBLE_L}) AS o
)
SELECT r.seed, array_agg(r.id ORDER BY e.seq, r.id) AS members
FROM reach r LEFT JOIN entities e ON e.id = r.id GROUP BY r.seed
"""


async def components(
    connection: Connection, namespace: str, revision: int, entity_ids: Iterable[UUID]
) -> dict[UUID, tuple[UUID, ...]]:
    """For each entity the ids that name the same thing, itself among them; they are shown under the first."""
    wanted = list(dict.fromkeys(entity_ids))
    if not wanted:
        return {}
    rows = await (
        await connection.execute(_COMPONENTS, {"ids": wanted, "namespace": namespace, "revision": revision})
    ).fetchall()
    return {row["seed"]: tuple(row["members"]) for row in rows}
