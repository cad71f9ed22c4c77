"""The figures as a table, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.figures import Figure

# From its load tests; other machines, so a rough comparison only.
REFERENCE = (
    Figure(
        name="100 concurrent workflows, stores mocked",
        value=21.13,
        unit="1/s",
        note="mean 47 ms, p99 ~150 ms",
    ),
    Figure(name="sustained for 60 s, stores mocked", value=13.65, unit="1/s"),
    Figure(
        name="250 workflows of 416-byte documents, real stores and OpenAI",
        value=2.9,
        unit="1/s",
        note="85 s in all",
    ),
)


def table(title: str, figures: Sequence[Figure]) -> Table:
    """For a terminal: value, budget and how many times better than the budget it is."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("what", overflow="fold")
    for name in ("value", "budget", "ratio"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("note", overflow="fold")
    for figure in figures:
        ratio = figure.ratio
        style = "" if ratio is None else "green" if ratio >= 1 else "red"
        shown.add_row(figure.name, _value(figure), _budget(figure), _ratio(ratio), figure.note, style=style)
    return shown


def markdown(figures: Sequence[Figure]) -> str:
    """For docs/benchmarks.md."""
    lines = ["| what | result | budget | ratio | note |", "|---|---|---|---|---|"]
    lines += [
        f"| {figure.name} | {_value(figure)} | {_budget(figure)} | {_ratio(figure.ratio)} | {figure.note} |"
        for figure in figures
    ]
    return "\n".join(lines)


def data(environment: dict[str, Any], figures: dict[str, list[Figure]]) -> dict[str, Any]:
    """Everything, for `--json`."""
    return {
        "environment": environment,
        "figures": {
            name: [{**asdict(figure), "ratio": figure.ratio} for figure in some]
            for name, some in figures.items()
        },
        "reference_system": [asdict(figure) for figure in REFERENCE],
    }


def _value(figure: Figure) -> str:
    return "-" if figure.value is None else f"{_number(figure.value)} {figure.unit}"


def _budget(figure: Figure) -> str:
    if figure.budget is None:
        return ""
    return f"{'≤' if figure.better == 'less' else '≥'} {_number(figure.budget)}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
