"""The timeline of a run as a drawing: who was harmed when, how soon reads and writes went on, what came through meanwhile."""

from collections import Counter
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tests.chaos.plan import Act
from tests.chaos.run import Outcome
from tests.chaos.timeline import Event, Timeline

_WIDTH, _LEFT, _RIGHT, _TOP = 1100, 150, 20, 84
_ROW, _PLOT, _GAP = 24, 90, 34
_INK, _FAINT, _GRID = "#24292f", "#57606a", "#d8dee4"
_COLOURS = {
    Act.KILL: "#cf222e", Act.DIE: "#cf222e", Act.KILL_EVERYTHING: "#cf222e", Act.PAUSE: "#d4a72c", Act.CUT: "#8250df",
    Act.FAIL: "#bc4c00", Act.FILL_DISK: "#d4a72c", Act.LOSE_TEMPORAL: "#8250df", Act.WIPE_INDEX: "#8250df",
}  # fmt: skip
_RECOVERY = "#8c959f"
_GOOD = "#1a7f37"
_LATENCY = "#0969da"
_NAMES = {"points": "at a point", "all": "the whole"}
_LEGEND = (
    (_COLOURS[Act.KILL], "killed"), (_COLOURS[Act.PAUSE], "paused, disk full"), (_COLOURS[Act.FAIL], "made to fail"),
    (_COLOURS[Act.CUT], "cut, database or index lost"), (_RECOVERY, "until a search finds again"),
)  # fmt: skip


def picture(outcome: Outcome) -> str:
    """An SVG."""
    harms = outcome.timeline.harms
    rows = sorted({one.row for one in harms}, key=lambda row: (row in _NAMES, row))
    height = _TOP + _ROW * len(rows) + 3 * (_PLOT + _GAP) + 30
    seconds = _until(outcome.timeline)
    drawn = [*_head(outcome, height), *_legend()]
    drawn += _grid(seconds, height)
    for number, row in enumerate(rows):
        drawn += _row(row, [one for one in harms if one.row == row], _TOP + number * _ROW, seconds)
    y = _TOP + _ROW * len(rows) + _GAP
    drawn += _throughput(outcome, y, seconds)
    drawn += _dots("s until searchable", outcome.timeline.ready, y + _PLOT + _GAP, seconds, _GOOD)
    searches = [(began, (ended - began) * 1000) for began, ended in outcome.timeline.reads]
    drawn += _dots("ms for a search", searches, y + 2 * (_PLOT + _GAP), seconds, _LATENCY)
    return "\n".join([*drawn, "</svg>", ""])


def _until(timeline: Timeline) -> float:
    """When the last thing happened that is drawn: the long look at the end shows nothing."""
    moments = [one.ended for one in timeline.harms] + [moment for moment, _ in timeline.ready]
    return max([1.0, *moments, *(ended for _, ended in timeline.reads)])


def _head(outcome: Outcome, height: int) -> Iterator[str]:
    plan = outcome.plan
    killed = sum(one.what in (Act.KILL, Act.DIE, Act.KILL_EVERYTHING) for one in outcome.timeline.harms)
    verdict = "clean" if outcome.clean else f"{len(outcome.model.violations)} promises broken"
    title = f"Chaos, {plan.profile} profile: {len(plan.operations)} operations, {killed} kills, seed {plan.seed}: {verdict}"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    yield f'<svg {size} xmlns="http://www.w3.org/2000/svg" role="img">'
    yield f"<title>{escape(title)}</title>"
    yield '<style>text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }</style>'
    yield f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="16" y="28" style="font-size: 16px; font-weight: 600" fill="{_INK}">{escape(title)}</text>'


def _legend() -> Iterator[str]:
    x = 16
    for colour, words in _LEGEND:
        yield f'<rect x="{x}" y="45" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 55, words, colour=_FAINT)
        x += 40 + 7 * len(words)


def _grid(seconds: float, height: int) -> Iterator[str]:
    step = next(
        one for one in (5, 10, 30, 60, 120, 300, 600, 1800, 3600) if seconds / one <= 14 or one == 3600
    )
    for second in range(0, int(seconds) + 1, step):
        x = _x(second, seconds)
        yield f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - 24}" stroke="{_GRID}"/>'
        yield _text(x, height - 8, f"{second} s", anchor="middle", colour=_FAINT)


def _row(row: str, harms: Sequence[Event], y: int, seconds: float) -> Iterator[str]:
    middle = y + _ROW / 2
    yield _text(_LEFT - 10, middle + 4, _NAMES.get(row, row), anchor="end")
    yield f'<line x1="{_LEFT}" y1="{middle}" x2="{_WIDTH - _RIGHT}" y2="{middle}" stroke="{_GRID}"/>'
    for harm in harms:
        if harm.read_again is not None:
            yield _bar(harm.began, harm.began + harm.read_again, middle - 2, 4, seconds, _RECOVERY, "")
    for harm in harms:
        words = f"{harm.what} {harm.note if harm.row == 'points' else ''}".strip()
        colour = _COLOURS[Act(harm.what)]
        long = harm.what in (Act.PAUSE, Act.FILL_DISK)
        yield _bar(harm.began, harm.ended if long else harm.began, middle - 8, 16, seconds, colour, words)


def _throughput(outcome: Outcome, y: int, seconds: float) -> Iterator[str]:
    width = max(1.0, seconds / 100)
    counts = Counter(int(moment / width) for moment, _ in outcome.timeline.ready)
    most = max(counts.values(), default=1)
    yield from _frame("searchable a second", y, f"{most / width:.0f}")
    for place, count in counts.items():
        high = _PLOT * count / most
        yield _bar(place * width, (place + 0.9) * width, y + _PLOT - high, high, seconds, _GOOD, "")


def _dots(
    name: str, values: Sequence[tuple[float, float]], y: int, seconds: float, colour: str
) -> Iterator[str]:
    most = max((value for _, value in values), default=1.0) or 1.0
    yield from _frame(name, y, f"{most:.0f}")
    for moment, value in values:
        # Small values are many: a root shows them, and the large ones.
        high = _PLOT * (value / most) ** 0.5
        yield f'<circle cx="{_x(moment, seconds):.1f}" cy="{y + _PLOT - high:.1f}" r="1.6" fill="{colour}" fill-opacity="0.6"/>'


def _frame(name: str, y: int, most: str) -> Iterator[str]:
    yield f'<line x1="{_LEFT}" y1="{y + _PLOT}" x2="{_WIDTH - _RIGHT}" y2="{y + _PLOT}" stroke="{_INK}"/>'
    yield _text(_LEFT - 10, y + _PLOT / 2 + 4, name, anchor="end")
    yield _text(_LEFT - 10, y + 4, most, anchor="end", colour=_FAINT)
    yield _text(_LEFT - 10, y + _PLOT + 4, "0", anchor="end", colour=_FAINT)


def _bar(began: float, ended: float, y: float, height: float, seconds: float, colour: str, words: str) -> str:
    x, end = _x(began, seconds), _x(ended, seconds)
    title = f"<title>{escape(words)}</title>" if words else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(2.5, end - x):.1f}" height="{height:.1f}" fill="{colour}">{title}</rect>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _x(moment: float, seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(moment, seconds) / seconds
