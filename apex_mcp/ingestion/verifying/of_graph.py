"""The graph in Neo4j compared with what the record shows now, by ranges of ids, once the queue before it is empty.

What differs at a first look may be under way. So it is looked at again after the queue was empty once more, and counts only if
it differs each time. What is not as anything is written was never under way: it counts at once.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.ingestion.projecting import add_facts, add_passages
from apex_mcp.ingestion.verifying.findings import EXAMPLES, GRAPH, Finding, finding
from apex_mcp.stores.graph.neo4j_inventory import Edge, Neo4jInventory, Portion, portion
from apex_mcp.stores.graph.neo4j_writing import GraphPage
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.graph_changes import GraphMark
from apex_mcp.stores.record.graph_pages import IdRange, stated_by
from apex_mcp.stores.record.graph_state import shown_entities
from apex_mcp.stores.record.reading import View
from apex_mcp.stores.record.state import state_of

WHOSE = "the graph is of this record, and has been told of everything"
OURS = "nodes and relations are as they are written from the record"
ENTITIES = "entities are in the graph as the record shows them"
FACTS = "facts are in the graph as the record shows them"
PASSAGES = "passages are in the graph with their texts and what they mention"

_IDS_AT_ONCE = 500
# What is written to all the time differs at most looks: until one was at a quiet moment, only what differed at every one counts.
_LOOKS = 10
_SETTLED_SECONDS = 120.0
_LOOK_SECONDS = 0.2


@dataclass(slots=True)
class _Seen:
    """What was compared of one namespace, and what differs."""

    compared: Counter[str] = field(default_factory=Counter[str])
    entities: set[UUID] = field(default_factory=set[UUID])
    facts: set[Edge] = field(default_factory=set[Edge])
    passages: set[UUID] = field(default_factory=set[UUID])

    def take(self, other: "_Seen") -> None:
        self.compared += other.compared
        self.entities |= other.entities
        self.facts |= other.facts
        self.passages |= other.passages

    def keep(self, other: "_Seen") -> None:
        """Only what differs in both."""
        self.entities &= other.entities
        self.facts &= other.facts
        self.passages &= other.passages

    def examples(self, what: str) -> list[str]:
        if what == FACTS:
            return sorted({str(one.subject) for one in self.facts})
        return sorted(map(str, self.entities if what == ENTITIES else self.passages))

    def count(self, what: str) -> int:
        return len({ENTITIES: self.entities, FACTS: self.facts, PASSAGES: self.passages}[what])

    def __bool__(self) -> bool:
        return bool(self.entities or self.facts or self.passages)


class GraphVerifier:
    """Compares one record's graph.

    Args:
        record: PostgreSQL.
        graph: what Neo4j holds.
        settled_seconds: how long the queue before the graph is waited for.
    """

    def __init__(
        self, record: Record, graph: Neo4jInventory, *, settled_seconds: float = _SETTLED_SECONDS
    ) -> None:
        self._record = record
        self._graph = graph
        self._settled_seconds = settled_seconds

    async def run(self, *, repair: bool) -> AsyncGenerator[Finding]:
        """Yield each comparison.

        Raises:
            Unavailable: the record or Neo4j does not answer.
        """
        told = await self._told()
        # Before what waits is waited for once more: it may wait because of what is foreign.
        yield await self._foreign(repair=repair)
        if told and repair:
            await self._record.graph_queue.begin_anew()
        left = await self._told() if told and repair else told
        yield Finding(
            store=GRAPH, what=WHOSE, compared=1, differs=bool(told), left=bool(left), note=left or ""
        )
        if left:
            return
        before = await self._compare_all()
        after = before
        if repair and any(before.values()):
            for namespace, seen in before.items():
                await self._put(namespace, seen)
            await self._settled()
            after = await self._compare_all()
        for what in (ENTITIES, FACTS, PASSAGES):
            examples = [one for seen in before.values() for one in seen.examples(what)]
            yield Finding(
                store=GRAPH,
                what=what,
                compared=sum(seen.compared[what] for seen in before.values()),
                differs=sum(seen.count(what) for seen in before.values()),
                left=sum(seen.count(what) for seen in after.values()),
                examples=tuple(examples[:EXAMPLES]),
            )

    async def remove_orphans(self) -> int:
        """Have nodes and passages removed whose ids the record does not know; the number of those.

        Raises:
            Unavailable: the record or Neo4j does not answer.
        """
        removed = 0
        if await self._record.graph_queue.has_work():
            # What waits may be of them.
            return removed
        pages = self._record.graph_pages
        async for namespace, entities in self._graph.entity_ids():
            unknown = await pages.unknown_entities(namespace, entities)
            await pages.put(namespace, entities=unknown)
            removed += len(unknown)
        async for namespace, passages in self._graph.passage_ids():
            unknown = await pages.unknown_passages(passages)
            await pages.put(namespace, passages=unknown)
            removed += len(unknown)
        return removed

    async def _foreign(self, *, repair: bool) -> Finding:
        namespaces = await self._namespaces()
        compared, before = await self._graph.foreign(namespaces)
        after = before
        if repair and before:
            await self._graph.remove_foreign(namespaces)
            _, after = await self._graph.foreign(namespaces)
        return finding(GRAPH, OURS, compared=compared, before=before, after=after)

    async def _namespaces(self) -> list[str]:
        return sorted({*await self._record.reader.namespaces(), *await self._graph.namespaces()})

    async def _told(self) -> str | None:
        """Why the graph cannot be compared, once it was waited for."""
        if not await self._settled():
            return "changes wait for it longer than they should: see that the worker and Neo4j run"
        # The record first: the graph counts before it does.
        known = await self._record.graph_queue.mark()
        held = await self._graph.mark()
        if known is None or held is None or not held.covers(known):
            return "it was emptied, is an older one, or is another record's: it is written anew"
        return None

    async def _settled(self) -> bool:
        """Wait until nothing waits for the graph; False if that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settled_seconds
        while await self._record.graph_queue.has_work():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def _compare_all(self) -> dict[str, _Seen]:
        return {namespace: await self._compare(namespace) for namespace in await self._namespaces()}

    async def _compare(self, namespace: str) -> _Seen:
        seen, pages = _Seen(), self._record.graph_pages
        for following, look in (
            (pages.entities_after, self._look_at_entities),
            (pages.passages_after, self._look_at_passages),
        ):
            after: UUID | None = UUID(int=0)
            while after is not None:
                ids = await following(namespace, after, limit=_IDS_AT_ONCE)
                seen.take(await self._surely(look, namespace, ids))
                after = ids.upto
        return seen

    async def _surely(
        self, look: Callable[[str, IdRange], Awaitable[_Seen]], namespace: str, ids: IdRange
    ) -> _Seen:
        before = await self._quiet_at(namespace)
        seen = await look(namespace, ids)
        for _ in range(1, _LOOKS):
            if not seen or (before is not None and before == await self._quiet_at(namespace)):
                break
            await self._settled()
            before = await self._quiet_at(namespace)
            seen.keep(await look(namespace, ids))
        return seen

    async def _quiet_at(self, namespace: str) -> tuple[int, GraphMark] | None:
        """A revision of which the graph was told everything, and how much that was; None while something waits."""
        queue = self._record.graph_queue
        if await queue.has_work() or (mark := await queue.mark()) is None:
            return None
        return (await state_of(self._record.database, namespace)).revision, mark

    async def _look_at_entities(self, namespace: str, ids: IdRange) -> _Seen:
        # The graph first: what is committed in between still waits for it, and differs at the next look no more.
        held = await self._graph.entities(namespace, ids.after, ids.upto)
        async with self._record.reader.view(namespace) as view:
            due = await _entities(view, {*ids.ids, *held.nodes, *(one.subject for one in held.edges)}, ids)
        seen = _Seen(compared=Counter({ENTITIES: len(due.nodes), FACTS: due.edges.total()}))
        seen.entities = _unlike(due.nodes, held.nodes)
        seen.facts = {*(due.edges - held.edges), *(held.edges - due.edges)}
        both = due.edges & held.edges
        seen.facts |= {one for one in both if not held.sentences[one] <= due.sentences[one]}
        return seen

    async def _look_at_passages(self, namespace: str, ids: IdRange) -> _Seen:
        held = await self._graph.passages(namespace, ids.after, ids.upto)
        page = GraphPage(namespace=namespace)
        async with self._record.reader.view(namespace) as view:
            await add_passages(view, list({*ids.ids, *held.passages}), page)
        due = portion(passages=page.passages).passages
        # Only of what the record shows, however much else the graph holds: texts are what takes room.
        shown = {passage.id: passage.text for passage, _ in page.passages if passage.id in held.passages}
        differing = _unlike(due, held.passages)
        for some in batches(list(shown), _IDS_AT_ONCE):
            texts = await self._graph.texts(some)
            differing |= {one for one in some if texts.get(one) != shown[one]}
        return _Seen(compared=Counter({PASSAGES: len(due)}), passages=differing)

    async def _put(self, namespace: str, seen: _Seen) -> None:
        await self._record.graph_pages.put(
            namespace,
            entities=sorted(seen.entities),
            passages=sorted(seen.passages),
            facts=sorted({(one.subject, one.predicate, one.object) for one in seen.facts}),
        )
        if seen.entities:
            # Of a node that is made anew or goes, all that hung on it is to be written again.
            await self._record.graph_queue.put_hanging_on(namespace, seen.entities)


async def _entities(view: View, entity_ids: set[UUID], ids: IdRange) -> Portion:
    """What the graph should hold in a range of ids; these are all that may be in it."""

    def within(one: UUID) -> bool:
        return ids.after < one and (ids.upto is None or one <= ids.upto)

    groups = {one.id: one for one in (await view.components(entity_ids)).values() if within(one.id)}
    shown = await shown_entities(view, groups.values(), embedder=None)
    page = GraphPage(namespace=view.namespace)
    members = [one for group in groups.values() for one in group.members]
    await add_facts(view, await stated_by(view, members), page)
    return portion(shown.values(), [one for one in page.facts if within(one.subject_id)])


def _unlike(due: dict[UUID, tuple[object, ...]], held: dict[UUID, tuple[object, ...]]) -> set[UUID]:
    return {one for one in due.keys() | held.keys() if due.get(one) != held.get(one)}
