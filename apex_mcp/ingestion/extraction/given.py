"""What the caller gives about a document, merged with what the rules found: the caller's words win."""

import re
from collections.abc import Sequence
from dataclasses import replace

from apex_mcp.errors import InputError
from apex_mcp.ids import normalise_name
from apex_mcp.models import Chunk, EntityInput, ExtractedEntity, ExtractedFact, Extraction, FactInput

UNTYPED = "Thing"


def merge_given(
    found: Extraction,
    chunks: Sequence[Chunk],
    *,
    entities: Sequence[EntityInput] = (),
    facts: Sequence[FactInput] = (),
) -> Extraction:
    """`found` with the caller's entities and facts first.

    An entity that both name keeps the caller's name and type, with the aliases and chunks of both. The subject of a given fact
    that nothing names yet becomes an entity of type "Thing"; its object is an entity where it names one, else a plain value.

    Raises:
        InputError: a name has no letter or digit in it, or a fact has no predicate or object.
    """
    if not entities and not facts:
        return found
    merged = _Entities(found, _Places(chunks))
    for entity in entities:
        if entity.type or merged.name_of(entity.name) is None:
            merged.give(entity)
    given: dict[tuple[object, ...], ExtractedFact] = {}
    for fact in facts:
        stated = _stated(fact, merged)
        given.setdefault(_key(stated), stated)
    for fact in found.facts:
        renamed = merged.renamed(fact)
        given.setdefault(_key(renamed), renamed)
    return Extraction(entities=merged.all(), facts=tuple(given.values()))


class _Places:
    """Where in the chunks a given name or sentence stands."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = sorted(chunks, key=lambda chunk: chunk.ordinal)
        self._texts = [normalise_name(chunk.text) for chunk in self._chunks]

    def naming(self, *names: str) -> tuple[int, ...]:
        """The chunks that hold one of the names; the first chunk where none does, so that every entity has a source."""
        patterns = [
            re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in map(normalise_name, names) if name
        ]
        found = tuple(
            chunk.ordinal
            for chunk, text in zip(self._chunks, self._texts, strict=True)
            if any(pattern.search(text) for pattern in patterns)
        )
        return found or tuple(chunk.ordinal for chunk in self._chunks[:1])

    def best(self, fact: FactInput) -> int:
        """The chunk that holds the fact's sentence, or most of its words; 0 where none has any."""
        sentence = normalise_name(fact.sentence)
        if sentence:
            for chunk, text in zip(self._chunks, self._texts, strict=True):
                if sentence in text:
                    return chunk.ordinal
        wanted = set(re.findall(r"\w+", sentence or normalise_name(f"{fact.subject} {fact.object}")))
        subject = normalise_name(fact.subject)
        best, most = 0, (False, 0)
        for chunk, text in zip(self._chunks, self._texts, strict=True):
            score = (subject in text, len(wanted.intersection(re.findall(r"\w+", text))))
            if score[1] and score > most:
                best, most = chunk.ordinal, score
        return best


class _Entities:
    """Entities by the normalised forms of their names and aliases."""

    def __init__(self, found: Extraction, places: _Places) -> None:
        self.places = places
        self._given: dict[str, ExtractedEntity] = {}
        self._found = {normalise_name(entity.name): entity for entity in found.entities}
        self._found_by_alias = {
            normalise_name(alias): key for key, entity in self._found.items() for alias in entity.aliases
        }
        self._given_aliases: dict[str, str] = {}
        self._replaced: dict[str, str] = {}

    def give(self, entity: EntityInput) -> None:
        key = _checked(entity.name)
        aliases = tuple(alias for alias in entity.aliases if normalise_name(alias))
        known = self._given.get(key)
        if known:
            entity_type, name, aliases = known.type, known.name, (*known.aliases, *aliases)
        else:
            entity_type, name = entity.type.strip() or UNTYPED, entity.name.strip()
        chunks = self.places.naming(name, *aliases)
        if twin := self._twin(key, aliases):
            aliases = (*aliases, twin.name, *twin.aliases)
            chunks = (*chunks, *twin.chunks) if twin.chunks else chunks
        self._given[key] = ExtractedEntity(
            name=name, type=entity_type, aliases=_distinct(name, aliases), chunks=tuple(sorted(set(chunks)))
        )
        for alias in self._given[key].aliases:
            self._given_aliases.setdefault(normalise_name(alias), key)

    def name_of(self, name: str) -> str | None:
        """The name of the entity that `name` names, given or found."""
        key = normalise_name(name)
        if entity := self._given.get(key):
            return entity.name
        if owner := self._given_aliases.get(key):
            return self._given[owner].name
        key = self._found_by_alias.get(key, key)
        entity = self._found.get(key)
        return entity.name if entity else None

    def renamed(self, fact: ExtractedFact) -> ExtractedFact:
        """A found fact under the names that its entities have now."""
        subject = self._name_now(fact.subject)
        target = self._name_now(fact.object) if fact.object_is_entity else fact.object
        return replace(fact, subject=subject, object=target)

    def _name_now(self, name: str) -> str:
        owner = self._replaced.get(normalise_name(name))
        return self._given[owner].name if owner else name

    def all(self) -> tuple[ExtractedEntity, ...]:
        return (*self._given.values(), *self._found.values())

    def _twin(self, key: str, aliases: tuple[str, ...]) -> ExtractedEntity | None:
        """Takes out the found entity that the given one names, by its name first, then by an alias of either."""
        keys = (key, *map(normalise_name, aliases))
        for candidate in (*keys, *(self._found_by_alias.get(name, "") for name in keys)):
            if twin := self._found.pop(candidate, None):
                self._replaced[candidate] = key
                return twin
        return None


def _stated(fact: FactInput, entities: _Entities) -> ExtractedFact:
    _checked(fact.subject)
    predicate, target = fact.predicate.strip(), fact.object.strip()
    if not predicate or not target:
        raise InputError(
            "a given fact has no predicate or no object",
            unchanged="the document was not stored",
            next_step="give each fact a subject, a predicate and an object",
        )
    if entities.name_of(fact.subject) is None:
        entities.give(EntityInput(name=fact.subject, type=UNTYPED))
    subject = entities.name_of(fact.subject) or fact.subject.strip()
    named = entities.name_of(target)
    sentence = fact.sentence.strip() or f"{subject} {predicate.replace('_', ' ')} {target}"
    return ExtractedFact(
        subject=subject,
        predicate=predicate,
        object=named or target,
        sentence=sentence,
        chunk=entities.places.best(fact),
        object_is_entity=named is not None,
        valid_at=fact.valid_at,
        invalid_at=fact.invalid_at,
    )


def _checked(name: str) -> str:
    key = normalise_name(name)
    if not re.search(r"\w", key):
        raise InputError(
            "a given entity's name has no letter or digit",
            unchanged="the document was not stored",
            next_step="give each entity, and each fact's subject, a name",
        )
    return key


def _distinct(name: str, aliases: Sequence[str]) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for alias in aliases:
        kept.setdefault(normalise_name(alias), alias.strip())
    kept.pop(normalise_name(name), None)
    return tuple(kept.values())


def _key(fact: ExtractedFact) -> tuple[object, ...]:
    return normalise_name(fact.subject), fact.predicate, normalise_name(fact.object), fact.valid_at
