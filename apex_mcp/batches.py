"""Cutting sequences into batches (`itertools.batched` needs Python 3.12)."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of `items`, each of `size` items but the last."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
