"""A version that a model reads again: what it found before gives way to what it finds now, within the same commit."""

from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.purging import PAIRS_WITHOUT_LINK, Named, delete_unnamed, lock_named

_READ: LiteralString = "SELECT 1 FROM versions WHERE id = %s AND enriched_from IS NOT NULL"

_TAKE_ENTITIES: LiteralString = "DELETE FROM entity_sources WHERE version_id = %s AND layer = 1"
_TAKE_FACTS: LiteralString = "DELETE FROM fact_sources WHERE version_id = %s AND layer = 1"

# Links and ends of what is named still were found when they were not known yet, and stay: nobody is asked about them twice.
_UNLINK_UNNAMED: LiteralString = """
DELETE FROM entity_links l WHERE l.version_id = %s AND l.layer = 1 AND NOT EXISTS (
    SELECT 1 FROM entity_sources s WHERE s.version_id = l.version_id AND s.entity_id IN (l.a_id, l.b_id))
RETURNING l.a_id, l.b_id
"""


async def take_back(connection: Connection, version_id: UUID) -> Named | None:
    """Before the rows of a second commit are inserted: those of an earlier one go; None where there was none."""
    if await (await connection.execute(_READ, (version_id,))).fetchone() is None:
        return None
    named = await lock_named(connection, [version_id])
    await note_changes(connection, [version_id])
    await connection.execute(_TAKE_ENTITIES, (version_id,))
    await connection.execute(_TAKE_FACTS, (version_id,))
    return named


async def clear(connection: Connection, version_id: UUID, named: Named) -> None:
    """After they are inserted, under the namespace's lock: what nothing names any more goes."""
    pairs = await (await connection.execute(_UNLINK_UNNAMED, (version_id,))).fetchall()
    columns = [row["a_id"] for row in pairs], [row["b_id"] for row in pairs]
    await connection.execute(PAIRS_WITHOUT_LINK, columns)
    await delete_unnamed(connection, named)
