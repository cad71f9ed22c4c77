"""Where an archive goes, and how the revisions there follow the archive's.

A namespace that held nothing gets the archive's revisions with their times, for as long as nobody else commits to it: then
whatever was known at a time before is known again. In any other, each revision of the archive becomes a new one, now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.record.database import Connection

# The lock of whoever imports an archive. Its points are in the index before the record knows of their versions.
IMPORTING: LiteralString = "apex-mcp import"

_LOCK: LiteralString = """
SELECT n.revision, i.revision AS ours FROM namespaces n JOIN imports i ON i.namespace = n.name AND i.archive = %s
WHERE n.name = %s FOR NO KEY UPDATE OF n
"""

_REVISIONS: LiteralString = """
INSERT INTO revisions (namespace, revision, committed_at)
SELECT %s, r, coalesce(t, clock_timestamp()) FROM unnest(%s::bigint[], %s::timestamptz[]) AS u(r, t) ON CONFLICT DO NOTHING
"""

_RAISE: LiteralString = """
WITH raised AS (UPDATE namespaces SET revision = %(revision)s WHERE name = %(namespace)s)
UPDATE imports SET revision = CASE WHEN %(ours)s THEN %(revision)s END
WHERE archive = %(archive)s AND namespace = %(namespace)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Which archive goes where.

    Attributes:
        archive: its digest.
        source: the namespace in it.
        namespace: the one that it goes into.
    """

    archive: str
    source: str
    namespace: str


async def lock(connection: Connection, course: Course) -> tuple[int, bool]:
    """Lock the namespace; its revision, and whether it holds this archive and nothing else.

    Raises:
        Unavailable: it was removed.
    """
    row = await (await connection.execute(_LOCK, (course.archive, course.namespace))).fetchone()
    if row is None:
        raise removed_meanwhile()
    return row["revision"], row["ours"] == row["revision"]


async def raise_revision(
    connection: Connection,
    course: Course,
    revision: int,
    *,
    ours: bool,
    times: Sequence[tuple[int, datetime | None]],
) -> None:
    """Bring the locked namespace to this revision; with `ours` it is the archive's, and holds nothing else.

    Args:
        connection: in a transaction.
        course: which archive goes where.
        revision: the one that is reached.
        ours: as `lock` says.
        times: of the revisions up to that one which are not noted yet; None for now.
    """
    numbers, moments = [number for number, _ in times], [time for _, time in times]
    await connection.execute(_REVISIONS, (course.namespace, numbers, moments))
    bound = {"archive": course.archive, "namespace": course.namespace, "revision": revision, "ours": ours}
    await connection.execute(_RAISE, bound)


def removed_meanwhile() -> Unavailable:
    """The error where the namespace, or a document, was forgotten while an archive came into it."""
    return Unavailable(
        "what the archive goes into was removed meanwhile",
        code=Code.RECORD_UNAVAILABLE,
        unchanged="nothing more was stored",
        next_step="run the import again",
        retry_after_seconds=1,
    )
