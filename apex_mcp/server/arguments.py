"""Types of tool arguments, shared by the tools, with what a model should know of each."""

from typing import Annotated, Any, cast
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from apex_mcp.models import EntityInput, FactInput
from apex_mcp.times import moment

MAX_WAIT_SECONDS = 50.0  # below the 60 s at which common clients give a call up


def _blank_if_none(value: Any) -> Any:
    return "" if value is None else value


def _none_if_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


# A plain `str` with "" for "not given": for `str | None` the SDK would parse a text that looks like JSON.
Text = Annotated[str, BeforeValidator(_blank_if_none)]
Id = Annotated[UUID | None, BeforeValidator(_none_if_blank)]
Object = Annotated[dict[str, Any] | None, BeforeValidator(_none_if_blank)]

Namespace = Annotated[Text, Field(description="Which memory, e.g. 'work'.")]
Metadata = Annotated[Object, Field(description='For filters, e.g. {"project": "apollo", "year": 2026}.')]
DocumentTime = Annotated[Text, Field(description="When it is from, e.g. 2026-03-01 or 2026-03-01T09:30:00Z.")]
Title = Annotated[Text, Field(description="Source to show, e.g. 'Minutes of 1 March'.")]
Key = Annotated[
    Text, Field(description="Stable name, e.g. 'user/address'; the same key again makes a new version.")
]
IdempotencyKey = Annotated[Text, Field(description="Makes repeating the call safe, e.g. 'import-42'.")]


class Entity(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    type: str = Field(description="e.g. person, organisation")
    aliases: list[str] = Field(default_factory=list[str])


class Fact(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subject: str = Field(description="entity, e.g. Ada")
    predicate: str = Field(description="e.g. works_at")
    object: str = Field(description="entity or plain value")
    sentence: Text = Field(default="", description="in words")
    valid_at: Text = Field(default="", description="true from, e.g. 2024-05-01")
    invalid_at: Text = Field(default="", description="true until")


Entities = Annotated[
    list[Entity] | None,
    Field(description="Who and what it names, if you know."),
]
Facts = Annotated[
    list[Fact] | None,
    Field(description="What it states, if you know."),
]


def entity_inputs(entities: list[Entity] | None) -> tuple[EntityInput, ...]:
    return tuple(
        EntityInput(name=entity.name, type=entity.type, aliases=tuple(entity.aliases))
        for entity in entities or ()
    )


def fact_inputs(facts: list[Fact] | None) -> tuple[FactInput, ...]:
    return tuple(
        FactInput(
            subject=fact.subject,
            predicate=fact.predicate,
            object=fact.object,
            sentence=fact.sentence,
            valid_at=moment("valid_at", fact.valid_at),
            invalid_at=moment("invalid_at", fact.invalid_at),
        )
        for fact in facts or ()
    )


def is_encodable(value: object) -> bool:
    """Whether all text in an argument is Unicode; a lone surrogate fits in no store and no answer."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return False
            return True
        case dict():
            items = cast(dict[object, object], value)
            return all(is_encodable(name) and is_encodable(item) for name, item in items.items())
        case list():
            return all(is_encodable(item) for item in cast(list[object], value))
        case _:
            return True
