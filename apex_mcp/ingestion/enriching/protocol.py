"""What a model is asked: what a text says, whether two names mean one thing, and which facts a new one ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from apex_mcp.models import Extraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage that a model reads; `ordinal` is the chunk's."""

    ordinal: int
    text: str
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageGroup:
    """What goes into one request: passages of one document that stand together.

    Attributes:
        reference_time: the document's own date, against which "last May" is resolved; None if it has none.
        known_names: names that earlier groups of the document gave, so that they are used again.
    """

    title: str
    passages: tuple[Passage, ...]
    reference_time: datetime | None = None
    known_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What requests cost; `seconds` are the model's own, without waiting for a turn to ask."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            seconds=round(self.seconds + other.seconds, 3),
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests - other.requests,
            tokens_in=self.tokens_in - other.tokens_in,
            tokens_out=self.tokens_out - other.tokens_out,
            seconds=round(self.seconds - other.seconds, 3),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Two entities of which it is not certain whether they are one; each with its type and what is said of it."""

    name: str
    type: str
    said: tuple[str, ...]
    other_name: str
    other_type: str
    other_said: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """A new fact, and older ones of the same subject that it may have ended; sentences, with what is known of their times."""

    sentence: str
    valid_at: datetime | None
    older: tuple[str, ...] = field(default_factory=tuple)


class Meter(Protocol):
    """Counts requests one by one as they go out, answered or not."""

    async def begin(self, estimate: Usage, longest_answer: int) -> Usage:
        """Before one is sent; what is reserved for it, which is what it costs should nothing be heard of it any more.

        Args:
            estimate: what it is likely to cost.
            longest_answer: tokens that its answer should be allowed. Less may be granted, as `tokens_out` of what is
                reserved, but never less than is likely.

        Raises:
            Rejected: too little is left to spend (`budget_spent`).
            Unavailable: it cannot be noted.
        """
        ...

    async def end(self, reserved: Usage, cost: Usage) -> None:
        """After it, whatever came of it: what it cost instead."""
        ...


class Unmetered:
    """Where nobody counts."""

    async def begin(self, estimate: Usage, longest_answer: int) -> Usage:
        """See `Meter`."""
        return replace(estimate, tokens_out=longest_answer)

    async def end(self, reserved: Usage, cost: Usage) -> None:
        """See `Meter`."""


UNMETERED: Meter = Unmetered()


class Extractor(Protocol):
    """A model behind an endpoint. Answers are plain data: whoever calls stores them and never asks again.

    Every call raises `Unavailable` (`model_unavailable`) when the same call may work later, and `Rejected`
    (`provider_rejected`, `model_answer_unusable`) when asking again will not help. Each request that it sends is told to the
    meter, which may refuse it.
    """

    @property
    def name(self) -> str:
        """Identity of model, instructions and ontology: answers under another name are not this one's."""
        ...

    def tokens_to_ask(self, group: PassageGroup) -> int:
        """About how many tokens `extract` sends, whatever is answered."""
        ...

    async def extract(self, group: PassageGroup, meter: Meter = UNMETERED) -> tuple[Extraction, Usage]:
        """Entities with types of the ontology, and facts with specific predicates, each with the ordinal it stands in.

        Every fact's subject is an entity of the answer; what the model left dangling, untyped or empty is not in it.
        """
        ...

    async def same(
        self, doubts: Sequence[Doubt], meter: Meter = UNMETERED
    ) -> tuple[list[bool | None], Usage]:
        """For each doubt whether both are one thing; None where the model does not say."""
        ...

    async def ended(
        self, clashes: Sequence[Clash], meter: Meter = UNMETERED
    ) -> tuple[list[tuple[int, ...] | None], Usage]:
        """For each clash the positions of the older facts that the new one ended; None where the model does not say."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
