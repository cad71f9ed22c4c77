"""Does to the system what the plan says, at the operation that it says."""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from tests.chaos.plan import AT_A_POINT, Act, Harm, Plan
from tests.chaos.system import System
from tests.chaos.timeline import Event, Timeline

_LOOK_SECONDS = 0.05


class Harming:
    """Harms the system.

    Args:
        plan: when, what and whom.
        system: the one.
        timeline: where it is noted.
        say: told of each.
    """

    def __init__(self, plan: Plan, system: System, timeline: Timeline, say: Callable[[str], None]) -> None:
        self._waiting = deque(plan.harms)
        self._due: deque[Harm] = deque()
        self._system = system
        self._timeline = timeline
        self._say = say
        self._busy = False
        self._asked: dict[str, Event] = {}

    async def reached(self, operation: int) -> None:
        """An operation is about to begin. It waits for nothing but for its turn."""
        while self._waiting and self._waiting[0].at <= operation:
            self._due.append(self._waiting.popleft())
        # Else a run of quick clients would be over before the second harm.
        await self.finished()

    async def finished(self) -> None:
        """Return when all that is due was done."""
        while self._due or self._busy:  # noqa: ASYNC110  (two flags of a test)
            await anyio.sleep(_LOOK_SECONDS)

    async def run(self) -> None:
        """Harm whoever is due, until cancelled."""
        while True:
            if self._due:
                self._busy = True
                try:
                    await self._harm(self._due.popleft())
                finally:
                    self._busy = False
            self._note_met()
            await anyio.sleep(_LOOK_SECONDS)

    async def _harm(self, harm: Harm) -> None:
        if harm.act in self._system.skipped:
            self._timeline.skipped[harm.act.value] = self._system.skipped[harm.act]
            return
        began = self._timeline.now()
        self._say(f"{began:7.1f} s  {harm.act.value} {harm.target}")
        event = Event(row=harm.target or "all", what=harm.act.value, began=began, ended=began)
        if harm.act in AT_A_POINT:
            action = "fail" if harm.act is Act.FAIL else "kill"
            self._system.ask_for_fault(harm.target, action)
            self._asked[f"{harm.target}.{action}"] = event
            return
        event.note = str(await self._ways()[harm.act](harm) or "")
        if event.note == "0":
            # Nobody was there, as after a kill just before.
            self._timeline.count(f"nobody to {harm.act.value}: {harm.target}")
            return
        event.ended = self._timeline.now()
        self._timeline.harms.append(event)
        self._timeline.count(f"harm {harm.act.value} {harm.target}".rstrip())

    def _ways(self) -> dict[Act, Callable[[Harm], Awaitable[object]]]:
        system = self._system
        return {
            Act.KILL: lambda harm: system.kill(harm.target),
            Act.PAUSE: lambda harm: system.pause(harm.target, harm.seconds),
            Act.CUT: lambda harm: system.cut(harm.target),
            Act.FILL_DISK: lambda harm: system.fill_disk(harm.seconds),
            Act.LOSE_TEMPORAL: lambda _: system.lose_temporal(),
            Act.WIPE_INDEX: lambda _: system.wipe_index(),
            Act.KILL_EVERYTHING: lambda _: system.kill_everything(),
        }

    def _note_met(self) -> None:
        for name in self._system.met_faults() & self._asked.keys():
            event = self._asked.pop(name)
            event.began = event.ended = self._timeline.now()
            event.row, event.note = "points", event.row
            self._timeline.harms.append(event)
            self._timeline.count(f"harm {event.what} {event.note}")
