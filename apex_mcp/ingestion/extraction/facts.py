"""Facts that a few exact sentence patterns state with certainty: two mentions, and nothing but the pattern between them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from apex_mcp.ingestion.extraction.certainty import (
    AFTER_AMOUNT,
    AFTER_OBJECT,
    belongs_to_another,
    is_in_doubt,
)
from apex_mcp.ingestion.extraction.locate import sentence_around
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.patterns import EVENTS, PATTERNS, ROLES, TIMELESS, Pattern
from apex_mcp.ingestion.extraction.roles import ROLE, predicates
from apex_mcp.ingestion.extraction.subjects import Shown

_LONGEST_BETWEEN = 120
# "ACME Corporation (NYSE: ACME)", or the end of such a bracket where the short name is the mention.
_BRACKET = re.compile(r" ?\([\"“”'‘]?[\w& .:-]{1,40}[\"“”'’]?\)|[\"”'’]?\)")
_DATE_AFTER = re.compile(
    r",? (?:(?:back )?(?:on|in|since|from|as of|starting|effective(?: as of| from)?|for|during) )(?:the )?"
)
_AS_ROLE = re.compile(rf" as (?:its |the |an? |their )?(?:new )?{ROLES}")
_UNTIL = re.compile(r" (?:to|until|till|through) (?:the )?")
_YEAR_AFTER = re.compile(r",? (?:on|in|since|from|as of) (?P<year>1\d{3}|20\d\d)(?![\w,.-]*\d)")
_YEAR_BEFORE = re.compile(r"(?:^|[.\n] ?|\s)In (?P<year>1\d{3}|20\d\d),? $")
_DATE_BEFORE = re.compile(r"(?:^|[\s(\"“*-])(?:[Oo]n|[Ii]n|[Ee]ffective|[Ss]ince|[Aa]s of) (?:the )?$")
_PRICE_FROM = re.compile(
    r"(?: (?:per|a) (?:month|year|unit|seat|user|kg|piece))?,? (?:(?:starting|effective) )?(?:from|as of|on|since) (?:the )?"
)
_FOUNDED_YEAR = re.compile(
    r",? (?:which )?(?:was )?(?:founded|established|incorporated) in (?P<year>1\d{3}|20\d\d)(?![\w-])"
)
_ROLE_BEFORE = re.compile(
    rf"(?:[Tt]he|[Oo]ur|[Ii]ts|[Mm]y|[Tt]heir) (?P<role>{ROLE}), (?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?$"
)
_ROLE_IN_BRACKETS = re.compile(rf" \((?P<role>{ROLE})\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One fact between two mentions; `value` stands for the object where that is no entity."""

    subject: Mention
    predicate: str
    object: Mention | None = None
    value: str = ""
    sentence: str
    start: int
    valid_at: datetime | None = None
    invalid_at: datetime | None = None


def find_facts(text: str, mentions: Sequence[Mention], shown: Sequence[Shown]) -> Iterator[Statement]:
    """Facts of mentions that follow each other in `text` (in text order, none overlapping), and those that show their subject."""
    finder = _Facts(text, mentions)
    for i, mention in enumerate(mentions):
        yield from finder.alone(mention)
        yield from finder.with_next(i)
    for fact in shown:
        yield from finder.shown(fact)


class _Facts:
    def __init__(self, text: str, mentions: Sequence[Mention]) -> None:
        self._text = text
        self._mentions = mentions
        self._positions = {mention.start: i for i, mention in enumerate(mentions)}

    def alone(self, mention: Mention) -> Iterator[Statement]:
        """Facts whose object is a plain value: the year of a founding, a role without its organisation."""
        text = self._text
        founded = (
            _FOUNDED_YEAR.match(text, self._behind_bracket(mention))
            if mention.kind is Kind.ORGANIZATION
            else None
        )
        if founded and not belongs_to_another(text, mention.start, founded.group()):
            since = _year(founded)
            yield from self._stated(
                mention, "founded_in", None, founded.end(), value=founded["year"], valid_at=since
            )
        if mention.kind is not Kind.PERSON:
            return
        role = _ROLE_IN_BRACKETS.match(text, mention.end)
        if role is None and text.startswith(",", mention.end):
            role = _ROLE_BEFORE.search(text, max(0, mention.start - 60), mention.start)
        if role:
            yield from self._stated(
                mention, "holds_role", None, max(mention.end, role.end()), value=role["role"]
            )

    def with_next(self, i: int) -> Iterator[Statement]:
        """Facts between mention `i` and the next."""
        if i + 1 == len(self._mentions):
            return
        first, second = self._mentions[i], self._mentions[i + 1]
        patterns = PATTERNS.get((first.kind, second.kind))
        if not patterns:
            return
        between = self._between(first, second)
        for pattern in patterns:
            match = pattern.between.fullmatch(between)
            if match:
                if self._ends_here(second) and not belongs_to_another(self._text, first.start, between):
                    names = [pattern.predicate] if pattern.predicate else predicates(match["roles"])
                    yield from self._matched(i, pattern, names)
                return

    def shown(self, fact: Shown) -> Iterator[Statement]:
        """A fact that shows its subject, with the date beside it."""
        valid_at = fact.object.since
        following = self._positions[fact.object.start] + 1
        if fact.predicate == "priced_at" and following < len(self._mentions):
            date = self._mentions[following]
            if date.kind is Kind.DATE and _PRICE_FROM.fullmatch(self._between(fact.object, date)):
                valid_at = date.since
        yield from self._stated(fact.subject, fact.predicate, fact.object, fact.object.end, valid_at=valid_at)

    def _matched(self, i: int, pattern: Pattern, names: list[str]) -> Iterator[Statement]:
        first, second = self._mentions[i], self._mentions[i + 1]
        subject, target = (second, first) if pattern.swapped else (first, second)
        valid_at, invalid_at = (second.since, None) if second.kind is Kind.DATE else self._time(i)
        if pattern.ended and invalid_at is None:
            return
        if pattern.predicate == "works_at" and (role := _AS_ROLE.match(self._text, second.end)):
            names = [*names, *predicates(role["roles"])]
        for name in names:
            yield from self._stated(
                subject,
                name,
                target,
                second.end,
                valid_at=None if name in TIMELESS else valid_at,
                invalid_at=None if name in EVENTS else invalid_at,
            )

    def _time(self, i: int) -> tuple[datetime | None, datetime | None]:
        """When the fact of mentions `i` and `i + 1` began and ended, where a date stands right beside it."""
        text, first, second = self._text, self._mentions[i], self._mentions[i + 1]
        end = second.end
        if role := _AS_ROLE.match(text, end):
            end = role.end()
        after = self._date(i + 2)
        if (
            after
            and 0 <= after.start - end <= _LONGEST_BETWEEN
            and _DATE_AFTER.fullmatch(text[end : after.start].replace("\n", " "))
        ):
            until = self._date(i + 3)
            ends = until and _UNTIL.fullmatch(self._between(after, until))
            return after.since, until.since if until and ends else None
        if year := _YEAR_AFTER.match(text, end) or _YEAR_AFTER.match(text, second.end):
            return _year(year), None
        before = self._date(i - 1) if i else None
        if (
            before
            and self._between(before, first) in (", ", " ")
            and _DATE_BEFORE.search(text, max(0, before.start - 12), before.start)
        ):
            return before.since, None
        if year := _YEAR_BEFORE.search(text, max(0, first.start - 12), first.start):
            return _year(year), None
        return None, None

    def _date(self, i: int) -> Mention | None:
        mention = self._mentions[i] if i < len(self._mentions) else None
        return mention if mention and mention.kind is Kind.DATE else None

    def _ends_here(self, target: Mention) -> bool:
        """Whether the second of two mentions is this one, and not something of it, and this amount, not one above or below."""
        if target.kind is Kind.AMOUNT:
            return AFTER_AMOUNT.match(self._text, target.end) is not None
        if target.kind not in (Kind.ORGANIZATION, Kind.PLACE):
            return not self._text.startswith(("'s ", "’s "), target.end)
        end = self._behind_bracket(target)
        sentence_ends = self._text[end - 1] == "." and self._text[end : end + 2].strip().isupper()
        return sentence_ends or AFTER_OBJECT.match(self._text, end) is not None

    def _behind_bracket(self, mention: Mention) -> int:
        """End of a mention with the bracket that explains it: "ACME Corporation (NYSE: ACME)"."""
        bracket = _BRACKET.match(self._text, mention.end) if mention.kind is Kind.ORGANIZATION else None
        return bracket.end() if bracket else mention.end

    def _between(self, first: Mention, second: Mention) -> str:
        """Text between two mentions in one line; nothing that a pattern matches where they are far apart."""
        start = self._behind_bracket(first)
        if start > second.start:
            start = first.end
        if second.start - start > _LONGEST_BETWEEN or "\n\n" in self._text[start : second.start]:
            return "\x00"
        return re.sub(r"\s*\n\s*", " ", self._text[start : second.start])

    def _stated(
        self,
        subject: Mention,
        predicate: str,
        target: Mention | None,
        end: int,
        *,
        value: str = "",
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
    ) -> Iterator[Statement]:
        """The statement, unless its sentence puts it in doubt."""
        text = self._text
        start = min(subject.start, target.start) if target else subject.start
        around = sentence_around(text, start, end)
        sentence = " ".join(text[slice(*around)].split())
        if sentence.endswith("?") or is_in_doubt(text, around, end):
            return
        yield Statement(
            subject=subject,
            predicate=predicate,
            object=target,
            value=value,
            sentence=sentence,
            start=start,
            valid_at=valid_at,
            invalid_at=invalid_at,
        )


def _year(match: re.Match[str]) -> datetime:
    return datetime(int(match["year"]), 1, 1, tzinfo=UTC)
