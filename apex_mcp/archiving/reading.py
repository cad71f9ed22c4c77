"""An archive as it is read: checked whole before anything of it is used, then version by version."""

import math
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

from pydantic import ValidationError

from apex_mcp.archiving.container import ContainerReader, damaged
from apex_mcp.archiving.histories import Histories
from apex_mcp.archiving.lines import (
    FORMAT,
    LINES,
    ORIGINALS,
    VERSION,
    AnswerLine,
    ChunkLine,
    EndLine,
    EntityLine,
    FactLine,
    Line,
    LinkLine,
    NamespaceLine,
    NameVectorLine,
    RevisionLine,
    SplitLine,
    TombstoneLine,
    VectorLine,
    VersionLine,
)
from apex_mcp.stores.record.tombstones import ForgetKey, Tombstone
from apex_mcp.stores.vectors.packing import unpack

LineT = TypeVar("LineT", bound=Line)
SectionT = TypeVar("SectionT", RevisionLine, LinkLine, EndLine, SplitLine, NameVectorLine)

_OF_NAMESPACES = (RevisionLine, LinkLine, EndLine, SplitLine, NameVectorLine)
_OF_VERSIONS = (VersionLine, ChunkLine, VectorLine, EntityLine, FactLine, AnswerLine)
# Of one version, of each kind.
_MAX_PARTS = 1_000_000
_HASH_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A version with all that hangs on it; `vectors` where each passage has one."""

    version: VersionLine
    chunks: list[ChunkLine]
    vectors: list[bytes] | None
    entities: list[EntityLine]
    facts: list[FactLine]
    answers: list[AnswerLine]


class ArchiveReader:
    """One archive. A context manager.

    Attributes:
        container: the file around it.
        embedder: whose vectors it holds.

    Args:
        path: the file.
        max_text_chars: longest text of one version.

    Raises:
        InputError: it is no archive, or damaged.
        Conflict: a newer apex-mcp made it.
    """

    def __init__(self, path: Path, *, max_text_chars: int) -> None:
        self.container = ContainerReader(path, kind=FORMAT, version=VERSION, may_hold=_may_hold)
        embedder = self.container.manifest.get("embedder")
        self.embedder: str | None = embedder if isinstance(embedder, str) else None
        # Six bytes a character is the longest that JSON writes, and a version says little besides its text.
        self._max_line_bytes = 6 * max_text_chars + 16_000_000
        self._max_text_chars = max_text_chars
        self._read: dict[str, int] = {}
        self._documents = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.__exit__(kind, error, trace)

    def check(self) -> Iterator[int]:
        """Read all of it, and every line: yields the bytes that were looked at.

        Raises:
            InputError: something is not what the manifest or docs/archive.md says; the message names member and line.
        """
        if missing := [name for name in LINES if name not in self.container.names]:
            raise damaged(f"it has no {missing[0]}")
        for name in self.container.names:
            for piece in self.container.pieces(name):
                yield len(piece)
        places = self._places()
        for name, kind in LINES.items():
            if kind not in _OF_VERSIONS:
                self._check_order(name, kind, places)
        for _ in self.bundles():
            yield 0
        told = Counter(line.namespace for line in self._lines("revisions.jsonl", RevisionLine))
        for number, line in enumerate(self._lines("namespaces.jsonl", NamespaceLine), start=1):
            if line.revision > told[line.name]:
                raise _bad("namespaces.jsonl", number, "not all of its revisions are there")
        for name in LINES:
            if self._read.get(name, 0) != self.container.lines_of(name):
                raise damaged(f"{name} has another number of lines than the manifest says")
        self._check_manifest()

    def namespaces(self) -> list[NamespaceLine]:
        """What the archive holds, by namespace."""
        return list(self._lines("namespaces.jsonl", NamespaceLine))

    def sections(self, kind: type[SectionT]) -> "Sections[SectionT]":
        """The lines of a kind, namespace by namespace."""
        [name] = [name for name, of in LINES.items() if of is kind]
        return Sections(self._lines(name, kind), self._places())

    def _check_manifest(self) -> None:
        """Once all was read: whether the manifest says in short what the members say."""
        told = self.container.manifest
        names = [one.name for one in self.namespaces()]
        if told.get("namespaces") != names or len(set(names)) < len(names):
            raise damaged("its namespaces are not those of its manifest, or one stands there twice")
        counts = {name.removesuffix(".jsonl"): self.container.lines_of(name) for name in LINES}
        if told.get("counts") != {"documents": self._documents, **counts}:
            raise damaged("the counts of its manifest are not those of its members")

    def _places(self) -> dict[str, int]:
        return {one.name: place for place, one in enumerate(self.namespaces())}

    def tombstones(self) -> tuple[list[ForgetKey], list[Tombstone]]:
        """What was forgotten where the archive was made."""
        keys: dict[UUID, ForgetKey] = {}
        tombstones: list[Tombstone] = []
        for line in self._lines("tombstones.jsonl", TombstoneLine):
            keys.setdefault(line.key, ForgetKey(id=line.key, secret=b64decode(line.secret), own=False))
            tombstones.append(
                Tombstone(
                    key_id=line.key,
                    digest=b64decode(line.digest),
                    kind=line.kind,
                    forgotten_at=line.forgotten_at,
                )
            )
        return list(keys.values()), tombstones

    def bundles(self) -> Iterator[Bundle]:
        """Every version, in the order in which they became current, by namespace.

        Raises:
            InputError: a line stands where it does not belong.
        """
        chunks = _Run(self, "chunks.jsonl", ChunkLine)
        vectors = _Run(self, "vectors.jsonl", VectorLine)
        entities = _Run(self, "entities.jsonl", EntityLine)
        facts = _Run(self, "facts.jsonl", FactLine)
        answers = _Run(self, "answers.jsonl", AnswerLine)
        known = {one.name: (place, one.revision) for place, one in enumerate(self.namespaces())}
        histories = Histories()
        last = (0, 0)
        for number, version in enumerate(self._lines("versions.jsonl", VersionLine), start=1):
            place, revision = known.get(version.namespace, (-1, 0))
            here = (place, version.revision_from)
            if here < last or version.revision_from > revision:
                raise _bad("versions.jsonl", number, "it is not in order")
            if len(version.text) > self._max_text_chars:
                raise _bad("versions.jsonl", number, "its text is longer than APEX_MAX_TEXT_CHARS")
            last = here
            bundle = Bundle(
                version=version,
                chunks=chunks.of(version.id),
                vectors=_packed(vectors.of(version.id), version.chunks),
                entities=entities.of(version.id),
                facts=facts.of(version.id),
                answers=answers.of(version.id),
            )
            if (fault := _fault(bundle) or histories.fault(version)) is not None:
                raise _bad("versions.jsonl", number, fault)
            yield bundle
        for run in (chunks, vectors, entities, facts, answers):
            run.end()
        if histories.unfinished:
            raise damaged("versions.jsonl marks no version of a document as its newest")
        self._documents = len(histories)

    def _check_order(self, name: str, kind: type[Line], places: dict[str, int]) -> None:
        """Read every line; those of namespaces stand in the order of these, and revisions in their own."""
        last = (0, -1)
        for number, line in enumerate(self._lines(name, kind), start=1):
            if not isinstance(line, _OF_NAMESPACES):
                continue
            here = (places.get(line.namespace, -1), line.revision if isinstance(line, RevisionLine) else 0)
            if here < last or (here == last and isinstance(line, RevisionLine)):
                raise _bad(name, number, "it is not in order")
            last = here

    def _lines(self, name: str, kind: type[LineT]) -> Iterator[LineT]:
        with self.container.open(name) as file:
            number = 0
            while line := file.readline(self._max_line_bytes + 1):
                number += 1
                if len(line) > self._max_line_bytes:
                    raise _bad(name, number, "it is too long")
                try:
                    read = kind.model_validate_json(line)
                except ValidationError as error:
                    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
                    # The model's own field names only: others are content.
                    fields = [str(part) for part in first["loc"][:1] if part in kind.model_fields]
                    raise _bad(
                        name, number, f"{''.join(fields) or 'it'} is not as docs/archive.md says"
                    ) from None
                yield read
            self._read[name] = number


class Sections(Generic[SectionT]):
    """Lines of a checked archive, each read once: namespaces are asked for in the archive's order."""

    def __init__(self, lines: Iterator[SectionT], places: dict[str, int]) -> None:
        self._lines = lines
        self._places = places
        self._next = next(lines, None)

    def of(self, namespace: str) -> Iterator[SectionT]:
        """Those of a namespace; what was not taken of those before it is passed over."""
        here = self._places[namespace]
        while self._next is not None and self._places[self._next.namespace] <= here:
            if self._next.namespace == namespace:
                yield self._next
            self._next = next(self._lines, None)


class _Run(Generic[LineT]):
    """Lines that follow the order of the versions."""

    def __init__(self, reader: ArchiveReader, name: str, kind: type[LineT]) -> None:
        self._name = name
        self._lines = reader._lines(name, kind)  # pyright: ignore[reportPrivateUsage]  (its own part)
        self._number = 0
        self._next: Any = None
        self._step()

    def of(self, version: UUID) -> list[LineT]:
        """Those of the version that comes now."""
        found = list(islice(self._mine(version), _MAX_PARTS + 1))
        if len(found) > _MAX_PARTS:
            raise _bad(self._name, self._number, "one version has too many")
        return found

    def end(self) -> None:
        """After the last version nothing may be left."""
        if self._next is not None:
            raise _bad(self._name, self._number, "it belongs to no version, or is not in order")

    def _mine(self, version: UUID) -> Iterator[LineT]:
        while self._next is not None and self._next.version == version:
            yield self._next
            self._step()

    def _step(self) -> None:
        self._next = next(self._lines, None)
        self._number += 1


def _fault(bundle: Bundle) -> str | None:
    """What the lines of a version contradict each other in."""
    version = bundle.version
    if version.revision_to is not None and version.revision_to <= version.revision_from:
        return "it ended before it began"
    spans = [span[-2:] for span in (*version.pages, *version.headings)]
    if not all(start <= end <= len(version.text) for start, end in spans):
        return "a page or a heading is not within its text"
    places = [chunk.ordinal for chunk in bundle.chunks]
    if places != list(range(version.chunks)):
        return "its passages are not those of chunks.jsonl"
    if not all(_is_in(version.text, chunk) for chunk in bundle.chunks):
        return "a passage is not what its text has at that place"
    if bundle.vectors is not None and not _are_vectors(bundle.vectors):
        return "its vectors are none"
    named = {one for line in bundle.entities for one in line.chunks} | {line.chunk for line in bundle.facts}
    if named and max(named) >= len(places):
        return "it names passages that it does not have"
    if not {line.subject for line in bundle.facts} <= {line.entity for line in bundle.entities}:
        return "it says something of an entity that it does not name"
    return None


def _is_in(text: str, chunk: ChunkLine) -> bool:
    return chunk.start <= chunk.end <= len(text) and text[chunk.start : chunk.end] == chunk.text


def _packed(lines: list[VectorLine], chunks: int) -> list[bytes] | None:
    if not lines or [line.ordinal for line in lines] != list(range(chunks)):
        return None
    return [b64decode(line.vector) for line in lines]


def _are_vectors(packed: list[bytes]) -> bool:
    """Whether all have one length, and finite numbers only: then their sum is finite, too."""
    size = len(packed[0])
    return size > 0 and all(
        len(one) == size and size % 4 == 0 and math.isfinite(sum(unpack(one))) for one in packed
    )


def _may_hold(name: str) -> bool:
    if name in LINES:
        return True
    digest = name.removeprefix(ORIGINALS)
    return (
        name.startswith(ORIGINALS) and len(digest) == _HASH_CHARS and set(digest) <= set("0123456789abcdef")
    )


def _bad(member: str, line: int, what: str) -> Exception:
    return damaged(f"line {line} of {member}: {what}")
