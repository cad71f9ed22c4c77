"""Numbers and times as people and models read them."""

from datetime import datetime, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apex_mcp.views import FactView, IngestionView


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 entity`, `2 entities`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def contents(view: "IngestionView") -> list[str]:
    """What was made of a document: `2 chunks`, `1 entity`."""
    counts = (
        (view.chunks, "chunk", "chunks"),
        (view.pages, "page", "pages"),
        (view.entities, "entity", "entities"),
        (view.facts, "fact", "facts"),
    )
    return [counted(count, one, many) for count, one, many in counts if count]


def byte_size(count: int) -> str:
    """A number of bytes in the unit that says something: `512 bytes`, `3.4 kB`, `12.0 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return counted(count, "byte")


def date_or_time(when: datetime) -> str:
    """A time as short as it is exact, in its own zone: midnight is a date alone."""
    return f"{when:%Y-%m-%d}" if when.time() == time.min else f"{when:%Y-%m-%d %H:%M}"


def fact_with_times(fact: "FactView") -> str:
    """A fact's sentence, and when it is true."""
    times = [f"from {date_or_time(fact.valid_at)}"] if fact.valid_at else []
    times.extend([f"until {date_or_time(fact.invalid_at)}"] if fact.invalid_at else [])
    times.extend([] if fact.current else ["not true at the asked time"])
    times.extend(["a later fact took its place"] if fact.ended_by else [])
    sentence = fact.sentence or f"{fact.subject} {fact.predicate} {fact.object}"
    return f"{sentence} ({', '.join(times)})" if times else sentence
