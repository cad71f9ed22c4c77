"""What happened when: everything that the report and its picture show."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Event:
    """Something on the clock of the run; `row` is who it happened to."""

    row: str
    what: str
    began: float
    ended: float
    note: str = ""
    read_again: float | None = None
    written_again: float | None = None


@dataclass(slots=True)
class Timeline:
    """Collects; times are seconds since the run began.

    Attributes:
        harms: what was done to whom, and how long it took until reads and writes went on.
        skipped: what could not be done here, with the reason.
        ready: when versions became searchable, and how long after they were acknowledged.
        reads, writes: when each good one of the pulse began and ended.
    """

    zero: float = field(default_factory=time.monotonic)
    harms: list[Event] = field(default_factory=list[Event])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    ready: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    reads: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    writes: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def now(self) -> float:
        return time.monotonic() - self.zero

    def since_zero(self, moment: float) -> float:
        """A moment of the monotonic clock, on the run's."""
        return moment - self.zero

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def find_recoveries(self) -> None:
        """For each harm, how long it took from its beginning until something went well that had not begun before."""
        for harm in self.harms:
            harm.read_again = _first_after(self.reads, harm)
            harm.written_again = _first_after(self.writes, harm)

    def as_data(self) -> dict[str, Any]:
        return {
            "harms": [asdict(harm) for harm in self.harms],
            "skipped": self.skipped,
            "counts": dict(sorted(self.counts.items())),
        }


def _first_after(spans: list[tuple[float, float]], harm: Event) -> float | None:
    # What was answered before the last process was dead is no recovery.
    good = (ended - harm.began for began, ended in spans if began >= harm.began and ended >= harm.ended)
    return min(good, default=None)
