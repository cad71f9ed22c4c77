"""Entities and facts by rules alone: no model, no network. They would rather miss than invent; see `docs/extraction.md`."""

import re
from collections.abc import Sequence
from datetime import datetime

from apex_mcp.ingestion.extraction.dates import find_dates
from apex_mcp.ingestion.extraction.facts import Statement, find_facts
from apex_mcp.ingestion.extraction.given import merge_given
from apex_mcp.ingestion.extraction.locate import ChunkLocator
from apex_mcp.ingestion.extraction.mentions import Kind, without_overlaps
from apex_mcp.ingestion.extraction.money import find_money
from apex_mcp.ingestion.extraction.organizations import find_organizations
from apex_mcp.ingestion.extraction.people import find_people
from apex_mcp.ingestion.extraction.places import find_places
from apex_mcp.ingestion.extraction.subjects import find_shown
from apex_mcp.ingestion.extraction.topics import find_topics
from apex_mcp.ingestion.extraction.unify import Named, unify
from apex_mcp.ingestion.extraction.values import find_ids, find_values
from apex_mcp.ingestion.extraction.words import Words
from apex_mcp.ingestion.extraction.workplaces import find_workplaces
from apex_mcp.models import (
    Chunk,
    EntityInput,
    ExtractedEntity,
    ExtractedFact,
    Extraction,
    FactInput,
    ParsedDocument,
)

MAX_ENTITIES = 500
MAX_FACTS = 500
MAX_ALIASES = 8

_FENCE = re.compile(r"^[ \t]{0,3}(?P<mark>```|~~~)[^\n]*$", re.MULTILINE)
_NO_PROSE = re.compile(
    r"`[^`\n]{1,200}`|!\[[^\]\n]{0,200}\]\([^)\s]{0,2000}\)|<[/!]?[a-zA-Z][^<>@\n]{0,300}>"
)


def extract(
    document: ParsedDocument,
    chunks: Sequence[Chunk],
    *,
    given_entities: Sequence[EntityInput] = (),
    given_facts: Sequence[FactInput] = (),
) -> Extraction:
    """What the rules find in `document`, merged with what the caller gives.

    At most `MAX_ENTITIES` entities and `MAX_FACTS` facts are found in one document: those of facts first, then those that
    it names most often. What the caller gives is not counted.

    Raises:
        InputError: something that the caller gave has no name, predicate or object.
    """
    found = _found(document, ChunkLocator(chunks))
    return merge_given(found, chunks, entities=given_entities, facts=given_facts)


def _found(document: ParsedDocument, locator: ChunkLocator) -> Extraction:
    text = _without_code(document.text)
    values = list(find_values(text))
    text = _blanked(text, sorted((mention.start, mention.end) for mention in values))
    words = Words(text)
    plain = [*values, *find_ids(text), *find_dates(text), *find_money(text)]
    organizations = list(find_organizations(words))
    people = list(find_people(words))
    organizations += find_workplaces(words, organizations, people)
    names = [*organizations, *people, *find_places(words)]
    mentions = without_overlaps([*plain, *names])
    shown = list(find_shown(text, document.title, mentions))
    mentions = without_overlaps([*mentions, *(fact.subject for fact in shown)])
    entities = unify(words, [*mentions, *find_topics(document.headings)])
    in_order = [
        mention for entity in entities for mention in entity.mentions if mention.kind is not Kind.TOPIC
    ]
    in_order.sort(key=lambda mention: mention.start)
    return _limited(entities, list(find_facts(document.text, in_order, shown)), locator)


def _without_code(text: str) -> str:
    """The text with code, images and tags blanked out; offsets stay."""
    spans: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text) if "```" in text or "~~~" in text else ():
        if opened is None:
            opened = fence
        elif fence["mark"] == opened["mark"]:
            spans.append((opened.start(), fence.end()))
            opened = None
    return _NO_PROSE.sub(lambda match: "\x00" * len(match.group()), _blanked(text, spans))


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for start, end in spans:
        if start < position:
            continue
        parts += (text[position:start], "\x00" * (end - start))
        position = end
    return "".join((*parts, text[position:]))


def _limited(entities: list[Named], statements: list[Statement], locator: ChunkLocator) -> Extraction:
    """The extraction within its limits, in the order of the text."""
    owners = {
        mention.start: entity
        for entity in entities
        for mention in entity.mentions
        if mention.kind is not Kind.TOPIC
    }
    facts: dict[tuple[str, str, str, datetime | None], ExtractedFact] = {}
    in_facts: set[str] = set()
    for statement in sorted(statements, key=lambda item: item.start):
        subject = owners.get(statement.subject.start)
        target = owners.get(statement.object.start) if statement.object else None
        if (
            len(facts) == MAX_FACTS
            or subject is None
            or (statement.object and target is None)
            or subject is target
        ):
            continue
        named = {subject.name, target.name} if target else {subject.name}
        if len(in_facts) + len(named - in_facts) > MAX_ENTITIES:
            continue
        fact = _fact(statement, subject, target, locator)
        facts.setdefault((fact.subject, fact.predicate, fact.object, fact.valid_at), fact)
        in_facts |= named
    ranked = sorted(entities, key=lambda entity: (entity.name not in in_facts, -len(entity.mentions)))
    kept = sorted(ranked[:MAX_ENTITIES], key=lambda entity: entity.mentions[0].start)
    return Extraction(
        entities=tuple(_entity(entity, locator) for entity in kept), facts=tuple(facts.values())
    )


def _entity(entity: Named, locator: ChunkLocator) -> ExtractedEntity:
    chunks = {
        ordinal for mention in entity.mentions for ordinal in locator.ordinals(mention.start, mention.end)
    }
    return ExtractedEntity(
        name=entity.name,
        type=str(entity.kind),
        aliases=entity.aliases[:MAX_ALIASES],
        chunks=tuple(sorted(chunks)),
    )


def _fact(statement: Statement, subject: Named, target: Named | None, locator: ChunkLocator) -> ExtractedFact:
    ordinals = locator.ordinals(statement.start, statement.start)
    return ExtractedFact(
        subject=subject.name,
        predicate=statement.predicate,
        object=target.name if target else statement.value,
        sentence=statement.sentence,
        chunk=ordinals[0] if ordinals else 0,
        object_is_entity=target is not None,
        valid_at=statement.valid_at,
        invalid_at=statement.invalid_at,
    )
