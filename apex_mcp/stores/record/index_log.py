"""What an index needs from the record: its own position, what changed since, and the points to write."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, cast
from uuid import UUID

from apex_mcp.models import IndexPoint, Retirement, Scalar
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.session_lock import SessionLock, session_lock
from apex_mcp.stores.vectors.packing import unpack

_POINTS: LiteralString = """
SELECT c.id, c.text, c.ordinal, c.heading_path, v.title, v.namespace, v.id AS version_id, v.document_id, v.source_type,
       v.media_type,
       coalesce(v.document_time, i.accepted_at) AS document_time, v.metadata, e.vector
FROM chunks c JOIN versions v ON v.id = c.version_id JOIN ingestions i ON i.id = v.ingestion_id
LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s
    AND octet_length(e.vector) = coalesce(4 * %(dimension)s::int, octet_length(e.vector))
WHERE (c.version_id = ANY(%(versions)s::uuid[]) OR c.id = ANY(%(chunks)s::uuid[]))
  AND v.tombstoned_at IS NULL ORDER BY c.version_id, c.ordinal
"""

_STANDING: LiteralString = """
SELECT id, revision_from, revision_to FROM versions
WHERE id = ANY(%s) AND tombstoned_at IS NULL AND revision_from IS NOT NULL
"""

_ALL: LiteralString = """
SELECT id FROM versions WHERE id > %s AND tombstoned_at IS NULL AND revision_from IS NOT NULL ORDER BY id LIMIT %s
"""

# Held by whoever fills an index anew: the log is not cut meanwhile, and no index is removed.
REBUILDING: LiteralString = "apex-mcp index rebuild"
# Shared by commits, and taken alone to put another index in use.
_IN_USE: LiteralString = "apex-mcp index in use"

_DIMENSION: LiteralString = """
SELECT octet_length(vector) / 4 AS dimension FROM chunk_vectors WHERE embedder = %s LIMIT 1
"""

# A model that was changed under its old name: what has vectors of the old length is owed those of the new one.
_DROP_OTHER_LENGTHS: tuple[LiteralString, ...] = (
    "DELETE FROM chunk_vectors WHERE embedder = %(embedder)s AND octet_length(vector) <> 4 * %(dimension)s",
    "DELETE FROM entity_vectors WHERE embedder = %(embedder)s AND octet_length(vector) <> 4 * %(dimension)s",
    "UPDATE versions SET embedded_with = NULL WHERE embedded_with = %(embedder)s",
    "UPDATE versions SET names_embedded_with = NULL WHERE names_embedded_with = %(embedder)s",
)

_TRY_SHARE: LiteralString = f"SELECT pg_try_advisory_xact_lock_shared(hashtext('{_IN_USE}')) AS shared"
# Of `identity`, too.
NO_FILLING: LiteralString = (
    "filling_index = NULL, filling_embedder = NULL, filling_start = NULL, filling_since = NULL"
)
# Of `identity`; what `IndexUse.of` reads.
USE_COLUMNS: LiteralString = "index_name, embedder, index_whole, index_losses, index_made"
_USE: LiteralString = f"SELECT {USE_COLUMNS} FROM identity"

LOG: LiteralString = "INSERT INTO index_log (version_id) SELECT unnest(%s::uuid[])"

_MENDED: LiteralString = "UPDATE identity SET index_losses = index_losses + 1 WHERE index_name = %s"

_LOSS: LiteralString = """
UPDATE identity SET index_losses = index_losses + 1, index_whole = index_whole AND NOT EXISTS (SELECT FROM versions)
WHERE index_name = %s
"""

_MADE: LiteralString = """
UPDATE identity SET index_made = %(made)s, index_whole = index_whole AND NOT EXISTS (SELECT FROM versions)
WHERE index_name = %(name)s
"""

# What was asked of it before may have been answered from it as it was, so it counts as another one from then on.
_WHOLE: LiteralString = """
UPDATE identity SET index_whole = %(whole)s, index_losses = index_losses + 1
WHERE index_whole <> %(whole)s AND index_name = %(name)s AND index_made IS NOT DISTINCT FROM %(made)s
    AND (%(whole)s OR EXISTS (SELECT FROM versions))
"""

# Not beyond what a filling that was interrupted is owed at its end. A record that was restored from a dump counts its
# transactions anew: what is left of the old count is later than any.
_CUT: LiteralString = """
WITH cut AS (UPDATE identity SET log_begins = least(%(position)s::xid8, filling_start) RETURNING log_begins)
DELETE FROM index_log USING cut WHERE xid < log_begins OR xid >= pg_snapshot_xmax(pg_current_snapshot())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUse:
    """Which index is in use, whose vectors it holds, whether it holds all that it should, and how often it was lost.

    `made` tells it from another of its name, on another server or before it was lost. None where that is not known.
    """

    name: str
    embedder: str | None
    whole: bool = True
    losses: int = 0
    made: str | None = None

    def same(self, other: "IndexUse") -> bool:
        """Whether both are one index, whole or still being filled: a commit goes into either."""
        return (self.name, self.embedder, self.made) == (other.name, other.embedder, other.made)

    @classmethod
    def of(cls, row: dict[str, Any]) -> "IndexUse":
        """From the columns of `identity`."""
        return cls(
            name=row["index_name"],
            embedder=row["embedder"],
            whole=row["index_whole"],
            losses=row["index_losses"],
            made=row["index_made"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Which of some versions an index must hold, and which of those are past. The others it must not hold."""

    present: list[UUID]
    retired: list[Retirement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which record this is, and whose vectors it holds; `dimension` is None while it holds none."""

    record_id: UUID
    embedder: str | None
    dimension: int | None


class IndexLog:
    """The record's side of keeping an index in step.

    A position is the oldest transaction that was still open when it was read: every change of an older one is in the index
    by then, because an index is written before the record commits. Replaying from a position may repeat, never miss.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def identity(self) -> Identity:
        """The record's id and the embedder whose vectors it holds."""
        row = await self._database.fetch_one(
            "SELECT record_id, embedder, (SELECT octet_length(vector) / 4 FROM chunk_vectors v "
            "WHERE v.embedder = i.embedder LIMIT 1) AS dimension FROM identity i"
        )
        assert row is not None
        return Identity(record_id=row["record_id"], embedder=row["embedder"], dimension=row["dimension"])

    async def in_use(self) -> IndexUse:
        """The index in use."""
        row = await self._database.fetch_one(_USE)
        assert row is not None
        return IndexUse.of(row)

    async def dimension(self, embedder: str | None) -> int | None:
        """Of this embedder's vectors in the record; None where there are none."""
        row = await self._database.fetch_one(_DIMENSION, (embedder,))
        return row["dimension"] if row else None

    async def index_name(self) -> str:
        """Name of the index in use."""
        return (await self.in_use()).name

    async def set_index_name(self, name: str) -> None:
        """From now on the index of this name is the one in use."""
        async with self.replacing() as connection:
            await connection.execute(
                "UPDATE identity SET index_name = %s, index_made = NULL, index_position = NULL", (name,)
            )

    async def set_made(self, name: str, made: str | None) -> None:
        """From now on the index of this name is the one with this mark, and not whole until it is said; again changes nothing.

        Nothing is committed with points in another one after that, so a replay that follows misses nothing.
        """
        if (await self.in_use()).made != made:
            async with self.replacing() as connection:
                await connection.execute(_MADE, {"name": name, "made": made})

    async def set_whole(self, use: IndexUse) -> None:
        """Note whether an index holds all that it should, for every process to read; nothing if it is not the one in use."""
        async with self._database.connection() as connection:
            await connection.execute(_WHOLE, {"whole": use.whole, "name": use.name, "made": use.made})

    async def note_loss(self, name: str) -> None:
        """Note that an index is about to be made anew, empty; nothing if it is not the one in use.

        It comes before, so that nobody can find the empty one without the record saying that it lacks passages.
        """
        async with self._database.connection() as connection:
            await connection.execute(_LOSS, (name,))

    async def note_mended(self, name: str) -> None:
        """Note that an index lacked something until now: answers of before count no more; nothing if it is not in use."""
        async with self._database.connection() as connection:
            await connection.execute(_MENDED, (name,))

    @asynccontextmanager
    async def replacing(self) -> AsyncGenerator[Connection]:
        """A transaction in which to put another index in use: while it lasts, no version is committed.

        A commit that finds it under way fails at once and comes again, so nobody waits here for a connection.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (_IN_USE,))
            yield connection

    async def put_in_use(
        self, connection: Connection, use: IndexUse, *, position: str, dimension: int | None = None
    ) -> None:
        """From the end of `replacing`'s transaction on, this index is the one in use; it was flushed up to `position`.

        With `dimension`, vectors that its embedder gave in another length go: the model behind the name is another one.
        """
        row = await (await connection.execute(_DIMENSION, (use.embedder,))).fetchone()
        if dimension is not None and row is not None and row["dimension"] != dimension:
            for statement in _DROP_OTHER_LENGTHS:
                await connection.execute(statement, {"embedder": use.embedder, "dimension": dimension})
        await connection.execute(
            f"UPDATE identity SET index_name = %s, embedder = %s, index_whole = %s, index_made = %s, "
            f"index_position = %s::xid8, {NO_FILLING}",
            (use.name, use.embedder, use.whole, use.made, position),
        )

    def alone(
        self, name: LiteralString, *, wait_seconds: float = 0, poll_seconds: float = 0.1
    ) -> AbstractAsyncContextManager[SessionLock]:
        """Try to be the only process that does the named thing, to the end of the block."""
        return session_lock(
            self._database.conninfo, name, wait_seconds=wait_seconds, poll_seconds=poll_seconds
        )

    async def set_embedder(self, embedder: str) -> None:
        """From now on the record's vectors are this embedder's."""
        async with self.replacing() as connection:
            # An index with vectors of the one before is made anew.
            await connection.execute("UPDATE identity SET embedder = %s, index_made = NULL", (embedder,))

    async def drop_vectors_of_others(self, embedder: str) -> None:
        """Remove the vectors of every other embedder, of passages and of names.

        No version has them any more, should that one be set again.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("DELETE FROM chunk_vectors WHERE embedder <> %s", (embedder,))
            await connection.execute("DELETE FROM entity_vectors WHERE embedder <> %s", (embedder,))
            await connection.execute(
                "UPDATE versions SET embedded_with = NULL WHERE embedded_with <> %s", (embedder,)
            )
            await connection.execute(
                "UPDATE versions SET names_embedded_with = NULL WHERE names_embedded_with <> %s", (embedder,)
            )

    async def position(self) -> str:
        """A position up to which an index is complete, once what was written before is flushed."""
        row = await self._database.fetch_one(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS position"
        )
        assert row is not None
        return str(row["position"])

    async def changed_since(self, position: str) -> list[UUID]:
        """Versions whose state changed at or after a position."""
        rows = await self._database.fetch_all(
            "SELECT DISTINCT version_id FROM index_log WHERE xid >= %s::xid8", (position,)
        )
        return [row["version_id"] for row in rows]

    async def forget_before(self, position: str) -> None:
        """Drop log entries that the index in use needs no more, unless another is being filled, which does."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            row = await (
                await connection.execute(
                    "SELECT pg_try_advisory_xact_lock(hashtext(%s)) AS alone", (REBUILDING,)
                )
            ).fetchone()
            if row and row["alone"]:
                await connection.execute(_CUT, {"position": position})

    async def begin_at(self, position: str) -> None:
        """Drop log entries before an index that was just filled; for whoever holds `REBUILDING`."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute(_CUT, {"position": position})

    async def all_versions(self, *, after: UUID | None = None, page: int) -> AsyncIterator[list[UUID]]:
        """Every version that an index holds, in the order of their ids, from behind `after` on; in pages."""
        after = after or UUID(int=0)
        while rows := await self._database.fetch_all(_ALL, (after, page)):
            yield [row["id"] for row in rows]
            after = rows[-1]["id"]

    async def has_versions(self) -> bool:
        """Whether an index holds anything."""
        return bool(await self._database.fetch_all(_ALL, (UUID(int=0), 1)))

    async def standing(self, version_ids: Sequence[UUID]) -> Standing:
        """What an index must hold of these versions."""
        rows = await self._database.fetch_all(_STANDING, (list(version_ids),))
        return Standing(
            present=[row["id"] for row in rows],
            retired=[
                Retirement(
                    version_id=row["id"], revision_from=row["revision_from"], revision_to=row["revision_to"]
                )
                for row in rows
                if row["revision_to"] is not None
            ],
        )

    async def points(
        self, version_ids: Sequence[UUID], embedder: str | None, dimension: int | None = None
    ) -> list[IndexPoint]:
        """The points of versions, with the vectors of `embedder` where they are there, of this length if one is given."""
        return await self._points({
            "versions": list(version_ids),
            "chunks": None,
            "embedder": embedder,
            "dimension": dimension,
        })

    async def points_of(self, chunk_ids: Sequence[UUID], embedder: str | None) -> list[IndexPoint]:
        """The points of single passages."""
        return await self._points({
            "versions": None,
            "chunks": list(chunk_ids),
            "embedder": embedder,
            "dimension": None,
        })

    async def _points(self, which: dict[str, Any]) -> list[IndexPoint]:
        rows = await self._database.fetch_all(_POINTS, which)
        return [
            IndexPoint(
                id=row["id"],
                namespace=row["namespace"],
                version_id=row["version_id"],
                document_id=row["document_id"],
                text=searchable(row["text"], row["ordinal"], row["title"], row["heading_path"]),
                source_type=row["source_type"],
                media_type=row["media_type"],
                document_time=row["document_time"],
                metadata=flat_metadata(row["metadata"]),
                dense=unpack(row["vector"]) if row["vector"] is not None else None,
            )
            for row in rows
        ]


async def is_in_use(connection: Connection, use: IndexUse) -> bool:
    """Whether this index is in use and stays so to the end of the transaction. To be asked before anything is written."""
    async with connection.pipeline():
        shared = await connection.execute(_TRY_SHARE)
        # A statement of its own, which sees what the one before it may have waited for.
        now = await connection.execute(_USE)
        locked, row = await shared.fetchone(), await now.fetchone()
    return bool(locked and locked["shared"] and row and IndexUse.of(row).same(use))


def flat_metadata(metadata: dict[str, Any], prefix: str = "") -> dict[str, Scalar | list[Scalar]]:
    """The fields that a search may filter by: values, lists of values, and those of objects as `outer.inner`."""
    flat: dict[str, Scalar | list[Scalar]] = {}
    for name, value in metadata.items():
        if isinstance(value, str | int | float | bool):
            flat[prefix + name] = value
        elif isinstance(value, list):
            scalars = [one for one in cast("list[Any]", value) if isinstance(one, str | int | float | bool)]
            if scalars:
                flat[prefix + name] = scalars
        elif isinstance(value, dict):
            flat |= flat_metadata(cast("dict[str, Any]", value), f"{prefix}{name}.")
    return flat


def searchable(text: str, ordinal: int, title: str, heading_path: Sequence[str]) -> str:
    """A passage with the words by which it is searched beside its own: its headings', and the title's for the first one.

    With the title in every passage, a question in its words would find all of a book alike.
    """
    headings = [heading for heading in heading_path if heading != title]
    beside = [words for words in ([title] if ordinal == 0 else []) + headings if words and words not in text]
    return "\n".join([*beside, text])
