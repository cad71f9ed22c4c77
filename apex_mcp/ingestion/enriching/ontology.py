"""The kinds of things and of facts that a memory knows: the package's own, or a file of the user's."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apex_mcp.errors import Code, Rejected
from apex_mcp.ids import normalise_type
from apex_mcp.models import Exclusive
from apex_mcp.settings import Settings

_MAX_FILE_BYTES = 1_000_000

# What says only that there is a relation, and not which.
_SAYS_NOTHING = frozenset(
    "relates_to related_to is_related_to related has_relation relation relationship has_relationship is was are has have "
    "associated_with is_associated_with association connected_to linked_to mentions mentioned mentioned_in mentioned_with "
    "involves other unknown none fact edge has_fact states property attribute has_property has_attribute".split()
)
_IDLE_FIRST = re.compile(
    r"^(?:(?:is|was|are|were|be|been|has|have|had|the|currently|now|also|being|became)_)+"
)
# Of these alone no relation is made: "Jane Doe and Initech", "the roof with the chimney".
_FUNCTION_WORDS = frozenset(
    "a an the and or nor but as at by for from in into of off on onto out over per so than to under up via with within without "
    "again all although always also any both each either else even every hence how however if indeed instead just like maybe "
    "more most much neither never next no not now only other otherwise perhaps plus quite rather since some still such then "
    "there therefore though thus together too versus very vs what when where whereas whether which while who whom whose why yet "
    "is are was were be been being has have had do does did can could may might must shall should will would "
    "i you he she it we they his her its our their my your this that these those "
    "und oder aber auch sowie wie bis als mit von bei zu im am der die das ein eine et ou avec pour de la le y con el e o".split()
)
_LONGEST_PREDICATE = 60

PredicateName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$", max_length=_LONGEST_PREDICATE)
]
TypeName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9 ]*$", max_length=40)]
Description = Annotated[str, Field(min_length=1, max_length=300)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntityType(_Strict):
    """A kind of thing; `aliases` are other words that a model may use for it."""

    name: TypeName
    description: Description
    aliases: tuple[str, ...] = ()


class Predicate(_Strict):
    """A kind of fact.

    Attributes:
        subject, object: types that stand on its two sides; empty allows all.
        exclusive: of what there is one at a time: an `object` for a subject (true says the same), a `subject` for an object,
            or both.
        inverse_aliases: words that say it from the object's side ("employs" for `works_at`).
    """

    name: PredicateName
    description: Description
    subject: tuple[TypeName, ...] = ()
    object: tuple[TypeName, ...] = ()
    exclusive: bool | Literal["object", "subject", "both"] = False
    aliases: tuple[str, ...] = ()
    inverse_aliases: tuple[str, ...] = ()


class OntologyFile(_Strict):
    """What a file of an ontology holds."""

    extends: Literal["default"] | None = None
    fallback_type: TypeName | None = None
    entity_types: tuple[EntityType, ...] = ()
    predicates: tuple[Predicate, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_twins("entity type", [one.name for one in self.entity_types])
        _refuse_twins("predicate", [one.name for one in self.predicates])
        _refuse_shared(
            "entity types",
            {
                one.name: {" ".join(_words(word)) for word in (one.name, *one.aliases)}
                for one in self.entity_types
            },
        )
        _refuse_shared(
            "predicates",
            {
                one.name: {_snake(word) for word in (one.name, *one.aliases, *one.inverse_aliases)}
                for one in self.predicates
            },
        )
        for one in self.predicates:
            if one.name in _SAYS_NOTHING:
                raise ValueError(f"the predicate {one.name} says nothing of a relation: name what it is")
            straight, turned = {_snake(word) for word in one.aliases}, {*map(_snake, one.inverse_aliases)}
            for word in sorted((straight | turned) & _SAYS_NOTHING):
                raise ValueError(
                    f"the predicate {one.name} has the word {word}, which says nothing of a relation"
                )
            for word in sorted(turned & {one.name, *straight}):
                raise ValueError(f"the predicate {one.name} has the word {word} for both of its sides")
        return self


class Ontology(_Strict):
    """Entity types and predicates, whole and consistent."""

    fallback_type: TypeName
    entity_types: Annotated[tuple[EntityType, ...], Field(min_length=1)]
    predicates: tuple[Predicate, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        types = [one.name for one in self.entity_types]
        _refuse_twins("entity type", types)
        _refuse_twins("predicate", [one.name for one in self.predicates])
        if self.fallback_type not in types:
            raise ValueError(f"fallback_type {self.fallback_type} is none of the entity types")
        for predicate in self.predicates:
            for name in (*predicate.subject, *predicate.object):
                if name not in types:
                    raise ValueError(
                        f"predicate {predicate.name} names the entity type {name}, which is none"
                    )
        return self

    @cached_property
    def exclusive(self) -> Exclusive:
        """Predicates of which a subject has one object at a time, and those of which an object has one subject."""
        return Exclusive(
            objects=frozenset(
                one.name for one in self.predicates if one.exclusive in (True, "object", "both")
            ),
            subjects=frozenset(one.name for one in self.predicates if one.exclusive in ("subject", "both")),
        )

    @cached_property
    def of_anything(self) -> frozenset[str]:
        """Predicates whose object may be anything, a plain value too ("delayed")."""
        return frozenset(one.name for one in self.predicates if not one.object)

    def type_of(self, name: str) -> str | None:
        """The entity type that a word means ("Software Company" is an Organization); None where it means none."""
        words = _words(name)
        if not words:
            return None
        whole = " ".join(words)
        for candidate in (whole, _singular(whole), words[-1], _singular(words[-1])):
            if found := self._types_by_word.get(candidate):
                return found
        return None

    def predicate_of(self, text: str) -> str:
        """The predicate that a relation means; a snake_case of its own where none does, "" where it says nothing."""
        spelled = _snake(text)
        for candidate in (spelled, _IDLE_FIRST.sub("", spelled)):
            if found := self._predicates_by_word.get(candidate):
                return found
        if spelled in _SAYS_NOTHING or _FUNCTION_WORDS.issuperset(spelled.split("_")):
            return ""
        if not re.search(r"[^\W\d_]", spelled):
            return ""
        return spelled

    def known_predicate(self, text: str) -> str | None:
        """The ontology's predicate that a caller's word means, also for what one has ("employer"); None where it means none."""
        has = f"has {text}"
        for candidate in (text,) if self.turned(has) else (text, has):
            if (found := self.predicate_of(candidate)) in self._predicates_by_word:
                return found
        return None

    def turned(self, text: str) -> bool:
        """Whether a relation is said from the object's side, so that subject and object must change places."""
        spelled = _snake(text)
        return any(word in self._turned for word in (spelled, _IDLE_FIRST.sub("", spelled)))

    @cached_property
    def phrases(self) -> tuple[tuple[str, str], ...]:
        """Words of running text and the predicates they state, the longest first ("works for", `works_at`)."""
        found = [
            (word.replace("_", " "), name)
            for word, name in self._predicates_by_word.items()
            if word not in self._turned and ("_" in word or len(word) > 5)
        ]
        return tuple(sorted(found, key=lambda pair: (-len(pair[0]), pair[0])))

    @cached_property
    def _types_by_word(self) -> dict[str, str]:
        found = {" ".join(_words(alias)): one.name for one in self.entity_types for alias in one.aliases}
        return found | {" ".join(_words(one.name)): one.name for one in self.entity_types}

    @cached_property
    def _predicates_by_word(self) -> dict[str, str]:
        found = {
            _snake(alias): one.name
            for one in reversed(self.predicates)
            for alias in (*one.inverse_aliases, *one.aliases)
        }
        return found | {one.name: one.name for one in self.predicates}

    @cached_property
    def _turned(self) -> frozenset[str]:
        words = {_snake(alias) for one in self.predicates for alias in one.inverse_aliases}
        straight = {_snake(alias) for one in self.predicates for alias in (one.name, *one.aliases)}
        return frozenset(words - straight)


def load_ontology(settings: Settings) -> Ontology:
    """The ontology that the settings name, or the package's own.

    Raises:
        Rejected: the file cannot be read, or is no ontology (`settings_invalid`); the message names the place.
    """
    return default_ontology() if settings.ontology is None else _load(settings.ontology)


@cache
def default_ontology() -> Ontology:
    """The package's own."""
    import yaml

    text = files("apex_mcp.ingestion.enriching").joinpath("ontology.yaml").read_text("utf-8")
    return Ontology.model_validate(yaml.safe_load(text))


def _load(path: Path) -> Ontology:
    content = _read(path)
    try:
        given = OntologyFile.model_validate(content)
        if given.extends:
            return _extended(default_ontology(), given)
        return Ontology.model_validate({
            "fallback_type": given.fallback_type or _fallback(given.entity_types),
            "entity_types": given.entity_types,
            "predicates": given.predicates,
        })
    except ValidationError as error:
        raise _invalid(path, _places(error)) from None


def _read(path: Path) -> Any:
    import yaml

    try:
        data = path.read_bytes()
        if len(data) > _MAX_FILE_BYTES:
            raise _invalid(path, f"it is larger than {_MAX_FILE_BYTES:,} bytes")
        text = data.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_once)
        return _from_yaml(text)
    except _TwiceError as error:
        raise _invalid(path, str(error)) from None
    except OSError as error:
        raise _invalid(path, f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise _invalid(path, "it is no UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _invalid(path, f"it is no JSON, at line {error.lineno}, column {error.colno}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _invalid(path, f"it is no YAML{place}") from None


class _TwiceError(Exception):
    """One key stands twice in a mapping: which of the two counts could only be guessed."""

    def __init__(self, key: str, place: str = "") -> None:
        super().__init__(f"the key {key} stands there twice{place}")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise _TwiceError(key)
        mapping[key] = value
    return mapping


def _from_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            known: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in known:
                        mark = key.start_mark
                        raise _TwiceError(key.value, f", at line {mark.line + 1}, column {mark.column + 1}")
                    known.add(key.value)
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)


def _extended(base: Ontology, given: OntologyFile) -> Ontology:
    """`base` with what is given added; what has the name of something in `base` takes its place."""
    types = {one.name: one for one in (*base.entity_types, *given.entity_types)}
    predicates = {one.name: one for one in (*base.predicates, *given.predicates)}
    # A word that the user's file claims is no longer an alias of anything else.
    claimed_types = {
        " ".join(_words(word)) for one in given.entity_types for word in (one.name, *one.aliases)
    }
    claimed = {
        _snake(word) for one in given.predicates for word in (one.name, *one.aliases, *one.inverse_aliases)
    }
    own_types, own = {one.name for one in given.entity_types}, {one.name for one in given.predicates}
    return Ontology(
        fallback_type=given.fallback_type or base.fallback_type,
        entity_types=tuple(
            one if one.name in own_types else one.model_copy(update={
                "aliases": tuple(word for word in one.aliases if " ".join(_words(word)) not in claimed_types)})
            for one in types.values()
        ),
        predicates=tuple(
            one if one.name in own else one.model_copy(update={
                "aliases": tuple(word for word in one.aliases if _snake(word) not in claimed),
                "inverse_aliases": tuple(word for word in one.inverse_aliases if _snake(word) not in claimed)})
            for one in predicates.values()
        ),
    )  # fmt: skip


def _fallback(types: Sequence[EntityType]) -> str:
    """The type of what fits none, where the file does not say: Topic, else the last one."""
    names = [one.name for one in types]
    return "Topic" if "Topic" in names or not names else names[-1]


def _refuse_twins(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the {what} {name} stands there twice")


def _refuse_shared(what: str, words: Mapping[str, Collection[str]]) -> None:
    """Refuse a word by which two of these are known: which one a model means could not be told."""
    known: dict[str, str] = {}
    for name, own in words.items():
        for word in own:
            if word in known:
                raise ValueError(f"the {what} {known[word]} and {name} have the word {word} both")
            known[word] = name


def _places(error: ValidationError) -> str:
    said: list[str] = []
    for item in error.errors(include_url=False, include_input=False)[:3]:
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        said.append(f"{place}: {message}" if place else message)
    return "; ".join(said)


def _invalid(path: Path, why: str) -> Rejected:
    return Rejected(
        f"APEX_ONTOLOGY names {path.name}, which is no ontology: {why}",
        code=Code.SETTINGS_INVALID,
        next_step="correct the file; docs/ontology.md says what it may hold",
    )


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", normalise_type(name))
    return re.findall(r"\w+", apart.replace("_", " ").casefold())


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _snake(text: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text.strip())
    snake = re.sub(r"[^\w]+|_+", "_", apart.casefold()).strip("_")
    if len(snake) > _LONGEST_PREDICATE:
        snake = snake[:_LONGEST_PREDICATE].rpartition("_")[0] or snake[:_LONGEST_PREDICATE]
    return snake
