"""`python -m benchmarks [NAME...] [--quick] [--json FILE] [--markdown FILE] [--model FOLDER]`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    alone,
    bulk,
    documents,
    extraction,
    graph,
    idle,
    notes,
    report,
    search,
    startup,
    workers,
)
from benchmarks.context import Benchmark, Context
from benchmarks.environment import describe
from benchmarks.figures import Figure
from benchmarks.memory import BenchmarkError
from benchmarks.wire import ToolFailed

BENCHMARKS: dict[str, Benchmark] = {
    "startup": startup.run,
    "alone": alone.run,
    "documents": documents.run,
    "notes": notes.run,
    "bulk": bulk.run,
    "search": search.run,
    "idle": idle.run,
    "workers": workers.run,
    "extraction": extraction.run,
    "graph": graph.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 1 if one could not be measured. A budget that is not met is a result, no failure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure against the design's budgets."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only show that it works; the numbers mean nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a local embedding model (BENCH_MODEL)")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    context = Context(quick=given.quick, model=_model(given.model))
    console = Console(highlight=False)
    environment = describe()
    console.print_json(data=environment)
    measured, failed = _run(console, context, given.names or list(BENCHMARKS))
    console.print(
        report.table("The reference system, as it reported itself on another machine", report.REFERENCE)
    )
    if given.json is not None:
        given.json.write_text(
            json.dumps(report.data(environment, measured), indent=1) + "\n", encoding="utf-8"
        )
    if given.markdown is not None:
        every = [figure for figures in measured.values() for figure in figures]
        given.markdown.write_text(report.markdown(every) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _run(console: Console, context: Context, names: Sequence[str]) -> tuple[dict[str, list[Figure]], bool]:
    """Each benchmark's figures, shown as soon as they are there; and whether one failed, which stops no other."""
    measured: dict[str, list[Figure]] = {}
    failed = False
    for name in names:
        figures = measured[name] = []
        try:
            figures.extend(BENCHMARKS[name](context))
        except* (BenchmarkError, ToolFailed) as errors:
            failed = True
            console.print(f"{name} failed: {errors.exceptions}", style="bold red", markup=False)
        console.print(report.table(name, figures))
    return measured, failed


def _model(given: Path | None) -> Path | None:
    named = given or Path(os.environ.get("BENCH_MODEL") or _beside())
    return named.resolve() if (named / "tokenizer.json").is_file() else None


def _beside() -> Path:
    return Path(__file__).parents[2] / "shared" / "models" / "all-MiniLM-L6-v2-int8"


if __name__ == "__main__":
    sys.exit(main())
