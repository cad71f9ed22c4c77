"""What an answer depends on beside its question: cheap to ask, so that it can be asked each time."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.index_log import USE_COLUMNS, IndexUse

_STATE: LiteralString = f"""
SELECT coalesce(n.revision, 0) AS revision, n.created_at,
       (SELECT max(finished_at) FROM imports i WHERE i.namespace = n.name) AS imported_at,
       {USE_COLUMNS}
FROM identity LEFT JOIN namespaces n ON n.name = %s
"""

# Three looks into an index, where "is distinct from" would read every version.
_OWED: LiteralString = """
WITH current AS NOT MATERIALIZED (
    SELECT embedded_with FROM versions WHERE namespace = %(namespace)s AND tombstoned_at IS NULL
    AND revision_from IS NOT NULL AND revision_to IS NULL AND chunk_count > 0)
SELECT EXISTS (SELECT 1 FROM current WHERE embedded_with IS NULL)
    OR EXISTS (SELECT 1 FROM current WHERE embedded_with < %(embedder)s)
    OR EXISTS (SELECT 1 FROM current WHERE embedded_with > %(embedder)s) AS owed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceState:
    """While two of these are equal, a question has one answer: but for vectors that are still owed.

    A namespace that was forgotten and came back counts its revisions anew, so `created_at` is part of it. An import adds links
    and ends of facts to versions that are visible, at revisions that are the archive's: so is the end of the last one.
    """

    revision: int
    created_at: datetime | None
    imported_at: datetime | None
    index: IndexUse


async def state_of(database: Database, namespace: str) -> NamespaceState:
    """The present state of a namespace; one that is not there has revision 0.

    Raises:
        Unavailable: the database does not answer.
    """
    row = await database.fetch_one(_STATE, (namespace,))
    assert row is not None
    return NamespaceState(
        revision=row["revision"],
        created_at=row["created_at"],
        imported_at=row["imported_at"],
        index=IndexUse.of(row),
    )


async def owes_vectors(database: Database, namespace: str, embedder: str | None) -> bool:
    """Whether a current version of a namespace lacks vectors of this embedder; None needs none.

    Raises:
        Unavailable: the database does not answer.
    """
    if embedder is None:
        return False
    row = await database.fetch_one(_OWED, {"namespace": namespace, "embedder": embedder})
    return row is not None and bool(row["owed"])
