"""One run from its beginning to its report."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio

from tests.chaos.calling import Caller
from tests.chaos.checker import PULSE, PULSE_WORD, Checker, is_whole, pulse_reads, pulse_writes
from tests.chaos.harming import Harming
from tests.chaos.model import Model
from tests.chaos.plan import Plan
from tests.chaos.stores import check_stores
from tests.chaos.stream import Stream, background
from tests.chaos.system import System
from tests.chaos.timeline import Timeline

_CLIENTS = 4
_CHECKERS = 2
_START_SECONDS = 60.0
_LAST_LOOKS = 20
_TELL_SECONDS = 10.0


@dataclass(slots=True)
class Outcome:
    """What a run showed; clean without violations."""

    plan: Plan
    timeline: Timeline
    model: Model
    seconds: float = 0.0
    settled_seconds: float = 0.0
    everything_again: tuple[float, float] | None = None
    unmet: list[str] = field(default_factory=list[str])

    @property
    def clean(self) -> bool:
        return not self.model.violations


async def run_chaos(
    plan: Plan, system: System, *, settle_seconds: float, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Do what the plan says, with the checker looking on; then wait until all is over, and look into every store.

    Args:
        plan: what happens.
        system: to whom.
        settle_seconds: how long what was acknowledged may take once nothing is harmed any more.
        say: told of what goes on.
    """
    timeline = Timeline()
    model = Model(now=timeline.now, say=say)
    outcome = Outcome(plan, timeline, model)
    open_caller = partial(Caller, system.session, timeline)
    harming = Harming(plan, system, timeline, say)
    stream = Stream(
        plan, model, timeline, files=system.files, open_caller=open_caller, on_operation=harming.reached
    )
    checker = Checker(model, open_caller, plan.seed)
    await _until_there(open_caller, stream)
    timeline.zero = time.monotonic()
    watching = [partial(pulse_reads, open_caller(), timeline), partial(pulse_writes, open_caller(), timeline)]

    async def tell() -> None:
        while True:
            await anyio.sleep(_TELL_SECONDS)
            unfinished, met = (
                len(model.unfinished()),
                {
                    what: count
                    for what, count in timeline.counts.items()
                    if what.startswith(("broken", "refused"))
                },
            )
            say(f"{timeline.now():7.1f} s  {model.checks} checks, {unfinished} under way, {met}")

    async with background(tell, stream.follow, *[checker.watch] * _CHECKERS, *watching):
        async with background(harming.run):
            await stream.run(_CLIENTS)
            await harming.finished()
        await system.at_rest()
        outcome.unmet = sorted(system.forget_faults())
        timeline.find_recoveries()
        harmless = timeline.now()
        say(f"all operations done after {harmless:.0f} s; waiting for what is under way")
        await _settled(model, timeline, settle_seconds)
        outcome.settled_seconds = timeline.now() - harmless
    say(f"{timeline.now():7.1f} s  looking at every document")
    await _look_at_all(checker, model)
    say(f"{timeline.now():7.1f} s  looking into every store")
    model.violations += await check_stores(system, model, seconds=settle_seconds)
    # Last: what an index has not flushed goes with it, and with that what a run may have left there.
    say(f"{timeline.now():7.1f} s  killing everything once more")
    outcome.everything_again = await _searchable_again(system, open_caller, model)
    await system.at_rest()
    timeline.find_recoveries()
    outcome.seconds = timeline.now()
    return outcome


async def _until_there(open_caller: Callable[[], Caller], stream: Stream) -> None:
    """The first client waits until all has started, and the pulse has something to find."""
    async with open_caller() as caller:
        with anyio.fail_after(_START_SECONDS):
            await caller.until_answered(
                "add_memory",
                text=f"The lighthouse {PULSE_WORD} blinks.",
                key="pulse",
                namespace=PULSE,
                wait_seconds=20,
            )
            stream.can_forget = await caller.has_tool("forget")


async def _searchable_again(
    system: System, open_caller: Callable[[], Caller], model: Model
) -> tuple[float, float] | None:
    """How long after a kill of everything a search finds all again, and how much of that the harness took.

    It waits until all are dead, and starts the servers again that are not ours to start.
    """
    began = time.monotonic()
    await system.kill_everything()
    harness_seconds = time.monotonic() - began
    async with open_caller() as caller:
        while time.monotonic() - began < _START_SECONDS:
            answer = await caller.call("search", query=PULSE_WORD, namespace=PULSE)
            if is_whole(answer):
                return answer.ended - began, harness_seconds
            await anyio.sleep(0.05)
    model.violated(f"nothing was found {_START_SECONDS:g} s after a kill of everything")
    return None


async def _settled(model: Model, timeline: Timeline, seconds: float) -> None:
    deadline = timeline.now() + seconds
    while unfinished := model.unfinished():
        if timeline.now() > deadline:
            model.violated(f"{len(unfinished)} acknowledged ingestions never ended")
            return
        await anyio.sleep(0.1)


async def _look_at_all(checker: Checker, model: Model) -> None:
    """Every document once; what an index lacks after it was lost may still come."""
    unanswered = [""]
    for _ in range(_LAST_LOOKS):
        unanswered = await checker.check_all()
        if not unanswered:
            return
        await anyio.sleep(1)
    model.violations += unanswered
