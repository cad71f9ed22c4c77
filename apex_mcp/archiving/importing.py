"""From an archive to the record and its index: a stream of commits that can be interrupted and carried on."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import TypeVar

from apex_mcp.archiving.arriving import Arrivals
from apex_mcp.archiving.container import damaged
from apex_mcp.archiving.lines import (
    EndLine,
    LinkLine,
    NamespaceLine,
    NameVectorLine,
    RevisionLine,
    SplitLine,
)
from apex_mcp.archiving.reading import ArchiveReader, Bundle
from apex_mcp.errors import Code, Conflict, InputError
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.points import points_of
from apex_mcp.models import Layer
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.import_course import IMPORTING, Course
from apex_mcp.stores.record.import_plan import ArchivedVersion, Fate

_VERSIONS_AT_ONCE = 64
_PASSAGES_AT_ONCE = 1000
_TEXT_CHARS_AT_ONCE = 4_000_000
# A revision that is larger than so many times that is cut all the same.
_MOST = 4
_ROWS_AT_ONCE = 512
_TIDYING_SECONDS = 3.0

LineT = TypeVar("LineT", LinkLine, EndLine, SplitLine, NameVectorLine)
Batch = list[ArchivedVersion]


@dataclass(slots=True)
class Tally:
    """What came of an import.

    Attributes:
        documents: numbers of documents by what became of them.
        versions: number of versions that were stored.
        times_kept: the revisions have the archive's times, in all namespaces.
    """

    documents: dict[Fate, int]
    versions: int = 0
    times_kept: bool = True


class Importer:
    """Imports one archive.

    Attributes:
        tally: what came of it.
        namespaces: that it went into.

    Args:
        record: PostgreSQL.
        index: the vector index and its keeper.
        reader: the archive, which was checked.
        into: the namespace that its only one goes into; None for the same names.
        require_room: raises where nothing more can be stored.
    """

    def __init__(
        self,
        record: Record,
        index: IndexKeeper,
        reader: ArchiveReader,
        *,
        into: str | None,
        require_room: Callable[[], None],
    ) -> None:
        self.tally = Tally(dict.fromkeys(Fate, 0))
        self.namespaces: list[str] = []
        self._record = record
        self._index = index
        self._reader = reader
        self._into = into
        self._require_room = require_room

    async def run(self) -> AsyncGenerator[int]:
        """Store everything that is not here yet; yields how many versions were looked at.

        Raises:
            Conflict: another import is under way.
            InputError: several namespaces cannot go into one.
            Unavailable: a store does not answer; running it again carries on.
        """
        namespaces = await asyncio.to_thread(self._reader.namespaces)
        if self._into is not None and len(namespaces) > 1:
            raise InputError(
                "this archive holds several memories, and they cannot become one",
                unchanged="nothing was stored",
                next_step="leave out --into, or export each by itself with --namespace",
            )
        # Removing what is of nobody from the index takes the same lock, for a moment.
        async with self._record.index_log.alone(IMPORTING, wait_seconds=_TIDYING_SECONDS) as alone:
            if not alone:
                raise Conflict(
                    "another import is under way",
                    code=Code.ALREADY_RUNNING,
                    unchanged="nothing was stored",
                    next_step="wait until it is done",
                )
            await self._record.tombstones.adopt(*await asyncio.to_thread(self._reader.tombstones))
            bundles = self._reader.bundles()
            sections = await asyncio.to_thread(_Sections, self._reader)
            done = 0
            first = await asyncio.to_thread(next, bundles, None)
            for namespace in namespaces:
                course = Course(
                    archive=self._reader.container.digest,
                    source=namespace.name,
                    namespace=self._into or namespace.name,
                )
                arrivals = Arrivals(
                    course.namespace,
                    embedder=self._reader.embedder,
                    first=await self._record.imports.begin(
                        course, arrivals=namespace.arrivals, created_at=namespace.created_at
                    ),
                )
                self.namespaces.append(course.namespace)
                before = self.tally.versions
                batches = _Batches(bundles, first, namespace.name, arrivals)
                times = await asyncio.to_thread(_Times, sections.revisions.of(namespace.name))
                while batch := await asyncio.to_thread(batches.take):
                    await self._store(batch, course, times)
                    done += len(batch)
                    yield done
                first = batches.rest
                await self._end(
                    namespace, course, arrivals, times, sections, stored=self.tally.versions > before
                )
            if first is not None:
                raise damaged("a version is of a namespace that the archive does not name")

    async def _store(self, batch: Batch, course: Course, times: "_Times") -> None:
        self._require_room()
        plan = await self._record.imports.plan(batch, course)
        wanted, fates = plan.wanted, plan.fates
        await self._expect_vectors(wanted)
        points = await asyncio.to_thread(
            lambda: [point for one in wanted for point in points_of(one.version, one.accepted_at)]
        )
        until = batch[-1].revision
        moments = await asyncio.to_thread(times.until, until)
        result = await self._index.commit_import(points, wanted, course, until=until, times=moments)
        self.tally.versions += len(result.stored)
        for fate in (fates | result.fates).values():
            self.tally.documents[fate] += 1

    async def _expect_vectors(self, batch: Batch) -> None:
        for one in batch:
            if one.version.vectors and one.version.embedder is not None:
                await self._index.expect_vectors(one.version.embedder, len(one.version.vectors[0]) // 4)
                return

    async def _end(
        self,
        namespace: NamespaceLine,
        course: Course,
        arrivals: Arrivals,
        times: "_Times",
        sections: "_Sections",
        *,
        stored: bool,
    ) -> None:
        """What ties versions together, unless it is there since an earlier run."""
        ending = self._record.import_ending
        again = await ending.finished(course)
        if stored or not again:
            async for page in _pages(sections.links.of(namespace.name)):
                for layer, links in groupby(
                    sorted(page, key=lambda one: one.layer), key=lambda one: one.layer
                ):
                    await ending.add_links(course, Layer(layer), [arrivals.told(line) for line in links])
            async for page in _pages(sections.ends.of(namespace.name)):
                await ending.add_ends([arrivals.end(line) for line in page])
            await self._keep_name_vectors(sections.name_vectors.of(namespace.name), arrivals)
        if not again:
            async for page in _pages(sections.splits.of(namespace.name)):
                await ending.add_splits(course, [arrivals.split(line) for line in page])
        kept = await ending.finish(
            course,
            revision=namespace.revision,
            times=await asyncio.to_thread(times.until, namespace.revision),
            known_from=namespace.known_from,
        )
        self.tally.times_kept = self.tally.times_kept and kept

    async def _keep_name_vectors(self, lines: Iterator[NameVectorLine], arrivals: Arrivals) -> None:
        embedder = self._reader.embedder
        if embedder is None or embedder != self._index.embedder_name:
            return
        async for page in _pages(lines):
            vectors = {arrivals.entity_id(line.entity): b64decode(line.vector) for line in page}
            await self._record.name_vectors.keep(embedder, vectors)


class _Sections:
    """The members that go by namespace, each read once."""

    def __init__(self, reader: ArchiveReader) -> None:
        self.revisions = reader.sections(RevisionLine)
        self.links = reader.sections(LinkLine)
        self.ends = reader.sections(EndLine)
        self.splits = reader.sections(SplitLine)
        self.name_vectors = reader.sections(NameVectorLine)


async def _pages(lines: Iterator[LineT]) -> AsyncGenerator[list[LineT]]:
    while page := await asyncio.to_thread(lambda: list(islice(lines, _ROWS_AT_ONCE))):
        yield page


class _Batches:
    """The versions of one namespace, as many at a time as one commit takes; whole revisions, where they are small.

    Attributes:
        rest: the first of the next namespace.
    """

    def __init__(
        self, bundles: Iterator[Bundle], first: Bundle | None, namespace: str, arrivals: Arrivals
    ) -> None:
        self.rest = first
        self._bundles = bundles
        self._namespace = namespace
        self._arrivals = arrivals

    def take(self) -> Batch:
        batch: Batch = []
        passages = chars = 0
        while self.rest is not None and self.rest.version.namespace == self._namespace:
            version = self.rest.version
            size = max(
                len(batch) / _VERSIONS_AT_ONCE, passages / _PASSAGES_AT_ONCE, chars / _TEXT_CHARS_AT_ONCE
            )
            if size >= _MOST or (size >= 1 and version.revision_from > batch[-1].revision):
                break
            batch.append(self._arrivals.version(self.rest))
            passages += version.chunks
            chars += len(version.text)
            self.rest = next(self._bundles, None)
        return batch


class _Times:
    """The times of a namespace's revisions, taken in order."""

    def __init__(self, lines: Iterator[RevisionLine]) -> None:
        self._lines = lines
        self._next = next(lines, None)

    def until(self, revision: int) -> list[tuple[int, datetime]]:
        """Those not taken yet, up to this one."""
        found: list[tuple[int, datetime]] = []
        while self._next is not None and self._next.revision <= revision:
            found.append((self._next.revision, self._next.committed_at))
            self._next = next(self._lines, None)
        return found
