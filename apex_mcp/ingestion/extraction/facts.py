"""Facts that a few exact sentence patterns state with certainty: two mentions, and nothing but the pattern between them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.certainty import (
    AFTER_AMOUNT,
    AFTER_OBJECT,
    belongs_to_another,
    explains,
    is_in_doubt,
)
from apex_mcp.ingestion.extraction.locate import sentence_around
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.patterns import EVENTS, NO_WORK, PATTERNS, ROLES, TIMELESS, Pattern
from apex_mcp.ingestion.extraction.roles import ROLE, predicates
from apex_mcp.ingestion.extraction.subjects import Shown

_LONGEST_BETWEEN = 120
# "ACME Corporation (NYSE: ACME)", or the end of such a bracket where the short name is the mention.
_BRACKET = re.compile(r" ?\([\"“”'‘]?[\w& .:-]{1,40}[\"“”'’]?\)|[\"”'’]?\)")
_AS_ROLE = re.compile(rf" as (?:its |the |an? |their )?(?:new )?{ROLES}")
_YEAR = r"(?P<year>1\d{3}|20\d\d)(?![\w-]|[,.]?\d)"
_AT_YEAR = re.compile(_YEAR)
_YEAR_BEFORE = re.compile(rf"(?:^|[.\n] ?|\s)In {_YEAR},? $")
_SINCE = re.compile(
    r",?\s(?:back )?(?:on|in|since|from|as of|starting|effective(?: as of| from)?|for|during)\s(?:the )?"
)
_UNTIL = re.compile(
    r"\s(?:to|until|till|through)\s(?:the )?"
    r"|,? (?:and|but) (?:left|(?P<from_work>resigned|retired|quit))(?: it| there)? (?:in|on) "
)
# "(2001-2005)" behind an organisation.
_YEARS = re.compile(r" ?\((?P<since>1\d{3}|20\d\d) ?[-–—] ?(?P<until>1\d{3}|20\d\d)?\)")
# That something ended, said without a date beside it, within a few words.
_ENDED = re.compile(
    r"[^.\n]{0,60}?\b(?:(?:until|till)(?! now| today| the present)|leaving|(?:and|but|then|s?he|they) (?:was |were |has |later )?"
    r"(?:left|let go|fired|dismissed|resigned|retired|quit|stayed))\b"
)
# Of what explains a name: "CEO of Initech since 2019", "before the war", "in 1990", ", resigned".
_SINCE_APART = re.compile(r"\s(?:since|from|as of|starting|effective)\s(?:the )?")
_WAS_THEN = re.compile(
    r" \(?(?:before|when|while|at the time|then|[^.,;\n]{0,40}?\b(?:until|till))\b"
    r"|,? (?:has |have |was |is )?"
    r"(?:resigned|retired|stepped down|quit|left|fired|dismissed|ousted|replaced|succeeded|dead|died)\b"
)
_THEN = re.compile(r"\s(?:in|during|for)\s(?:the )?")
# A link or quotes that begin behind a word: "works at [Initech](...)".
_OPENING = re.compile(r"(?<=[a-z] )[\[\"“]$")
_DATE_BEFORE = re.compile(r"(?:^|[\s(\"“*-])(?:[Oo]n|[Ii]n|[Ee]ffective|[Ss]ince|[Aa]s of) (?:the )?$")
_PRICE_FROM = re.compile(
    r"(?: (?:per|a) (?:month|year|unit|seat|user|kg|piece))?,? (?:(?:starting|effective) )?(?:from|as of|on|since) (?:the )?"
)
_FOUNDED_YEAR = re.compile(rf",? (?:which )?(?:was )?(?:founded|established|incorporated) in {_YEAR}")
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
            since = _start(founded["year"])
            yield from self._stated(
                mention, "founded_in", None, founded.end(), value=founded["year"], valid_at=since
            )
        if mention.kind is not Kind.PERSON:
            return
        role = _ROLE_IN_BRACKETS.match(text, mention.end)
        if role is None and text.startswith(",", mention.end):
            role = _ROLE_BEFORE.search(text, max(0, mention.start - 60), mention.start)
        if role and not _WAS_THEN.match(text, end := max(mention.end, role.end())):
            yield from self._stated(mention, "holds_role", None, end, value=role["role"])

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
                if (
                    self._ends_here(second)
                    and not belongs_to_another(self._text, first.start, between)
                    and not (pattern.unless and self._is_other(pattern.unless, second))
                ):
                    names = [pattern.predicate] if pattern.predicate else predicates(match["roles"])
                    yield from self._matched(
                        i, pattern, names, apart=second.kind is not Kind.AMOUNT and explains(between)
                    )
                return

    def shown(self, fact: Shown) -> Iterator[Statement]:
        """A fact that shows its subject, with the date beside it."""
        valid_at = fact.object.since
        if fact.predicate == "priced_at" and not self._is_price(fact.object):
            return
        following = self._positions[fact.object.start] + 1
        if fact.predicate == "priced_at" and following < len(self._mentions):
            date = self._mentions[following]
            if date.kind is Kind.DATE and _PRICE_FROM.fullmatch(self._between(fact.object, date)):
                valid_at = date.since
        yield from self._stated(fact.subject, fact.predicate, fact.object, fact.object.end, valid_at=valid_at)

    def _matched(self, i: int, pattern: Pattern, names: list[str], *, apart: bool) -> Iterator[Statement]:
        first, second = self._mentions[i], self._mentions[i + 1]
        subject, target = (second, first) if pattern.swapped else (first, second)
        if second.kind is Kind.DATE:
            since, until = second.since, None
        else:
            since, until = self._time(i, apart=apart)
            if until is None and (
                pattern.ended or (pattern.predicate not in EVENTS and self._is_over(second.end, apart=apart))
            ):
                return
        if since and until and until <= since:
            return
        if pattern.predicate == "works_at" and (role := _AS_ROLE.match(self._text, second.end)):
            names = [*names, *predicates(role["roles"])]
        for name in names:
            yield from self._stated(
                subject,
                name,
                target,
                second.end,
                valid_at=None if name in TIMELESS else since,
                invalid_at=None if name in EVENTS else until,
            )

    def _time(self, i: int, *, apart: bool) -> tuple[datetime | None, datetime | None]:
        """When the fact of mentions `i` and `i + 1` began and ended, by a date beside it.

        What stands apart ("Jane Doe, CEO of Initech, resigned in May") takes no date from the sentence around it.
        """
        text, second = self._text, self._mentions[i + 1]
        if years := _YEARS.match(text, second.end):
            return _start(years["since"]), _start(years["until"]) if years["until"] else None
        role = _AS_ROLE.match(text, second.end)
        for end in (role.end(), second.end) if role else (second.end,):
            since, until = None, None
            after = (_SINCE_APART if apart else _SINCE).match(text, end)
            if after and (date := self._date_at(after.end())):
                since, end = date
            after = _UNTIL.match(text, end)
            if after and after["from_work"] and second.kind is not Kind.ORGANIZATION:
                after = None
            if after and (date := self._date_at(after.end())):
                until, _ = date
            if since or until:
                return since, until
        return (None if apart else self._since_before(i)), None

    def _is_over(self, end: int, *, apart: bool) -> bool:
        """Whether what follows at `end` says that it is no more, or of what stands apart that it was then."""
        if not apart:
            return _ENDED.match(self._text, end) is not None
        then = _THEN.match(self._text, end)
        return _WAS_THEN.match(self._text, end) is not None or (
            then is not None and self._date_at(then.end()) is not None
        )

    def _since_before(self, i: int) -> datetime | None:
        """The date right before mention `i`: "On 2 April 2024, Acme Corp. acquired"."""
        text, first = self._text, self._mentions[i]
        before = self._mentions[i - 1] if i else None
        if (
            before
            and before.kind is Kind.DATE
            and self._between(before, first) in (", ", " ")
            and _DATE_BEFORE.search(text, max(0, before.start - 12), before.start)
        ):
            return before.since
        year = _YEAR_BEFORE.search(text, max(0, first.start - 12), first.start)
        return _start(year["year"]) if year else None

    def _date_at(self, position: int) -> tuple[datetime | None, int] | None:
        """The time of the date or year that begins at `position`, and where it ends."""
        number = self._positions.get(position)
        if number is not None and self._mentions[number].kind is Kind.DATE:
            return self._mentions[number].since, self._mentions[number].end
        year = _AT_YEAR.match(self._text, position)
        return (_start(year["year"]), year.end()) if year else None

    def _ends_here(self, target: Mention) -> bool:
        """Whether the second of two mentions is this one, and not something of it, and this amount, not one above or below."""
        if target.kind is Kind.AMOUNT:
            return AFTER_AMOUNT.match(self._text, target.end) is not None
        if target.kind is not Kind.ORGANIZATION:
            return not self._text.startswith(("'s ", "’s ", " or "), target.end)
        end = self._behind_bracket(target)
        sentence_ends = self._text[end - 1] == "." and self._text[end : end + 2].strip().isupper()
        return sentence_ends or AFTER_OBJECT.match(self._text, end) is not None

    def _is_other(self, unless: re.Pattern[str], target: Mention) -> bool:
        """Whether what follows says that somebody joined or left for another thing than work; many join what they use."""
        used = target.name in lexicon.entries("joined_by_users") and unless is NO_WORK
        return unless.match(self._text, target.end) is not None or (
            used and not self._text.startswith(" as ", target.end)
        )

    def _is_price(self, amount: Mention) -> bool:
        """Whether the amount is the whole price: not "$49 to $99", nor what it costs "to repair" something."""
        return self._ends_here(amount) and not self._text.startswith(" to ", amount.end)

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
        between = re.sub(r"\s*\n\s*", " ", self._text[start : second.start]).strip("*_")
        return _OPENING.sub("", between)

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


def _start(year: str) -> datetime:
    return datetime(int(year), 1, 1, tzinfo=UTC)
