"""Plain sentences as a model understands them: "Jane Doe joined Initech in May." Only for the double of a model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_WORD = r"(?:[A-Z][\w&-]*|\d+)"
_LEGAL = r"(?:(?<=\bCorp)\.|(?<=\bInc)\.|(?<=\bLtd)\.|(?<=\bCo)\.)?"
_NAME = rf"[A-Z][\w&-]*(?: (?:of )?{_WORD})*{_LEGAL}"
_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = "|".join(_MONTHS)
_DATE = (
    rf"(?:\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{_MONTH}) \d{{4}}|(?:{_MONTH}) \d{{1,2}}, \d{{4}}|(?:{_MONTH}) \d{{4}}"
    rf"|(?:last )?(?:{_MONTH})|(?:19|20)\d\d)(?![\w-])"
)
_AMOUNT = (
    r"(?:[$€£]\d(?:[\d,.]*\d)?(?:[MKB]\b| (?:thousand|million|billion))?"
    r"|\d(?:[\d,.]*\d)?(?: (?:thousand|million|billion))? (?:euros|dollars))"
)
_SUBJECT = rf"(?P<subject>\b(?:[Ss]he|[Hh]e|[Tt]hey|[Ii]t)(?= )|{_NAME})"
_OBJECT = rf"(?:the )?(?P<object>{_NAME})"
_ROLE = r" as (?:its |the |an? )?[a-z]+(?: (?!since|on|in|from|until|to)[a-z]+)*"
_WHEN = (
    rf"(?:{_ROLE})?(?:,? (?:since|on|in|from|as of|effective) (?P<date>{_DATE}))?"
    rf"(?:,? (?:to|until) (?P<until>{_DATE}))?"
)
_FIRST = rf"(?:(?:[Ii]n|[Oo]n|[Ss]ince|[Ff]rom) (?P<first>{_DATE}),? )?"
_PRONOUNS = frozenset(["she", "he", "they", "it"])

# What stands between two names, the relation that a model would write, and the types of both.
_BETWEEN_NAMES = (
    ("works at", "WORKS_AT", "Person", "Organization"),
    ("works for", "WORKS_FOR", "Person", "Organization"),
    ("worked (?:at|for)", "WORKED_AT", "Person", "Organization"),
    ("is employed by", "IS_EMPLOYED_BY", "Person", "Organization"),
    ("(?:has )?joined", "JOINED", "Person", "Organization"),
    ("(?:has )?left", "LEFT", "Person", "Organization"),
    ("(?:is|became) (?:the )?(?:new )?CEO of", "IS_CEO_OF", "Person", "Organization"),
    ("(?:is|became) (?:the )?(?:new )?CFO of", "CFO_OF", "Person", "Organization"),
    ("lives in", "LIVES_IN", "Person", "Place"),
    ("was born in", "BORN_IN", "Person", "Place"),
    ("reports to", "REPORTS_TO", "Person", "Person"),
    ("is married to", "MARRIED_TO", "Person", "Person"),
    ("knows", "KNOWS", "Person", "Person"),
    ("leads", "LEADS", "Person", "Project"),
    ("works on", "WORKS_ON", "Person", "Project"),
    ("(?:has )?founded", "FOUNDED", "Person", "Organization"),
    ("is (?:headquartered|based) in", "IS_HEADQUARTERED_IN", "Organization", "Place"),
    ("moved its headquarters to", "MOVED_HEADQUARTERS_TO", "Organization", "Place"),
    ("(?:has )?(?:acquired|bought)", "ACQUIRED", "Organization", "Organization"),
    ("(?:has )?partnered with", "PARTNERED_WITH", "Organization", "Organization"),
    ("signed a contract with", "SIGNED_CONTRACT_WITH", "Organization", "Organization"),
    ("is a subsidiary of", "IS_SUBSIDIARY_OF", "Organization", "Organization"),
    ("supplies", "SUPPLIES", "Organization", "Organization"),
    ("(?:makes|produces)", "PRODUCES", "Organization", "Product"),
)
_WITH_AMOUNT = (
    (rf"{_SUBJECT} (?P<verb>costs) (?P<object>{_AMOUNT})", "COSTS", "Product"),
    (rf"[Tt]he price of (?:the )?{_SUBJECT} is (?P<object>{_AMOUNT})", "PRICE_IS", "Product"),
    (rf"{_SUBJECT} (?P<verb>reported revenues? of) (?P<object>{_AMOUNT})", "HAS_REVENUE", "Organization"),
)
_PATTERNS = (
    *(
        (re.compile(rf"{_FIRST}{_SUBJECT} (?P<verb>{between}) {_OBJECT}{_WHEN}"), relation, subject, target)
        for between, relation, subject, target in _BETWEEN_NAMES
    ),
    *((re.compile(rf"{_FIRST}{said}{_WHEN}"), relation, kind, "Amount") for said, relation, kind in _WITH_AMOUNT),
)  # fmt: skip

# Lines of a report, about the organisation that its title names.
_REPORTING = re.compile(
    r"(?P<name>[A-Z][\w&]*(?: [A-Z][\w&]*)* (?:Corporation|Corp\.|Inc\.|Ltd\.|GmbH))(?=[\s,.:])"
)
_LINES = (
    (re.compile(rf"^[-*• ]*Revenue: (?P<object>{_AMOUNT})", re.M), "HAS_REVENUE", "Amount"),
    (re.compile(rf"^[-*• ]*Key Partner: (?P<object>{_NAME})", re.M), "HAS_KEY_PARTNER", "Organization"),
    (re.compile(rf"^[-*• ]*New Contract: (?P<object>{_NAME})", re.M), "SIGNED_CONTRACT", "Contract"),
)
_THE_CEO = re.compile(rf"[Tt]he CEO, (?P<subject>{_NAME}),(?: presented the (?P<topic>[a-z ]+ for \d{{4}}))?")


@dataclass(frozen=True)
class Said:
    """One statement, as a model would give it."""

    subject: str
    subject_type: str
    relation: str
    object: str
    object_type: str
    sentence: str
    valid_at: str | None = None
    invalid_at: str | None = None


def read_sentences(text: str, reference: datetime | None) -> Iterator[Said]:
    """What a text says; "in May" is the last May until `reference`."""
    yield from _report(text)
    yield from _sentences(re.sub(r"\s+", " ", text), reference)


def _sentences(text: str, reference: datetime | None) -> Iterator[Said]:
    found = sorted(
        ((match, *rest) for pattern, *rest in _PATTERNS for match in pattern.finditer(text)),
        key=lambda item: item[0].start(),
    )
    people: list[str] = []
    for match, relation, subject_type, target_type in found:
        groups = match.groupdict()
        subject = groups["subject"].removeprefix("The ")
        if subject.lower() in _PRONOUNS:
            if not people:
                continue
            subject = people[-1]
        people.append(subject)
        began = _read_date(groups.get("date") or groups.get("first"), reference)
        sentence = f"{subject} {groups.get('verb') or 'costs'} {groups['object']}"
        yield Said(
            subject=subject,
            subject_type=subject_type,
            relation=relation,
            object=groups["object"],
            object_type=target_type,
            sentence=f"{sentence} from {began[:10]}." if began else f"{sentence.rstrip('.')}.",
            valid_at=began,
            invalid_at=_read_date(groups.get("until"), reference),
        )


def _report(text: str) -> Iterator[Said]:
    reporting = _REPORTING.search(text)
    if not reporting:
        return
    name = reporting["name"]
    for pattern, relation, target_type in _LINES:
        for match in pattern.finditer(text):
            label, _, _ = match.group().lstrip("-*• ").partition(":")
            sentence = f"{label} of {name}: {match['object']}."
            yield Said(name, "Organization", relation, match["object"], target_type, sentence)
    for match in _THE_CEO.finditer(text):
        chief = match["subject"]
        yield Said(chief, "Person", "IS_CEO_OF", name, "Organization", f"{chief} is the CEO of {name}.")
        if match["topic"]:
            sentence = f"{chief} presented the {match['topic']}."
            yield Said(chief, "Person", "PRESENTED", match["topic"], "Topic", sentence)


def _read_date(text: str | None, reference: datetime | None) -> str | None:
    if not text:
        return None
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    month = next((number for number, name in enumerate(_MONTHS, 1) if name in text), None)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return f"{text}T00:00:00Z"
    if month is None:
        return f"{numbers[0]}-01-01T00:00:00Z"
    if not numbers:
        if reference is None:
            return None
        year = reference.year - (month > reference.month)
        return f"{datetime(year, month, 1, tzinfo=UTC):%Y-%m-%d}T00:00:00Z"
    day = min(numbers) if len(numbers) > 1 else 1
    return f"{datetime(max(numbers), month, day, tzinfo=UTC):%Y-%m-%d}T00:00:00Z"
