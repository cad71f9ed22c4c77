"""What must be true of each document, from what was sent, what was acknowledged, and what was seen."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from tests.chaos.documents import Marks, Shape, marks

FAILED = frozenset({"rolled_back", "cancelled"})
# What may end an ingestion while processes are killed; every other reason is a finding.
ALLOWED_REASONS = frozenset({"parser_crashed", "cancelled"})


@dataclass(slots=True)
class Told:
    """An ingestion that was acknowledged."""

    ingestion_id: UUID
    version: int
    namespace: str
    acknowledged_at: float
    state: str = ""
    reason: str = ""


@dataclass(slots=True)
class Document:
    """One document, as its clients know it.

    Attributes:
        sent: versions that may be there, whether or not somebody was told so.
        open_sends: calls under way, by version.
        told: ingestions that were acknowledged, by id.
        floor: a version that was visible; only later ones may be seen from then on.
        epoch: raised by each forget that is sent.
        forgotten_to: a forget was acknowledged after these versions were sent.
        forgets: calls to forget that are under way.
    """

    number: int
    shape: Shape
    namespace: str
    sent: set[int] = field(default_factory=set[int])
    open_sends: Counter[int] = field(default_factory=Counter[int])
    told: dict[UUID, Told] = field(default_factory=dict[UUID, Told])
    floor: int = 0
    epoch: int = 0
    forgotten_to: int = 0
    forgets: int = 0

    @property
    def key(self) -> str:
        return f"log/{self.number}"

    def marks(self, version: int) -> Marks:
        return marks(self.number, version)

    @property
    def word(self) -> str:
        return self.marks(1).document

    def versions_in(self, text: str) -> set[int]:
        """Versions of which a mark stands in a text."""
        return {version for version in self.sent if any(word in text for word in self.marks(version).all)}

    def send(self, version: int) -> None:
        """A version is about to be sent."""
        self.sent.add(version)
        self.open_sends[version] += 1

    def acknowledge(self, told: Told) -> None:
        """The call of `send` was answered."""
        self.open_sends[told.version] -= 1
        # The same content among unfinished ingestions is the first one's.
        if told.ingestion_id in self.told:
            return
        self.told[told.ingestion_id] = told

    def end(self, ingestion_id: UUID, state: str, reason: str) -> None:
        """An ingestion is over."""
        told = self.told[ingestion_id]
        told.state, told.reason = state, reason
        if state in ("ready", "unchanged"):
            self.see(told.version)

    def see(self, version: int) -> None:
        """A version is visible: from now on it, or a later one, is."""
        if version > self.forgotten_to and not self.forgets:
            self.floor = max(self.floor, version)

    def begin_forgetting(self) -> None:
        self.forgets += 1
        self.epoch += 1
        self.floor = 0

    def end_forgetting(self) -> None:
        self.forgets -= 1
        self.epoch += 1
        self.floor = 0
        self.forgotten_to = max(self.sent)

    def failed(self, version: int) -> bool:
        """Whether all that was told of a version is that it failed, and nothing of it is under way."""
        told = [one for one in self.told.values() if one.version == version]
        return bool(told) and not self.open_sends[version] and all(one.state in FAILED for one in told)

    @property
    def forgotten_marks(self) -> set[str]:
        """Words of versions that nothing may hold any more."""
        return {word for one in self.sent if one <= self.forgotten_to for word in self.marks(one).all}

    def expected(self) -> int | None:
        """The version that must be current once everything is over; None where nothing may be there."""
        standing = [
            one.version
            for one in self.told.values()
            if one.state in ("ready", "unchanged", "superseded") and one.version > self.forgotten_to
        ]
        return max(standing, default=None)


@dataclass(slots=True)
class Model:
    """All documents, and what was found wrong, with the moment; `say` is told of it at once."""

    documents: dict[int, Document] = field(default_factory=dict[int, Document])
    violations: list[str] = field(default_factory=list[str])
    say: Callable[[str], None] = lambda _: None
    checks: int = 0
    now: Callable[[], float] = time.monotonic

    def document(self, number: int, shape: Shape) -> Document:
        """The document of a number; two memories, so that one can be seen in the other."""
        if number not in self.documents:
            self.documents[number] = Document(number, shape, f"chaos-{number % 2}")
        return self.documents[number]

    def violated(self, words: str) -> None:
        if not any(one.endswith(f" s: {words}") for one in self.violations):
            self.violations.append(f"{self.now():.1f} s: {words}")
            self.say(f"VIOLATED: {self.violations[-1]}")

    def unfinished(self) -> list[tuple[Document, Told]]:
        return [
            (one, told)
            for one in list(self.documents.values())
            for told in list(one.told.values())
            if not told.state
        ]
