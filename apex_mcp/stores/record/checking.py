"""The record compared with itself: what must hold in every snapshot of it, and how it is mended where it does not.

Each check is one statement, so it holds while others commit. What the record has lost itself cannot be mended: the note says
what helps. Nothing here computes, or asks anybody for, what the record should have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from apex_mcp.stores.record.checks import CHECKS, Check
from apex_mcp.stores.record.database import LONG_SECONDS, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How one check came out: how many were compared, how many differ, and ids of a few that do."""

    compared: int
    differs: int
    examples: tuple[str, ...]


class RecordChecks:
    """The checks of one record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def every(self) -> Sequence[Check]:
        """All of them, in an order in which mending one leaves nothing for an earlier one."""
        return CHECKS

    async def look(self, check: Check) -> Checked:
        """Compare.

        Raises:
            Unavailable: the database does not answer.
        """
        row = await self._database.fetch_one(
            f"SELECT (SELECT count(*) FROM {check.of}) AS compared, count(*) AS differs, "
            f"(array_agg(q.id::text))[1:5] AS examples FROM ({check.differing}) AS q",
            answer_seconds=LONG_SECONDS,
        )
        assert row is not None
        return Checked(
            compared=row["compared"], differs=row["differs"], examples=tuple(row["examples"] or ())
        )

    async def mend(self, check: Check) -> None:
        """Mend what can be, all or nothing.

        Raises:
            Unavailable: the database does not answer; nothing was changed.
        """
        lock: LiteralString = check.lock or check.differing
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            ids = [row["id"] for row in await (await connection.execute(lock)).fetchall()]
            if not ids:
                return
            for statement in check.mending:
                await connection.execute(statement, {"ids": ids})
