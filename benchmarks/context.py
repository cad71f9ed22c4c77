"""What every benchmark is given, and what one is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure


@dataclass(frozen=True, kw_only=True)
class Context:
    """How to measure.

    Attributes:
        quick: only show that it works; the numbers mean nothing.
        model: folder of a local embedding model, or None.
    """

    quick: bool
    model: Path | None

    def size(self, full: int, quick: int) -> int:
        """A count of something, for a full and for a quick run."""
        return quick if self.quick else full

    def embedders(self) -> Iterator[tuple[str, str | None, str]]:
        """Words only, then a local embedder: words for a figure's name, the setting, and why it is skipped."""
        yield "words only", "none", ""
        if self.model is None:
            yield "with a local embedder", None, "no model; name one with --model or BENCH_MODEL"
        else:
            yield "with a local embedder", str(self.model), ""


Benchmark = Callable[[Context], Iterator[Figure]]
