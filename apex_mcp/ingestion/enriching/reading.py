"""What a model answered, as an extraction: what is well-formed and stands on something is kept, the rest dropped.

Models forget fields, invent types, point at things that they did not list and call every relation RELATES_TO. One bad item
never costs the others.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.enriching.ontology import Ontology
from apex_mcp.ingestion.enriching.protocol import Passage
from apex_mcp.ingestion.extraction.money import find_money
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction

_LONGEST_NAME = 200
_LONGEST_SENTENCE = 1_000
_MOST_ALIASES = 8
_MOST_ENTITIES = 400
_MOST_FACTS = 400
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_AMOUNT = "Amount"
_NO_NAMES = frozenset(
    "none unknown null n/a na he she it they we i you me us him her them this that these those someone somebody entity "
    "thing".split()
)
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


def read_extraction(answer: Mapping[str, Any], passages: Sequence[Passage], ontology: Ontology) -> Extraction:
    """The entities and facts of an answer to `extraction_question`."""
    reader = _Reader(passages, ontology)
    for item in _items(answer.get("extracted_entities"))[:_MOST_ENTITIES]:
        reader.take_entity(item)
    for item in _items(answer.get("edges"))[:_MOST_FACTS]:
        reader.take_fact(item)
    return reader.extraction()


def read_same(answer: Mapping[str, Any], count: int) -> list[bool]:
    """One word for each of `count` doubts; no where the answer has none."""
    same = [False] * count
    for item in _items(answer.get("answers")):
        number = _whole(item.get("number"))
        if number is not None and 0 <= number < count:
            same[number] = item.get("same") is True
    return same


def read_ended(answer: Mapping[str, Any], olders: Sequence[int]) -> list[tuple[int, ...]]:
    """For each clash the positions of what it ended, of as many older facts as `olders` says."""
    ended: list[tuple[int, ...]] = [()] * len(olders)
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
    def __init__(self, passages: Sequence[Passage], ontology: Ontology) -> None:
        self._ontology = ontology
        self._places = _Places(passages)
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
        for alias in cast("list[Any]", given) if isinstance(given, list) else []:
            self._add_alias(entity, key, _text(alias, _LONGEST_NAME))

    def take_fact(self, item: Mapping[str, Any]) -> None:
        sentence = _text(item.get("fact"), _LONGEST_SENTENCE)
        relation = _text(item.get("relation_type"), _LONGEST_NAME)
        ends = [_text(item.get(side), _LONGEST_NAME) for side in ("source_entity_name", "target_entity_name")]
        if not sentence or not all(ends):
            return
        if self._ontology.turned(relation):
            ends.reverse()
        subject, target = self._named(ends[0]), self._named(ends[1])
        predicate = self._ontology.predicate_of(relation) or self._stated(sentence, *ends)
        value = "" if target else self._value(ends[1], predicate)
        if target is subject:
            # What is said of one thing alone ("Evan has a knee injury") is a value of it.
            target, value = None, _without_subject(sentence, ends[0])
        if subject is None or not predicate or not (target or value):
            return
        indices = item.get("episode_indices")
        ordinal = self._places.of_fact(
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
        valid_at, invalid_at = _time(item.get("valid_at")), _time(item.get("invalid_at"))
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
                    sorted(entity.ordinals | self._places.naming(entity.name, *entity.aliases.values()))
                )
                or self._places.first,
            )
            for entity in self._entities.values()
        ]
        return Extraction(entities=tuple(entities), facts=tuple(self._facts.values()))

    def _add_alias(self, entity: _Entity, key: str, alias: str) -> None:
        """An alias that the passages hold: others are what a model knows, or thinks to know."""
        spelled = normalise_name(alias)
        if spelled != key and _names_something(spelled) and self._places.naming(alias):
            entity.aliases.setdefault(spelled, alias)
            self._by_alias.setdefault(spelled, key)

    def _named(self, name: str) -> _Entity | None:
        key = normalise_name(_amount(name) or name)
        return self._entities.get(key) or self._entities.get(self._by_alias.get(key, ""))

    def _without_subject(sentence: str, subject: str) -> str:
    return sentence.removeprefix(subject).strip(" .")[:_LONGEST_NAME]


def _names_something(key: str) -> bool:
    return re.search(r"\w", key) is not None and key not in _NO_NAMES
