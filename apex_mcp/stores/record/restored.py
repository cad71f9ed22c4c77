"""A record that was restored: what it said of indexes, of runs and of a cluster that are no more is set right."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID, uuid4

from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.forgetting import ForgetStore, Selection
from apex_mcp.stores.record.index_log import NO_FILLING
from apex_mcp.stores.record.tombstones import ForgetKey, Kind, Tombstone, TombstoneStore, digest

_PAGE = 500

# Positions count another cluster's transactions, so the index begins anew under a name that nobody has used.
_INDEXES: LiteralString = f"""
UPDATE identity SET index_name = %s, index_made = NULL, index_whole = false, log_begins = NULL,
    index_position = NULL, graph = NULL, {NO_FILLING}
"""

_DOCUMENTS: LiteralString = """
SELECT id, namespace, key AS name FROM documents WHERE id > %s ORDER BY id LIMIT %s
"""
_ENTITIES: LiteralString = """
SELECT id, namespace, normalised AS name FROM entities WHERE id > %s ORDER BY id LIMIT %s
"""

_ARCHIVES: LiteralString = """
INSERT INTO archives (id, kind, name, namespace, made_at, documents)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[]) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memories:
    """What a folder that is replaced knows of forgetting."""

    keys: list[ForgetKey]
    tombstones: list[Tombstone]
    archives: list[dict[str, Any]]


async def read_memories(database: Database) -> Memories | None:
    """Read it; None where the record is of a version that could not forget."""
    row = await database.fetch_one("SELECT to_regclass('tombstones') IS NOT NULL AS there")
    if row is None or not row["there"]:
        return None
    keys, tombstones = await TombstoneStore(database).keys_and_tombstones()
    archives = await database.fetch_all("SELECT id, kind, name, namespace, made_at, documents FROM archives")
    return Memories(keys=keys, tombstones=tombstones, archives=archives)


async def settle_restored(database: Database) -> None:
    """Begin with a new index, and let everything that was under way go on: nobody works on it any more."""
    async with database.transaction() as connection:
        await connection.execute(_INDEXES, (f"index-{uuid4().hex[:12]}",))
        await connection.execute("DELETE FROM index_log")
        await connection.execute("DELETE FROM graph_changes")
        await connection.execute(
            "UPDATE ingestions SET state = 'pending', step = 'accepted', claim = NULL, "
            "attempts = greatest(attempts - 1, 0) WHERE state = 'running'"
        )
        await connection.execute("UPDATE outbox SET lease_owner = NULL, lease_until = NULL")
        await connection.execute(
            "UPDATE enrichments SET state = 'pending', claim = NULL, lease_owner = NULL, lease_until = NULL "
            "WHERE state = 'running'"
        )


async def forget_again(database: Database, memories: Memories) -> int:
    """Forget what the replaced folder had forgotten since: how many documents and entities that were.

    Only what was forgotten there by its user's word: what archives brought it is kept in mind, no more.
    """
    forgetting, brought = ForgetStore(database), TombstoneStore(database)
    keys, known = await brought.keys_and_tombstones()
    before = {(one.key_id, one.digest) for one in known}
    # A record's own key stands among those of another that it was once restored over.
    own = {key.id: key for key in [*memories.keys, *keys] if key.own}
    since = {
        one.digest
        for one in memories.tombstones
        if one.key_id in own and (one.key_id, one.digest) not in before
    }
    await brought.adopt(memories.keys, memories.tombstones)
    await _note_archives(database, memories.archives)
    count = 0
    for secret in [key.secret for key in own.values()] if since else []:
        kinds: tuple[tuple[Kind, LiteralString], ...] = (
            (Kind.ENTITY, _ENTITIES),
            (Kind.DOCUMENT, _DOCUMENTS),
        )
        for kind, query in kinds:
            async for row in _rows(database, query):
                if digest(secret, kind, row["namespace"], row["name"]) not in since:
                    continue
                if kind is Kind.DOCUMENT:
                    selection = Selection(namespace=row["namespace"], document_ids=(row["id"],))
                    done = await forgetting.forget(selection)
                else:
                    done = await forgetting.forget_entity(row["namespace"], row["id"])
                count += done is not None
    return count


async def _rows(database: Database, query: LiteralString) -> AsyncGenerator[dict[str, Any]]:
    after = UUID(int=0)
    while rows := await database.fetch_all(query, (after, _PAGE)):
        for row in rows:
            yield row
        after = rows[-1]["id"]


async def _note_archives(database: Database, archives: Collection[dict[str, Any]]) -> None:
    names = ("id", "kind", "name", "namespace", "made_at", "documents")
    async with database.connection() as connection:
        await connection.execute(_ARCHIVES, tuple([row[name] for row in archives] for name in names))
