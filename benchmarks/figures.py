"""What a benchmark yields: figures, each with its budget where there is one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_TINY = 1e-3
Better = Literal["less", "more"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        value: None where it could not be measured; then `note` says why.
        budget: what the design asks for; None where it asks for nothing.
        better: whether less or more is better.
        note: how it was measured, where the name does not say it, or why it was not.
        details: further numbers, for the JSON.
    """

    name: str
    value: float | None
    unit: str
    budget: float | None = None
    better: Better = "less"
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ratio(self) -> float | None:
        """How many times better than the budget; below 1 it is not met."""
        if self.value is None or self.budget is None:
            return None
        return self.budget / max(self.value, _TINY) if self.better == "less" else self.value / self.budget


def skipped(name: str, unit: str, reason: str, *, budget: float | None = None) -> Figure:
    """The figure of what could not be measured here."""
    return Figure(name=name, value=None, unit=unit, budget=budget, note=f"skipped: {reason}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Distribution of the values, for a figure's details."""
    return {
        "count": len(values),
        "mean": sum(values) / len(values),
        "p50": percentile(values, 50),
        "p95": percentile(values, 95),
        "p99": percentile(values, 99),
        "max": max(values),
    }
