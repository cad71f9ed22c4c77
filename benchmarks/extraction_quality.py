"""Precision and recall of the rules on the labelled passages, per kind of entity and for facts.

    python benchmarks/extraction_quality.py [--json] [--errors] [folder]

A found entity is right where its type and its name, or one of its aliases, are those of a label; a fact where subject,
predicate and object are.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.extraction.rules import extract
from apex_mcp.models import Extraction, HeadingSpan, ParsedDocument

LABELLED = Path(__file__).parents[1] / "tests" / "data" / "extraction"
FACT = "Fact"
_MARKDOWN_HEADING = re.compile(r"^(#{1,6}) +(.+)$", re.MULTILINE)


@dataclass
class Count:
    """What was found and what should have been."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        found = self.right + self.wrong
        return self.right / found if found else None

    @property
    def recall(self) -> float | None:
        labelled = self.right + self.missed
        return self.right / labelled if labelled else None


@dataclass
class Quality:
    """Counts per kind, and each error in words."""

    kinds: defaultdict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    errors: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> Count:
        kinds = [count for kind, count in self.kinds.items() if kind != FACT]
        return Count(*(sum(getattr(count, part) for count in kinds) for part in ("right", "wrong", "missed")))


def passages(folder: Path = LABELLED) -> Iterator[dict[str, Any]]:
    """The labelled passages: id, text (lines), entities (type -> names) and facts (subject, predicate, object)."""
    for file in sorted(folder.glob("*.json")):
        yield from json.loads(file.read_text(encoding="utf-8"))


def document(text: str) -> ParsedDocument:
    """A passage as the parser would give it: lines with `#` are its headings."""
    headings = tuple(
        HeadingSpan(level=len(match[1]), title=match[2], start=match.start(), end=match.end())
        for match in _MARKDOWN_HEADING.finditer(text)
    )
    return ParsedDocument(text=text, title="", media_type="text/markdown", headings=headings)


def measure(folder: Path = LABELLED) -> Quality:
    """Extracts from every passage and compares with its labels."""
    quality = Quality()
    for passage in passages(folder):
        found = extract(document("\n".join(passage["text"])), ())
        _compare_entities(quality, passage, found)
        _compare_facts(quality, passage, found)
    return quality


def _compare_entities(quality: Quality, passage: dict[str, Any], found: Extraction) -> None:
    missing = {
        (kind, normalise_name(name)): name for kind, names in passage["entities"].items() for name in names
    }
    for entity in found.entities:
        names = [(entity.type, normalise_name(name)) for name in (entity.name, *entity.aliases)]
        label = next((name for name in names if name in missing), None)
        if label:
            quality.kinds[entity.type].right += 1
            del missing[label]
        else:
            quality.kinds[entity.type].wrong += 1
            quality.errors.append(f"{passage['id']}: wrong {entity.type} {entity.name!r}")
    for (kind, _), name in missing.items():
        quality.kinds[kind].missed += 1
        quality.errors.append(f"{passage['id']}: missed {kind} {name!r}")


def _compare_facts(quality: Quality, passage: dict[str, Any], found: Extraction) -> None:
    labelled = Counter(tuple(fact) for fact in passage["facts"])
    stated = Counter((fact.subject, fact.predicate, fact.object) for fact in found.facts)
    count = quality.kinds[FACT]
    count.right += (labelled & stated).total()
    count.wrong += (stated - labelled).total()
    count.missed += (labelled - stated).total()
    quality.errors += [f"{passage['id']}: wrong fact {fact}" for fact in stated - labelled]
    quality.errors += [f"{passage['id']}: missed fact {fact}" for fact in labelled - stated]


def as_json(quality: Quality) -> dict[str, Any]:
    """The figures as plain data."""
    rows = {**dict(sorted(quality.kinds.items())), "all entities": quality.total}
    return {
        kind: {**vars(count), "precision": count.precision, "recall": count.recall}
        for kind, count in rows.items()
    }


def _table(quality: Quality) -> str:
    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    lines = ["| kind | right | wrong | missed | precision | recall |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {kind} | {row['right']} | {row['wrong']} | {row['missed']} | {figure(row['precision'])} | {figure(row['recall'])} |"
        for kind, row in as_json(quality).items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=LABELLED)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--errors", action="store_true", help="name each wrong and missed entity and fact")
    arguments = parser.parse_args()
    quality = measure(arguments.folder)
    print(json.dumps(as_json(quality), indent=1) if arguments.json else _table(quality))
    if arguments.errors:
        print(*quality.errors, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
