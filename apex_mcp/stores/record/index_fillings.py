"""What the record knows of an index that is being filled with all its versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.index_log import NO_FILLING, IndexUse

# One whose log was cut, or counts the transactions of another cluster, cannot be gone on with.
_BEGUN: LiteralString = """
SELECT filling_index AS name, filling_embedder AS embedder, filling_start::text AS start, filling_since AS since FROM identity
WHERE filling_start <= pg_snapshot_xmin(pg_current_snapshot()) AND filling_start >= coalesce(log_begins, filling_start)
"""

_BEGIN: LiteralString = """
UPDATE identity SET filling_index = %s, filling_embedder = %s, filling_start = pg_snapshot_xmin(pg_current_snapshot()),
    filling_since = clock_timestamp()
RETURNING filling_index AS name, filling_embedder AS embedder, filling_start::text AS start, filling_since AS since
"""

_CLEAR: LiteralString = f"UPDATE identity SET {NO_FILLING}"
_END: LiteralString = f"{_CLEAR} WHERE filling_index = %s"
_GIVE_UP_BESIDE: LiteralString = f"""
WITH given_up AS (
    SELECT filling_index AS name FROM identity WHERE filling_index <> index_name AND filling_since < coalesce(
        (SELECT max(forgotten_at) FROM forgettings WHERE id = ANY(%s)), 'infinity')
    FOR UPDATE)
{_CLEAR} FROM given_up RETURNING given_up.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """An index that was begun to be filled; `start` is the position from which on changes are to be replayed to it."""

    name: str
    embedder: str | None
    start: str
    since: datetime


class IndexFillings:
    """The one filling that may be under way, or was interrupted. Begun by whoever holds `REBUILDING`.

    One that is under way goes on when it is ended here: it only cannot be gone on with.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begun(self) -> Filling | None:
        """The one that was begun and not ended, if it can be gone on with."""
        row = await self._database.fetch_one(_BEGUN)
        return Filling(**row) if row else None

    async def begin(self, use: IndexUse) -> Filling:
        """From now on this index is being filled, from its beginning."""
        row = await self._database.fetch_one(_BEGIN, (use.name, use.embedder))
        assert row is not None
        return Filling(**row)

    async def end(self, name: str) -> None:
        """The filling of this index is done; nothing if another one was begun."""
        async with self._database.connection() as connection:
            await connection.execute(_END, (name,))

    async def give_up_beside(self, forgettings: Sequence[UUID] = ()) -> str | None:
        """Nobody goes on with a filling of another index than the one in use, once it is interrupted; its name, if there is one.

        It may hold, for as long as it is left, what was forgotten since.

        Args:
            forgettings: where given, only one that was begun before these.
        """
        async with self._database.connection() as connection:
            row = await (await connection.execute(_GIVE_UP_BESIDE, (list(forgettings),))).fetchone()
        return row["name"] if row else None
