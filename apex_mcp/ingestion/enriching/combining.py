"""The answers about a document's parts as one: each thing once, each statement once."""

from collections import Counter
from collections.abc import Sequence

from apex_mcp.ids import normalise_name
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction


def combine(parts: Sequence[Extraction]) -> Extraction:
    """One extraction: a name that several parts give is one entity, of the type that most of them say."""
    groups: dict[str, list[ExtractedEntity]] = {}
    for part in parts:
        for entity in part.entities:
            if normalise_name(entity.name):
                groups.setdefault(normalise_name(entity.name), []).append(entity)
    entities = tuple(_one(same) for same in groups.values())
    facts: dict[tuple[object, ...], ExtractedFact] = {}
    for part in parts:
        for fact in part.facts:
            key = (
                normalise_name(fact.subject), fact.predicate, normalise_name(fact.object), fact.valid_at, fact.invalid_at,
            )  # fmt: skip
            if key[0] in groups:
                facts.setdefault(key, fact)
    return Extraction(
        entities=entities, facts=tuple(facts.values()), ungrounded=sum(part.ungrounded for part in parts)
    )


def _one(same: Sequence[ExtractedEntity]) -> ExtractedEntity:
    name = same[0].name
    aliases = {
        normalise_name(alias): alias
        for entity in same
        for alias in entity.aliases
        if normalise_name(alias) not in ("", normalise_name(name))
    }
    return ExtractedEntity(
        name=name,
        type=Counter(entity.type for entity in same).most_common(1)[0][0],
        aliases=tuple(aliases.values()),
        chunks=tuple(sorted({ordinal for entity in same for ordinal in entity.chunks})),
    )
