"""Brings the graph in Neo4j to what the record says: page by page from the queue, each repeatable, after the commits."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID, uuid4

from apex_mcp import faults
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_schema import ensure_schema, ensure_vector_index
from apex_mcp.stores.graph.neo4j_writing import GraphPage, Neo4jWriter, Turn
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.components import Component
from apex_mcp.stores.record.facts import facts_stating
from apex_mcp.stores.record.graph_changes import Changes, GraphMark, Stated
from apex_mcp.stores.record.graph_state import shown_entities, shown_passages
from apex_mcp.stores.record.reading import View
from apex_mcp.stores.vectors.packing import unpack

_PAGE = 5000

Groups = dict[UUID, Component]


class Projector:
    """Writes one record's graph. Of several at once the one that began last goes on; the others fail at their next page.

    Args:
        record: what is to be shown, and the queue of what changed.
        client: the database.
        record_id: whose graph it is.
    """

    def __init__(self, record: Record, client: Neo4jClient, record_id: UUID) -> None:
        self._record = record
        self._queue = record.graph_queue
        self._client = client
        self._writer = Neo4jWriter(client, record_id)
        self._record_key = record_id.hex
        self._dimension: int | None = None

    async def has_work(self) -> bool:
        """Whether something waits, or the graph is to be written anew.

        Raises:
            Unavailable: the record does not answer.
        """
        return await self._queue.has_work()

    async def verify(self) -> None:
        """Ask whether Neo4j answers. Raises as `run`."""
        await self._client.verify()

    async def run(self, *, pages: int) -> bool:
        """Write up to so many pages; whether more waits.

        Raises:
            Unavailable: the record or Neo4j does not answer, or another projector has taken over.
            Rejected: Neo4j does not take the settings.
        """
        turn = await self._begin()
        embedder = (await self._record.index_log.identity()).embedder
        for _ in range(pages):
            changes = await self._queue.take(_PAGE)
            if not changes.seqs:
                return False
            for namespace, changed in changes.by_namespace.items():
                async with self._record.reader.view(namespace) as view:
                    page, hanging = await self._page(view, changed, embedder)
                if hanging:
                    # Before the page: were it lost between the two, nobody would know what to move.
                    await self._queue.put_hanging_on(namespace, hanging)
                await self._expect_vectors(page)
                with faults.around("graph.write"):
                    turn = await self._writer.write(page, turn)
            await self._queue.done(changes, turn.mark)
        return await self._queue.has_work()

    async def _begin(self) -> Turn:
        """Our turn; a graph that is not there, or not this record's state, is begun anew."""
        mark = await self._queue.mark()
        turn = await self._writer.take_turn(mark) if mark is not None else None
        if turn is not None:
            return turn
        await ensure_schema(self._client)
        mark = GraphMark(uuid4().hex, told=0)
        await self._queue.begin(mark.token)
        await self._writer.clear()
        await self._queue.put_everything()
        await self._writer.mark(mark.token)
        # Where another one has begun it anew meanwhile, it is nobody's, and the first page fails.
        return await self._writer.take_turn(mark) or Turn(mark, 0)

    async def _expect_vectors(self, page: GraphPage) -> None:
        """Have an index for the page's vectors of names, which come with a model, long after the graph was begun."""
        vector = next((one.vector for one in (*page.entities, *page.ends) if one.vector), None)
        dimension = len(unpack(vector)) if vector else self._dimension
        if dimension is not None and dimension != self._dimension:
            await ensure_vector_index(self._client, dimension, record=self._record_key)
            self._dimension = dimension

    async def _page(
        self, view: View, changed: Changes, embedder: str | None
    ) -> tuple[GraphPage, Collection[UUID]]:
        """What to write, and the entities whose facts and passages hang on another node from then on."""
        page = GraphPage(namespace=view.namespace)
        hanging = await self._entities(view, changed.entities, page, embedder)
        ends = await add_facts(view, changed.facts, page) | await add_passages(view, changed.chunks, page)
        written = {one.id for one in page.entities}
        others = ends.keys() - written
        missing = await self._writer.missing(others) if others else set[UUID]()
        needed = [ends[one] for one in others & missing.union(page.gone)]
        page.ends.extend((await shown_entities(view, needed, embedder=embedder)).values())
        return page, hanging

    async def _entities(
        self, view: View, entity_ids: Sequence[UUID], page: GraphPage, embedder: str | None
    ) -> Collection[UUID]:
        if not entity_ids:
            return ()
        near = {one for group in (await view.components(entity_ids)).values() for one in group.members}
        nodes = await self._writer.members(near)
        groups = await view.components(near.union(*nodes.values()))
        # A node goes when something that was shown under it is shown elsewhere now; if it is still needed, it is made anew.
        dissolved = [
            node for node, members in nodes.items() if any(groups[one].id != node for one in members)
        ]
        shown = await shown_entities(
            view, {one.id: one for one in groups.values()}.values(), embedder=embedder
        )
        page.entities.extend(shown.values())
        page.gone.extend({*dissolved, *(nodes.keys() - shown.keys())})
        return {one for node in dissolved for one in nodes[node]}


async def add_facts(view: View, stated: Iterable[Stated], page: GraphPage) -> Groups:
    """Facts that state these, in place of those that the graph has; the entities at their ends.

    Of an exclusive predicate all of the subject, or of the object, are written again, because each may end another.
    """
    every = list(stated)
    groups = await view.components(one for subject, _, object_ in every for one in (subject, object_))
    wanted: set[tuple[UUID | None, str, UUID | None]] = set()
    for subject, predicate, object_ in every:
        subjects, objects = groups[subject], groups[object_]
        if predicate in view.exclusive.objects:
            page.stated.append((subjects.id, predicate, None))
            wanted.update((one, predicate, None) for one in subjects.members)
        if predicate in view.exclusive.subjects:
            page.stated.append((None, predicate, objects.id))
            wanted.update((None, predicate, other) for other in objects.members)
        if predicate not in view.exclusive:
            page.stated.append((subjects.id, predicate, objects.id))
            wanted.update((one, predicate, other) for one in subjects.members for other in objects.members)
    page.facts.extend(await facts_stating(view, wanted, exclusive=view.exclusive))
    ends = await view.components(one for fact in page.facts for one in (fact.subject_id, fact.object_id))
    return {group.id: group for group in ends.values()}


async def add_passages(view: View, chunk_ids: Sequence[UUID], page: GraphPage) -> Groups:
    """These passages, and the entities that they name."""
    passages = await shown_passages(view, chunk_ids)
    groups = await view.components(one for passage in passages for one in passage.entities)
    page.passages.extend(
        (passage, tuple(sorted({groups[one].id for one in passage.entities}))) for passage in passages
    )
    page.gone_passages.extend(set(chunk_ids) - {passage.id for passage in passages})
    return {group.id: group for group in groups.values()}
