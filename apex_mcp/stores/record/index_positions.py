"""By what an index's position is judged: how far back the record's log goes, and how far the record was going to flush it.

The latter is noted *before* an index is flushed. So an index of this record never goes further, whoever dies between the two:
one that does was written to by a later record, of which an older state was put back since.
"""

from dataclasses import dataclass
from typing import LiteralString

from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.index_log import IndexUse

# A record from before there was such a note knows of no bound but the present. So does one that was restored into a cluster that
# counts its transactions anew: its note is later than any of them.
_REACH: LiteralString = """
SELECT coalesce(log_begins, '0')::text AS begins, least(index_position, pg_snapshot_xmin(pg_current_snapshot()))::text AS until
FROM identity
"""

_NOTE: LiteralString = """
UPDATE identity SET index_position = greatest(%(position)s::xid8,
    CASE WHEN index_position <= pg_snapshot_xmax(pg_current_snapshot()) THEN index_position END)
WHERE index_name = %(name)s AND embedder IS NOT DISTINCT FROM %(embedder)s AND index_made IS NOT DISTINCT FROM %(made)s
    AND coalesce(%(reached)s::xid8 <= index_position, true)
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """The positions from which on the record's log tells all that an index lacks."""

    begins: int
    until: int

    def holds(self, position: str | None) -> bool:
        """Whether an index of this position can be brought up to date by the log."""
        return position is not None and self.begins <= int(position) <= self.until

    def goes_beyond(self, position: str | None) -> bool:
        """Whether the index in use may have been flushed further than this: then it is an older state of it."""
        return position is None or int(position) < self.until


class IndexPositions:
    """What the record knows of the position of the index in use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reach(self) -> Reach:
        """As it is now. Raises Unavailable."""
        row = await self._database.fetch_one(_REACH)
        assert row is not None
        return Reach(int(row["begins"]), int(row["until"]))

    async def note(self, use: IndexUse, position: str, *, reached: str | None) -> bool:
        """Note how far an index is about to be flushed; False where it must not be.

        Args:
            use: the index: nothing is noted of another one than the one in use.
            position: how far it will go.
            reached: how far it goes; if that is further than was ever noted, it is of a later record.

        Raises:
            Unavailable: the record does not answer.
        """
        bound = {
            "position": position,
            "reached": reached,
            "name": use.name,
            "embedder": use.embedder,
            "made": use.made,
        }
        async with self._database.connection() as connection:
            return (await connection.execute(_NOTE, bound)).rowcount > 0
