"""What a model answered, as an extraction: what is well-formed and stands on something is kept, the rest dropped.

Models forget fields, invent types, point at things that they did not list and call every relation RELATES_TO. One bad item
never costs the others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.enriching.combining import combine
from apex_mcp.ingestion.enriching.grounding import Grounding
from apex_mcp.ingestion.enriching.names import PERSON, person_words, says_only_what_kind, within
from apex_mcp.ingestion.enriching.ontology import Ontology
from apex_mcp.ingestion.enriching.passage_names import PassageNames
from apex_mcp.ingestion.enriching.protocol import PassageGroup
from apex_mcp.ingestion.enriching.times import SaidTimes
from apex_mcp.ingestion.extraction.dates import find_dates, says_without_year
from apex_mcp.ingestion.extraction.money import find_money
from apex_mcp.ingestion.extraction.person_names import titled, titles_before
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction

_LONGEST_NAME = 200
_LONGEST_SENTENCE = 1_000
_MOST_ALIASES = 8
_MOST_ENTITIES = 400
_MOST_FACTS = 400
_MOST_WORDS_BETWEEN = 4
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_AMOUNT = "Amount"
_NO_NAMES = frozenset(
    "none unknown null n/a na he she it they we i you me us him her them this that these those someone somebody entity "
    "thing".split()
)
_MIDNIGHT = re.compile(r"(?<=-\d\d)T00:00(?::00(?:\.0+)?)?(?:Z|\+00:00)?$")
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")
_DATE = re.compile(
    r"\d{4}(?:-\d\d){0,2}(?:T[\d:.Z+-]+)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
    r"|(?:\d{1,2} )?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?(?: \d{1,2},?)?(?: \d{4})?|q[1-4] \d{4}",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Entity:
    name: str
    type: str
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    ordinals: set[int] = field(default_factory=set[int])


def read_extraction(answer: Mapping[str, Any], group: PassageGroup, ontology: Ontology) -> Extraction:
    """The entities and facts of an answer to `extraction_question` that the passages hold."""
    reader = _Reader(group, ontology)
    for item in _items(answer.get("extracted_entities"))[:_MOST_ENTITIES]:
        reader.take_entity(item)
    reader.drop_ungrounded()
    for item in _items(answer.get("edges"))[:_MOST_FACTS]:
        reader.take_fact(item)
    return reader.extraction()


def read_same(answer: Mapping[str, Any], count: int) -> list[bool | None]:
    """One word for each of `count` doubts; None where the answer has none."""
    same: list[bool | None] = [None] * count
    for item in _items(answer.get("answers")):
        number, said = _whole(item.get("number")), item.get("same")
        if number is not None and 0 <= number < count and isinstance(said, bool):
            same[number] = said
    return same


def read_ended(answer: Mapping[str, Any], olders: Sequence[int]) -> list[tuple[int, ...] | None]:
    """For each clash the positions of what it ended, of as many older facts as `olders` says; None where the answer has none."""
    ended: list[tuple[int, ...] | None] = [None] * len(olders)
    for item in _items(answer.get("answers")):
        number, given = _whole(item.get("number")), item.get("ended")
        if number is None or not 0 <= number < len(olders) or not isinstance(given, list):
            continue
        positions = {_whole(one) for one in cast("list[Any]", given)}
        ended[number] = tuple(
            sorted(one for one in positions if one is not None and 0 <= one < olders[number])
        )
    return ended


class _Reader:
    def __init__(self, group: PassageGroup, ontology: Ontology) -> None:
        self._ontology = ontology
        self._title = group.title
        self._names = PassageNames(group.title, group.passages)
        self._year = group.reference_time.year if group.reference_time else None
        self._said = (
            group.title,
            *(said for passage in group.passages for said in (*passage.heading_path, passage.text)),
        )
        self._times = SaidTimes(self._said, group.reference_time)
        self._grounding = Grounding(
            [("\n".join((group.title, *passage.heading_path)), passage.text) for passage in group.passages],
            known_names=group.known_names,
        )
        self._ungrounded: dict[str, _Entity] = {}
        self._dropped = 0
        self._entities: dict[str, _Entity] = {}
        self._by_alias: dict[str, str] = {}
        self._facts: dict[tuple[object, ...], ExtractedFact] = {}

    def take_entity(self, item: Mapping[str, Any]) -> None:
        name = _text(item.get("name"), _LONGEST_NAME)
        amount = _amount(name)
        kind = _AMOUNT if amount else self._type(item, name)
        name = amount or name
        key = normalise_name(name)
        if not _names_something(key) or _DATE.fullmatch(key):
            return
        entity = self._entities.setdefault(key, _Entity(name, kind))
        if entity.type == self._ontology.fallback_type:
            entity.type = kind
        given = item.get("aliases")
        for alias in cast("list[Any]", given)[:_MOST_ALIASES] if isinstance(given, list) else []:
            self._add_alias(entity, key, _text(alias, _LONGEST_NAME))

    def drop_ungrounded(self) -> None:
        """Leave out what the passages do not name: a model was talked into it, or knows it from elsewhere."""
        for key, entity in list(self._entities.items()):
            if not self._is_grounded(entity):
                self._ungrounded[key] = self._entities.pop(key)

    def take_fact(self, item: Mapping[str, Any]) -> None:
        sentence = _text(item.get("fact"), _LONGEST_SENTENCE)
        relation = _text(item.get("relation_type"), _LONGEST_NAME)
        ends = [_text(item.get(side), _LONGEST_NAME) for side in ("source_entity_name", "target_entity_name")]
        if not sentence or not all(ends):
            return
        if self._ontology.turned(relation):
            ends.reverse()
        if any(normalise_name(_amount(end) or end) in self._ungrounded for end in ends):
            self._dropped += 1
            return
        subject, target = self._named(ends[0]), self._named(ends[1])
        predicate = self._ontology.predicate_of(relation) or self._stated(sentence, *ends)
        value = "" if target else self._value(ends[1], predicate)
        if target is subject:
            # What is said of one thing alone ("Evan has a knee injury") is a value of it.
            target, value = None, _without_subject(sentence, ends[0])
        if subject is None or not predicate:
            return
        if not (target or value):
            self._dropped += self._may_be_value(ends[1], predicate)
            return
        indices = item.get("episode_indices")
        ordinal = self._names.of_fact(
            sentence,
            (subject.name, *subject.aliases.values()),
            (target.name, *target.aliases.values()) if target else (ends[1],),
            [number for number in map(_whole, cast("list[Any]", indices)) if number is not None]
            if isinstance(indices, list)
            else [],
        )
        subject.ordinals.add(ordinal)
        if target:
            target.ordinals.add(ordinal)
        valid_at, invalid_at = self._time(item.get("valid_at")), self._time(item.get("invalid_at"))
        if valid_at and invalid_at and invalid_at <= valid_at:
            invalid_at = None
        fact = ExtractedFact(
            subject=subject.name,
            predicate=predicate,
            object=target.name if target else value,
            sentence=sentence,
            chunk=ordinal,
            object_is_entity=target is not None,
            valid_at=valid_at,
            invalid_at=invalid_at,
        )
        self._facts.setdefault((fact.subject, predicate, normalise_name(fact.object), valid_at), fact)

    def extraction(self) -> Extraction:
        entities = [
            ExtractedEntity(
                name=entity.name,
                type=entity.type,
                aliases=tuple(entity.aliases.values())[:_MOST_ALIASES],
                chunks=tuple(
                    sorted(entity.ordinals | self._names.naming(entity.name, *entity.aliases.values()))
                )
                or self._names.first,
            )
            for entity in self._entities.values()
        ]
        found = Extraction(
            entities=tuple(entities),
            facts=tuple(self._facts.values()),
            ungrounded=len(self._ungrounded) + self._dropped,
        )
        return _renamed(found, {one.name: self._lasting_name(one) for one in entities})

    def _lasting_name(self, entity: ExtractedEntity) -> str:
        """The name under which other documents may find it, and the rules have it."""
        name = within(self._title, entity.name, entity.type, entity.aliases)
        words = person_words(name) if entity.type == PERSON else []
        if len(words) != 1:
            return name
        surname = name.split()[-1]
        titles = {title for text in self._said for title in titles_before(surname, text)}
        others = [
            person_words(one.name)
            for one in self._entities.values()
            if one.type == PERSON and one.name != name
        ]
        alone = not any(len(other) > 1 and other[-1] == words[0] for other in others)
        return titled(titles.pop(), surname) if len(titles) == 1 and alone else name

    def _add_alias(self, entity: _Entity, key: str, alias: str) -> None:
        """An alias that the passages hold: others are what a model knows, or thinks to know.

        One that says only what kind of thing it is ("the Bank") means it in this answer alone.
        """
        spelled = normalise_name(alias)
        if spelled == key or not _names_something(spelled) or not self._names.naming(alias):
            return
        self._by_alias.setdefault(spelled, key)
        if not says_only_what_kind(alias):
            entity.aliases.setdefault(spelled, alias)

    def _is_grounded(self, entity: _Entity) -> bool:
        if entity.type == _AMOUNT:
            return self._says(entity.name)
        # An alias was taken only where a passage has it. "5 million" stands in "$5 million" too, and is not said there.
        named = entity.aliases or (not entity.name[:1].isdigit() and self._names.naming(entity.name))
        return bool(named) or self._grounding.holds(entity.name, entity.type)

    def _says(self, value: str) -> bool:
        """Whether the passages say a quantity, a date, a role or a state, spelled in any way."""
        if _amount(value):
            return self._names.has_value(value)
        if date := _date(value):
            # Of a fiscal year ("FY2024") the year is all there is.
            return self._names.has_value(date) or (
                date[0].isdigit() and any(says_without_year(text, date, self._year) for text in self._said)
            )
        return self._grounding.says(value)

    def _time(self, given: Any) -> datetime | None:
        """A time that the passages give."""
        time = _time(given)
        if time is None or self._times.hold(time):
            return time
        self._dropped += 1
        return None

    def _named(self, name: str) -> _Entity | None:
        key = normalise_name(_amount(name) or name)
        return self._entities.get(key) or self._entities.get(self._by_alias.get(key, ""))

    def _value(self, text: str, predicate: str) -> str:
        """An object that is no entity, where it is a value of the text: an amount, a date, a role, a state. Else it dangles.

        A date may be spelled in another way than the text's, or have the year of the document.
        """
        if not self._may_be_value(text, predicate):
            return ""
        value = _amount(text) or _MIDNIGHT.sub("", text)
        return value if self._says(value) else ""

    def _may_be_value(self, text: str, predicate: str) -> bool:
        return predicate in self._ontology.of_anything or re.search(r"\d", text) is not None

    def _type(self, item: Mapping[str, Any], name: str) -> str:
        number = item.get("entity_type_id")
        types = self._ontology.entity_types
        position = _whole(number)
        if position is not None and 0 <= position < len(types):
            return types[position].name
        for word in (number, item.get("entity_type"), item.get("type"), item.get("label")):
            if isinstance(word, str) and (found := self._ontology.type_of(word)):
                return found
        # "Widget Manufacturing Contract", "Ostmere Harbour Authority" say it themselves.
        return self._ontology.type_of(name) or self._ontology.fallback_type

    def _stated(self, sentence: str, subject: str, target: str) -> str:
        """The predicate that the sentence states, where the relation says nothing: by its words, else those between."""
        plain = f" {normalise_name(sentence)} "
        for phrase, predicate in self._ontology.phrases:
            if f" {phrase} " in plain:
                return predicate
        _, _, behind = plain.partition(f" {normalise_name(subject)} ")
        words = behind.partition(f" {normalise_name(target)}")[0].split()
        if 0 < len(words) <= _MOST_WORDS_BETWEEN and all(word.isalpha() for word in words):
            return self._ontology.predicate_of(" ".join(words))
        return ""


def _renamed(found: Extraction, names: Mapping[str, str]) -> Extraction:
    """With other names for some; what has one name then is one."""
    if all(name == new for name, new in names.items()):
        return found
    entities = tuple(replace(one, name=names[one.name]) for one in found.entities)
    facts = [
        replace(
            fact,
            subject=names[fact.subject],
            object=names[fact.object] if fact.object_is_entity else fact.object,
        )
        for fact in found.facts
    ]
    kept = tuple(fact for fact in facts if normalise_name(fact.subject) != normalise_name(fact.object))
    return combine([replace(found, entities=entities, facts=kept)])


def _items(given: Any) -> list[Mapping[str, Any]]:
    if not isinstance(given, list):
        return []
    return [cast("Mapping[str, Any]", item) for item in cast("list[Any]", given) if isinstance(item, Mapping)]


def _text(given: Any, longest: int) -> str:
    """A string in single spaces, cut where it is too long; "" where it is none. No NUL: PostgreSQL takes none."""
    if not isinstance(given, str):
        return ""
    whole = given.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return " ".join(whole.split())[:longest].strip()


def _whole(given: Any) -> int | None:
    """A whole number, however a model writes it."""
    if isinstance(given, bool):
        return None
    if isinstance(given, float):
        return int(given) if given.is_integer() else None
    if isinstance(given, str):
        return int(given) if re.fullmatch(r"[0-9]{1,6}", given.strip()) else None
    return given if isinstance(given, int) else None


def _time(given: Any) -> datetime | None:
    """A time in ISO 8601; a year or a month is its first moment."""
    text = _text(given, 40)
    if re.fullmatch(r"\d{4}(?:-\d\d)?", text):
        text = f"{text}-01-01" if len(text) == 4 else f"{text}-01"
    try:
        read = datetime.fromisoformat(text)
        read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return read if _EARLIEST <= read <= _LATEST else None


def _amount(name: str) -> str:
    """An amount of money under the name that all its spellings share; "" where the name is more or less than one."""
    found = list(find_money(name))
    return found[0].name if len(found) == 1 and (found[0].start, found[0].end) == (0, len(name)) else ""


def _date(value: str) -> str:
    """A date under the name that all its spellings share; "" where the value is more or less than one."""
    if _MONTH.fullmatch(value):
        return value
    found = list(find_dates(value))
    return found[0].name if len(found) == 1 and found[0].surface == value else ""


def _without_subject(sentence: str, subject: str) -> str:
    return sentence.removeprefix(subject).strip(" .")[:_LONGEST_NAME]


def _names_something(key: str) -> bool:
    # The "________" of a form is no name.
    return re.search(r"[^\W_]", key) is not None and key not in _NO_NAMES
