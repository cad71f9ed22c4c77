"""What a run showed, in words and as data; the picture is `picture.py`'s."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.run import Outcome
from tests.chaos.timeline import Event


def printed(outcome: Outcome) -> str:
    """The report for a terminal."""
    data = as_data(outcome)
    lines = [
        "",
        f"chaos, {data['profile']} profile: seed {data['seed']}, {data['operations']} operations, "
        f"{data['seconds']:.0f} s, {data['checks']} checks",
        "",
        *(f"  {count:5}  {what}" for what, count in data["counts"].items()),
        *(f"  skipped: {what} ({why})" for what, why in data["skipped"].items()),
        *([f"  asked for and never reached: {', '.join(data['unmet'])}"] if data["unmet"] else []),
        "",
        f"  {'recovery in seconds':34}{'n':>4}{'search p50':>12}{'max':>7}{'write p50':>12}{'max':>7}",
    ]
    for what, one in data["recoveries"].items():
        lines.append(
            f"  {what:34}{one['n']:4}{_cell(one['read_p50'], 12)}{_cell(one['read_max'], 7)}"
            f"{_cell(one['write_p50'], 12)}{_cell(one['write_max'], 7)}"
        )
    again = data["searchable_after_kill_of_everything"]
    lines += [
        "",
        f"  after a kill of everything at the end: searchable again after {again[0]:.1f} s, {again[1]:.1f} s of which it "
        "took the harness to kill and to start servers"
        if again is not None
        else "",
        f"  all pending work done {data['settled_seconds']:.1f} s after the last operation",
        "",
        *(f"  VIOLATED: {words}" for words in data["violations"]),
        "  clean" if outcome.clean else f"  {len(data['violations'])} promises broken",
        "",
    ]
    return "\n".join(lines)


def as_data(outcome: Outcome) -> dict[str, Any]:
    """The report as data."""
    timeline = outcome.timeline
    return {
        "profile": outcome.plan.profile,
        "seed": outcome.plan.seed,
        "operations": len(outcome.plan.operations),
        "seconds": outcome.seconds,
        "settled_seconds": outcome.settled_seconds,
        "searchable_after_kill_of_everything": outcome.everything_again,
        "checks": outcome.model.checks,
        "violations": outcome.model.violations,
        "unmet": outcome.unmet,
        "recoveries": _recoveries(timeline.harms),
        **timeline.as_data(),
    }


def write_report(outcome: Outcome, folder: Path) -> None:
    """Write the picture and the data."""
    from tests.chaos.picture import picture

    name = f"chaos-{outcome.plan.profile}"
    (folder / f"{name}.json").write_text(json.dumps(as_data(outcome), indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.svg").write_text(picture(outcome), encoding="utf-8")


def _recoveries(harms: Sequence[Event]) -> dict[str, dict[str, Any]]:
    kinds: dict[str, list[Event]] = defaultdict(list)
    for harm in harms:
        kinds[f"{harm.what} {harm.row}" if harm.row != "all" else harm.what].append(harm)
    return {what: _times(some) for what, some in sorted(kinds.items())}


def _times(harms: Sequence[Event]) -> dict[str, Any]:
    reads = [one.read_again for one in harms if one.read_again is not None]
    writes = [one.written_again for one in harms if one.written_again is not None]
    return {
        "n": len(harms),
        "read_p50": median(reads) if reads else None,
        "read_max": max(reads, default=None),
        "write_p50": median(writes) if writes else None,
        "write_max": max(writes, default=None),
    }


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else format(value, '.1f'):>{width}}"
