"""Entities: their facts, sources and neighbours, and which of them are one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from apex_mcp.caller import Caller
from apex_mcp.errors import NotFound
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.operations.base import Operations, aware
from apex_mcp.paging import checked_limit
from apex_mcp.presenting import present_entities
from apex_mcp.retrieval.naming import possible_names
from apex_mcp.views import (
    EntityList,
    NeighbourView,
)

_NEIGHBOURS = 50
_FACTS_OF_A_NEIGHBOUR = 3


class Entities(Operations):
    """What is known of named things."""

    async def get_entities(
        self,
        caller: Caller,
        *,
        query: str | None = None,
        entity_id: UUID | None = None,
        type: str | None = None,
        namespace: str | None = None,
        limit: int = 10,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        hops: int = 0,
    ) -> EntityList:
        """Entities by name, by a question that names them, by id or type; `as_of` says which of their facts are current.

        It leaves out sources that are dated later; mentions are counted in all.
        With `hops` (1 to 3) also the entities that so many facts join to them; `as_of` passes facts only that were true then.

        Raises:
            NotFound: no visible entity has this id.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        words, known_at, limit = (
            clean_text(query or "").strip() or None,
            aware(known_at),
            checked_limit(limit),
        )
        named: list[UUID] | None = None
        lacks: list[str] = []
        away = False
        if words and self._graph.on_server and entity_id is None and not type and known_at is None:
            named, lacks = await self._graph.find_names(name, words, limit=limit)
            away = bool(lacks)
        async with self._record.reader.view(name, known_at=known_at) as view:
            if lack := view.pruned(known_at):
                lacks = [*lacks, lack]
            rows = await view.entities_of(named) if named is not None else []
            for kind in dict.fromkeys((type or None, self._ontology.type_of(type or "") or type or None)):
                if named is None and not rows:
                    rows = await view.find_entities(query=words, entity_id=entity_id, type_=kind, limit=limit)
                if words and not rows:
                    # Not a name, so a question: by the names in it, the longest first.
                    names = sorted(possible_names(words), key=len, reverse=True)
                    rows = await view.entities_named(names, type_=kind, limit=limit)
            if entity_id is not None and not rows:
                raise NotFound(
                    f"no entity has the id {entity_id}",
                    next_step="call get_entities with a name to find its id",
                )
            wanted = [row["id"] for row in rows]
            facts = await view.facts_of(wanted, limit=50 * max(1, len(wanted)))
            sources = await view.sources_of(wanted, until=aware(as_of))
        neighbours: list[NeighbourView] = []
        if hops and wanted:
            neighbours, more = await self._neighbours(name, wanted, hops, aware(as_of), known_at, away)
            lacks = list(dict.fromkeys([*lacks, *more]))
        return EntityList(
            namespace=name,
            entities=present_entities(rows, facts, sources, as_of=aware(as_of) or datetime.now(UTC)),
            neighbours=neighbours,
            degraded=lacks,
        )

    async def _neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        hops: int,
        as_of: datetime | None,
        known_at: datetime | None,
        away: bool,
    ) -> tuple[list[NeighbourView], list[str]]:
        near, lacks = await self._graph.neighbours(
            namespace, entity_ids, hops=hops, limit=_NEIGHBOURS, as_of=as_of, known_at=known_at, away=away
        )
        async with self._record.reader.view(namespace, known_at=known_at) as view:
            shown = {row["id"]: row for row in await view.entities_of([one.entity_id for one in near])}
            said = await view.sentences([
                fact for one in near for fact in one.fact_ids[:_FACTS_OF_A_NEIGHBOUR]
            ])
        return [
            NeighbourView(
                entity_id=one.entity_id,
                name=row["name"],
                type=row["type"],
                hops=one.hops,
                by=list(dict.fromkeys(said[fact] for fact in one.fact_ids if fact in said)),
            )
            for one in near
            if (row := shown.get(one.entity_id)) is not None
        ], lacks

    async def split_entity(
        self, caller: Caller, *, entity_id: UUID, other_id: UUID, namespace: str | None = None
    ) -> EntityList:
        """Undo that two entities are shown as one; both as they are shown now.

        Raises:
            Conflict: they are not one.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        await self._record.splits.split(name, entity_id, other_id)
        return await self._shown(name, entity_id, other_id)

    async def join_entity(
        self, caller: Caller, *, entity_id: UUID, other_id: UUID, namespace: str | None = None
    ) -> EntityList:
        """Take back a split: what links the two counts again.

        Raises:
            Conflict: they were not split.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        await self._record.splits.join(name, entity_id, other_id)
        return await self._shown(name, entity_id, other_id)

    async def _shown(self, namespace: str, *entity_ids: UUID) -> EntityList:
        async with self._record.reader.view(namespace) as view:
            found = [
                await view.find_entities(query=None, entity_id=id_, type_=None, limit=1) for id_ in entity_ids
            ]
            rows = {row["id"]: row for some in found for row in some}
            sources = await view.sources_of(list(rows))
        return EntityList(
            namespace=namespace,
            entities=present_entities(list(rows.values()), [], sources, as_of=datetime.now(UTC)),
        )
