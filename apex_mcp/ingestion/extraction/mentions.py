"""A mention: one place in the text that names something."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """Types of the entities that the rules find, the most trusted first where two would claim the same place."""

    EMAIL = "Email"
    URL = "Url"
    CONTRACT = "Contract"
    DOCUMENT = "Document"
    PRODUCT = "Product"
    DATE = "Date"
    AMOUNT = "Amount"
    ORGANIZATION = "Organization"
    PERSON = "Person"
    PLACE = "Place"
    TOPIC = "Topic"


PRIORITY = {kind: position for position, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """One place that names something.

    Attributes:
        name: the name in its usual form ("Jane Smith", "2024-03-15").
        surface: the text as it stands, in single spaces ("Dr. Jane Smith", "March 15, 2024").
        title: a person's title, where it stood before the name.
        since, until: the time that a date spans, the end excluded.
        extra_names: other names that the text itself gives, as in "ACME Corporation (ACME)".
    """

    start: int
    end: int
    kind: Kind
    name: str
    surface: str
    title: str = ""
    since: datetime | None = None
    until: datetime | None = None
    extra_names: tuple[str, ...] = ()


def without_overlaps(mentions: Iterable[Mention]) -> list[Mention]:
    """In text order, of those that overlap the longest; of equals the kind that is trusted most."""
    kept: list[Mention] = []
    for mention in sorted(mentions, key=lambda item: (item.start, -item.end, PRIORITY[item.kind])):
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
        elif mention.end - mention.start > kept[-1].end - kept[-1].start:
            kept[-1] = mention
    return kept
