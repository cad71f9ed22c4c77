"""The word lists that the rules stand on, read once from `lexicon/*.txt` (entries between commas, `#` starts a comment line)."""

from functools import cache
from importlib.resources import files


@cache
def entries(name: str) -> tuple[str, ...]:
    """The entries of one list, as written."""
    text = (
        files("apex_mcp.ingestion.extraction").joinpath("lexicon", f"{name}.txt").read_text(encoding="utf-8")
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(entry for line in lines for part in line.split(",") if (entry := part.strip()))


@cache
def lowered(name: str) -> frozenset[str]:
    """The entries of one list, in lower case."""
    return frozenset(entry.lower() for entry in entries(name))


@cache
def by_first_word(name: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Entries of several words, by their first word, the longest first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for entry in entries(name):
        parts = tuple(entry.split())
        found.setdefault(parts[0], []).append(parts)
    return {first: tuple(sorted(group, key=len, reverse=True)) for first, group in found.items()}
