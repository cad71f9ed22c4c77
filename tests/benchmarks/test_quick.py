import json
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.figures import Figure, percentile

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["alone", "documents", "bulk", "search", "extraction", "graph"])
def test_a_benchmark_in_its_shortest_form_measures_something_and_leaves_its_json(
    name: str, tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"

    # No model: the parts with an embedder are the same code, and take seconds each.
    status = main([name, "--quick", "--json", str(written), "--model", str(tmp_path)])

    figures = json.loads(written.read_text("utf-8"))["figures"][name]
    assert status == 0
    assert [
        figure["name"] for figure in figures if figure["value"] is None and "skipped" not in figure["note"]
    ] == []
    assert any(figure["value"] for figure in figures)


def test_every_module_with_a_benchmark_is_run_by_the_command() -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    defining = {
        path.stem for path in folder.glob("*.py") if "\ndef run(context: Context)" in path.read_text("utf-8")
    }
    assert defining == set(BENCHMARKS)


def test_a_ratio_above_one_means_better_than_the_budget() -> None:
    latency = Figure(name="latency", value=50, unit="ms", budget=100)
    rate = Figure(name="rate", value=50, unit="1/s", budget=100, better="more")
    assert (latency.ratio, rate.ratio) == (2.0, 0.5)


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2
    assert percentile([4, 1, 3, 2], 95) == 4
