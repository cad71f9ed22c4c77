"""The end of an import: what ties versions to each other, once all of them are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp.models import Layer
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes, note_entities
from apex_mcp.stores.record.import_course import Course, lock, raise_revision
from apex_mcp.stores.record.linking import Told, link_entities

_IMPORTED: LiteralString = "SELECT id FROM versions WHERE id = ANY(%s) AND imported AND tombstoned_at IS NULL"

_ENDS: LiteralString = """
INSERT INTO fact_ends (fact_id, by_fact_id, version_id, invalid_at)
SELECT r.fact_id, r.by_fact_id, v.id, r.invalid_at
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[]) AS r(version_id, fact_id, by_fact_id, invalid_at)
JOIN versions v ON v.id = r.version_id AND v.imported AND v.tombstoned_at IS NULL
JOIN facts f ON f.id = r.fact_id AND f.namespace = v.namespace
JOIN facts b ON b.id = r.by_fact_id AND b.namespace = v.namespace
WHERE f.id <> b.id ON CONFLICT DO NOTHING
"""

_SPLITS: LiteralString = """
INSERT INTO entity_splits (namespace, a_id, b_id, revision_from, revision_to, created_at)
SELECT a.namespace, a.id, b.id, r.revision_from, r.revision_to, r.created_at
FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[], %s::bigint[], %s::timestamptz[])
    AS r(a_id, b_id, revision_from, revision_to, created_at)
JOIN entities a ON a.id = r.a_id JOIN entities b ON b.id = r.b_id AND b.namespace = a.namespace
WHERE a.id <> b.id AND NOT EXISTS (
    SELECT 1 FROM entity_splits x WHERE x.revision_to IS NULL AND r.revision_to IS NULL
      AND ((x.a_id = a.id AND x.b_id = b.id) OR (x.a_id = b.id AND x.b_id = a.id)))
ON CONFLICT DO NOTHING RETURNING a_id, b_id
"""

# What would have been seen later in the archive's own count.
_SEEN: LiteralString = """
UPDATE versions SET enriched_from = %(revision)s
WHERE namespace = %(namespace)s AND imported AND enriched_from > %(revision)s
"""

_ANY_UNSEEN: LiteralString = """
SELECT 1 FROM versions WHERE namespace = %s AND imported AND enriched_from > %s LIMIT 1
"""

_KNOWN_FROM: LiteralString = "UPDATE namespaces SET known_from = %s WHERE name = %s AND known_from IS NULL"

_FINISHED: LiteralString = """
UPDATE imports SET finished_at = clock_timestamp() WHERE archive = %s AND namespace = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedEnd:
    """A version's word that one fact ended another one."""

    version_id: UUID
    fact_id: UUID
    by_fact_id: UUID
    invalid_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedSplit:
    """Two entities that the user keeps apart, in the archive's count of revisions."""

    a_id: UUID
    b_id: UUID
    revision_from: int
    revision_to: int | None
    created_at: datetime


class ImportEnding:
    """What comes last. All can be repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def finished(self, course: Course) -> bool:
        """Whether this archive has been imported to its end before."""
        row = await self._database.fetch_one(
            "SELECT finished_at FROM imports WHERE archive = %s AND namespace = %s",
            (course.archive, course.namespace),
        )
        return row is not None and row["finished_at"] is not None

    async def add_links(self, course: Course, layer: Layer, links: Sequence[Told]) -> None:
        """Links that versions of the archive support; those of versions that are not stored are left out."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await lock(connection, course)
            there = await _imported(connection, [link.version_id for link in links])
            told = [link for link in links if link.version_id in there]
            if told:
                await link_entities(connection, [], layer, told)
                await note_changes(connection, list(there))

    async def add_ends(self, ends: Sequence[ArchivedEnd]) -> None:
        """Ends of facts, as far as both facts and the version are stored."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            rows = [(one.version_id, one.fact_id, one.by_fact_id, one.invalid_at) for one in ends]
            await connection.execute(_ENDS, tuple(map(list, zip(*rows, strict=True))))
            await note_changes(connection, list({one.version_id for one in ends}))

    async def add_splits(self, course: Course, splits: Sequence[ArchivedSplit]) -> None:
        """What the user keeps apart: as it was in a namespace that held nothing else, else what counts, from now on."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            revision, ours = await lock(connection, course)
            kept = splits if ours else [one for one in splits if one.revision_to is None]
            rows = [
                (
                    one.a_id,
                    one.b_id,
                    one.revision_from if ours else revision + 1,
                    one.revision_to,
                    one.created_at,
                )
                for one in kept
            ]
            if not rows:
                return
            found = await connection.execute(_SPLITS, tuple(map(list, zip(*rows, strict=True))))
            apart = await found.fetchall()
            if apart and not ours:
                await raise_revision(
                    connection, course, revision + 1, ours=False, times=[(revision + 1, None)]
                )
            ids = {row[side] for row in apart for side in ("a_id", "b_id")}
            await note_entities(connection, course.namespace, list(ids))

    async def finish(
        self,
        course: Course,
        *,
        revision: int,
        times: Sequence[tuple[int, datetime]],
        known_from: datetime | None,
    ) -> bool:
        """Note that everything is stored; whether the namespace has the archive's revisions with their times.

        Args:
            course: which archive went where.
            revision: the archive's last one.
            times: of its revisions behind those that versions began at.
            known_from: since when the archive knows everything.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            now, ours = await lock(connection, course)
            if ours:
                await connection.execute(_KNOWN_FROM, (known_from, course.namespace))
                await raise_revision(connection, course, max(now, revision), ours=True, times=times)
            elif await (await connection.execute(_ANY_UNSEEN, (course.namespace, now))).fetchone():
                await connection.execute(_SEEN, {"namespace": course.namespace, "revision": now + 1})
                await raise_revision(connection, course, now + 1, ours=False, times=[(now + 1, None)])
            await connection.execute(_FINISHED, (course.archive, course.namespace))
        return ours


async def _imported(connection: Connection, version_ids: Sequence[UUID]) -> set[UUID]:
    rows = await (await connection.execute(_IMPORTED, (list(set(version_ids)),))).fetchall()
    return {row["id"] for row in rows}
