"""Writing what the record shows to Neo4j, in Graphiti's shape: entities, episodes, what mentions them and how they relate.

A page is one transaction. It begins by naming the turn that it belongs to, so that a writer that was replaced changes nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID, uuid5

from neo4j import AsyncTransaction

from apex_mcp.batches import batches
from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.breaker import ANSWERED
from apex_mcp.stores.graph.neo4j_client import Neo4jClient, rows
from apex_mcp.stores.record.facts import Fact
from apex_mcp.stores.record.graph_changes import GraphMark
from apex_mcp.stores.record.graph_state import ShownEntity, ShownPassage
from apex_mcp.stores.vectors.packing import unpack

# A type becomes a label only where it is one as it stands, and means nothing else here or to Graphiti.
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset({"Entity", "Episodic", "Community", "Saga", "Value", "ApexGraph"})
_BETWEEN_WORDS = str.maketrans(",.;()/-", "       ")
_MAX_KEY_CHARS = 300
_ROWS_AT_ONCE = 5000

_TAKE_TURN: LiteralString = """
MATCH (m:ApexGraph {record: $record}) WHERE m.token = $token AND coalesce(m.told, 0) >= $told
SET m.turn = m.turn + 1 RETURN m.turn AS turn, coalesce(m.told, 0) AS told
"""
_HOLD_TURN: LiteralString = """
MATCH (m:ApexGraph {record: $record}) WHERE m.token = $token AND m.turn = $turn AND coalesce(m.told, 0) = $told
SET m.told = $told + 1, m.written_at = datetime() RETURN m.told AS told
"""
_MARK: LiteralString = """
MERGE (m:ApexGraph {record: $record}) SET m.token = $token, m.turn = 0, m.told = 0, m.written_at = datetime()
"""
_UNMARK: LiteralString = "MATCH (m:ApexGraph {record: $record}) DELETE m"
_CLEAR: tuple[LiteralString, ...] = (
    "MATCH (n:Episodic) WHERE n.record = $record AND n.uuid IS NOT NULL "
    "CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS",
    "MATCH (n:Entity) WHERE n.record = $record AND n.uuid IS NOT NULL "
    "CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS",
)

# With hints, and for seeks, because a plan that was made while there was nothing yet would go on reading everything.
_DELETE_NODES: LiteralString = """
UNWIND $rows AS id MATCH (n:Entity {record: $record, uuid: id}) USING INDEX SEEK n:Entity(record, uuid) DETACH DELETE n
"""
_DELETE_EPISODES: LiteralString = """
UNWIND $rows AS id MATCH (n:Episodic {record: $record, uuid: id}) USING INDEX SEEK n:Episodic(record, uuid) DETACH DELETE n
"""
_DELETE_EDGES: LiteralString = """
UNWIND $rows AS row MATCH (s:Entity {record: $record, uuid: row.subject}) USING INDEX SEEK s:Entity(record, uuid)
MATCH (s)-[r:RELATES_TO]->(o:Entity)
WHERE r.name IN row.predicates OR r.name + '/' + o.uuid IN row.stated
WITH r, o.uuid AS id, o.value AS value DELETE r
RETURN DISTINCT id, value
"""
_DELETE_EDGES_TO: LiteralString = """
UNWIND $rows AS row MATCH (o:Entity {record: $record, uuid: row.object}) USING INDEX SEEK o:Entity(record, uuid)
MATCH (:Entity)-[r:RELATES_TO {name: row.predicate}]->(o)
WITH r, o.uuid AS id, o.value AS value DELETE r
RETURN DISTINCT id, value
"""
# Labels are a list of ours (see _labels), never text of a document.
_WRITE_NODES: LiteralString = """
UNWIND $rows AS row MERGE (n:Entity {record: $record, uuid: row.properties.uuid})
SET n = row.properties, n:$(row.labels)
WITH n, row WHERE size(labels(n)) > size(row.labels)
REMOVE n:$([label IN labels(n) WHERE NOT label IN row.labels])
"""
_WRITE_ENDS: LiteralString = """
UNWIND $rows AS row MERGE (n:Entity {record: $record, uuid: row.properties.uuid})
ON CREATE SET n = row.properties, n:$(row.labels)
"""
_WRITE_EPISODES: LiteralString = """
UNWIND $rows AS row MERGE (n:Episodic {record: $record, uuid: row.uuid}) SET n = row
WITH n MATCH (n)-[m:MENTIONS]->() DELETE m
"""
_WRITE_MENTIONS: LiteralString = """
UNWIND $rows AS row MATCH (e:Episodic {record: $record, uuid: row.episode}) USING INDEX SEEK e:Episodic(record, uuid)
UNWIND row.mentions AS mention
MATCH (n:Entity {record: $record, uuid: mention[0]}) USING INDEX SEEK n:Entity(record, uuid)
CREATE (e)-[:MENTIONS {uuid: mention[1], group_id: e.group_id, created_at: e.created_at}]->(n)
"""
# Times are many, and few of them differ: rows have their places in `times`.
_WRITE_EDGES: LiteralString = """
UNWIND $rows AS row
MATCH (s:Entity {record: $record, uuid: row.subject}) USING INDEX SEEK s:Entity(record, uuid)
UNWIND row.edges AS edge
MATCH (o:Entity {record: $record, uuid: edge.object}) USING INDEX SEEK o:Entity(record, uuid)
CREATE (s)-[:RELATES_TO {
    uuid: edge.uuid, name: edge.name, fact: edge.fact, group_id: $namespace, episodes: edge.episodes, fact_ids: edge.fact_ids,
    created_at: $times[edge.created_at], valid_at: $times[edge.valid_at], begins: $times[edge.begins],
    invalid_at: $times[edge.invalid_at], expired_at: $times[edge.expired_at]}]->(o)
"""
_DELETE_LONELY_VALUES: LiteralString = """
UNWIND $rows AS id MATCH (n:Entity {record: $record, uuid: id}) USING INDEX SEEK n:Entity(record, uuid)
WHERE n.value AND NOT (n)--() DELETE n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPage:
    """What one transaction writes of one namespace.

    Attributes:
        entities: as they are shown now, whole.
        gone: entities that are not shown under these ids any more.
        ends: entities that facts or passages need; written only where they are not there yet.
        stated: facts to forget before `facts` are written, by the shown ids of what they state; without an object all of a
            subject and predicate, without a subject all of an object and predicate.
        facts: in place of those.
        passages: as they are now, with the shown ids of their entities.
        gone_passages: those that are not visible any more.
    """

    namespace: str
    entities: list[ShownEntity] = field(default_factory=list[ShownEntity])
    gone: list[UUID] = field(default_factory=list[UUID])
    ends: list[ShownEntity] = field(default_factory=list[ShownEntity])
    stated: list[tuple[UUID | None, str, UUID | None]] = field(
        default_factory=list[tuple[UUID | None, str, UUID | None]]
    )
    facts: list[Fact] = field(default_factory=list[Fact])
    passages: list[tuple[ShownPassage, tuple[UUID, ...]]] = field(
        default_factory=list[tuple[ShownPassage, tuple[UUID, ...]]]
    )
    gone_passages: list[UUID] = field(default_factory=list[UUID])


@dataclass(frozen=True, slots=True)
class Turn:
    """Of the one who writes a graph: which turn it is, and what the graph was told by the end of its last page."""

    mark: GraphMark
    number: int


class Neo4jWriter:
    """Writes one record's graph."""

    def __init__(self, client: Neo4jClient, record_id: UUID) -> None:
        self._client = client
        self._record = record_id.hex

    async def clear(self) -> None:
        """Remove everything of this record; until `mark`, readers find that it is not there."""
        await self._client.alone(_UNMARK, record=self._record)
        for statement in _CLEAR:
            await self._client.alone(statement, record=self._record)

    async def mark(self, token: str) -> None:
        """From now on the graph goes by this name."""
        await self._client.alone(_MARK, record=self._record, token=token)

    async def take_turn(self, mark: GraphMark) -> Turn | None:
        """Become the only writer; None where no graph covers this mark: it was wiped, is another's backup, or an older state."""
        found = await self._client.alone(_TAKE_TURN, record=self._record, token=mark.token, told=mark.told)
        return Turn(GraphMark(mark.token, found[0]["told"]), found[0]["turn"]) if found else None

    async def members(self, entity_ids: Iterable[UUID]) -> dict[UUID, tuple[UUID, ...]]:
        """Of these ids those that nodes have, with the ids that were shown under them."""
        found = await self._client.read(
            "UNWIND $ids AS id MATCH (n:Entity {record: $record, uuid: id}) USING INDEX SEEK n:Entity(record, uuid) "
            "RETURN n.uuid AS id, n.members AS members",
            record=self._record,
            ids=_texts(entity_ids),
        )
        return {UUID(row["id"]): tuple(map(UUID, row["members"])) for row in found}

    async def missing(self, entity_ids: Iterable[UUID]) -> set[UUID]:
        """Of these ids those that no node has."""
        found = await self._client.read(
            "UNWIND $ids AS id OPTIONAL MATCH (n:Entity {record: $record, uuid: id}) USING INDEX SEEK n:Entity(record, uuid) "
            "WITH id, n WHERE n IS NULL RETURN id",
            record=self._record,
            ids=_texts(entity_ids),
        )
        return {UUID(row["id"]) for row in found}

    async def write(self, page: GraphPage, turn: Turn) -> Turn:
        """Write a page, all or nothing; the turn with which to write the next one.

        Raises:
            Unavailable: Neo4j does not answer, another writer has taken over, or an older state was put back.
        """
        mark = turn.mark
        async with self._client.writing() as transaction:
            if not await rows(
                transaction,
                _HOLD_TURN,
                record=self._record,
                token=mark.token,
                turn=turn.number,
                told=mark.told,
            ):
                raise Unavailable(
                    "another writer has taken over the graph",
                    code=Code.GRAPH_UNAVAILABLE,
                    next_step="nothing is to be done: what waits is written by the next run",
                    details={ANSWERED: True},
                )
            await self._write(transaction, page)
        return replace(turn, mark=replace(mark, told=mark.told + 1))

    async def _write(self, transaction: AsyncTransaction, page: GraphPage) -> None:
        record, namespace = self._record, page.namespace

        async def run(query: LiteralString, given: Iterable[Any], **params: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            for some in batches(list(given), _ROWS_AT_ONCE):
                found += await rows(transaction, query, record=record, rows=some, **params)
            return found

        cut = await run(_DELETE_EDGES, _stated(page.stated))
        cut += await run(_DELETE_EDGES_TO, _stated_of_objects(page.stated))
        await run(_DELETE_NODES, _texts(page.gone))
        await run(_DELETE_EPISODES, _texts(page.gone_passages))
        await run(_WRITE_NODES, (_node(record, namespace, one) for one in page.entities))
        await run(_WRITE_ENDS, (_node(record, namespace, one) for one in page.ends))
        await run(_WRITE_EPISODES, (_episode(record, namespace, one) for one, _ in page.passages))
        await run(_WRITE_MENTIONS, (_mentions(one, entities) for one, entities in page.passages if entities))
        times = Times()
        await run(_WRITE_EDGES, _edges(page.facts, times), namespace=namespace, times=times.every)
        await run(_DELETE_LONELY_VALUES, dict.fromkeys(row["id"] for row in cut if row["value"]))


class Times:
    """Times of a page, each sent once: most rows share theirs, and a time is what takes longest to send."""

    def __init__(self) -> None:
        self.every: list[datetime | None] = [None]
        self._places: dict[datetime | None, int] = {None: 0}

    def place(self, time: datetime | None) -> int:
        """Where the time stands."""
        utc = time.astimezone(UTC) if time else None
        if utc not in self._places:
            self._places[utc] = len(self.every)
            self.every.append(utc)
        return self._places[utc]


def name_key(record: str, namespace: str, name: str) -> str:
    """How a whole name is found in the index of names."""
    return f"{record[:8]}/{namespace}/={name}"[:_MAX_KEY_CHARS]


def word_key(record: str, namespace: str, word: str) -> str:
    """How a word of a name is found there."""
    return f"{record[:8]}/{namespace}/{word}"[:_MAX_KEY_CHARS]


def words_of(name: str) -> list[str]:
    """The words of a normalised name, as the record cuts them."""
    return name.translate(_BETWEEN_WORDS).split()


def _texts(ids: Iterable[UUID]) -> list[str]:
    return [str(one) for one in ids]


def _labels(entity: ShownEntity) -> list[str]:
    if entity.value:
        return ["Entity", "Value"]
    usable = _LABEL.fullmatch(entity.type) and entity.type not in _RESERVED
    return ["Entity", entity.type] if usable else ["Entity"]


def _node(record: str, namespace: str, entity: ShownEntity) -> dict[str, Any]:
    labels = _labels(entity)
    names = sorted({*entity.names, *entity.alias_keys})
    words = sorted({word for name in names for word in words_of(name)})
    properties: dict[str, Any] = {
        "uuid": str(entity.id),
        "name": entity.name,
        "group_id": namespace,
        "summary": _summary(entity),
        "created_at": _utc(entity.created_at),
        "labels": labels,
        "record": record,
        "type": entity.type,
        "aliases": list(entity.aliases),
        "members": _texts(entity.members),
        "names": list(entity.names),
        "alias_keys": list(entity.alias_keys),
        "keys": [name_key(record, namespace, name) for name in names]
        + [word_key(record, namespace, word) for word in words],
        "mentions": entity.mentions,
        "value": entity.value,
    }
    if entity.vector is not None:
        properties["name_embedding"] = unpack(entity.vector)
    return {"labels": labels, "properties": properties}


def _summary(entity: ShownEntity) -> str:
    return f"{entity.type}, also named {', '.join(entity.aliases)}" if entity.aliases else entity.type


def _episode(record: str, namespace: str, passage: ShownPassage) -> dict[str, Any]:
    return {
        "uuid": str(passage.id),
        "name": f"{passage.title} #{passage.ordinal + 1}",
        "group_id": namespace,
        "source": "text",
        "source_description": passage.uri,
        "content": passage.text,
        "valid_at": _utc(passage.said_at),
        "created_at": _utc(passage.created_at),
        "entity_edges": _texts(passage.facts),
        "record": record,
    }


def _mentions(passage: ShownPassage, entities: Iterable[UUID]) -> dict[str, Any]:
    return {
        "episode": str(passage.id),
        "mentions": [(str(one), str(uuid5(passage.id, f"mentions\x1f{one}"))) for one in entities],
    }


def _stated_of_objects(stated: Iterable[tuple[UUID | None, str, UUID | None]]) -> list[dict[str, Any]]:
    """What is to be forgotten whatever its subject."""
    return [
        {"predicate": predicate, "object": str(object_)}
        for subject, predicate, object_ in set(stated)
        if subject is None
    ]


def _stated(stated: Iterable[tuple[UUID | None, str, UUID | None]]) -> list[dict[str, Any]]:
    """What is to be forgotten, by subject."""
    subjects: dict[UUID, dict[str, Any]] = {}
    for subject, predicate, object_ in set(stated):
        if subject is None:
            continue
        row = subjects.setdefault(subject, {"subject": str(subject), "predicates": [], "stated": []})
        if object_ is None:
            row["predicates"].append(predicate)
        else:
            row["stated"].append(f"{predicate}/{object_}")
    return list(subjects.values())


def _edges(facts: Iterable[Fact], times: Times) -> list[dict[str, Any]]:
    """Relations, by subject."""
    every = list(facts)
    learnt = {fact.id: _learnt(fact) for fact in every}
    taken: set[UUID] = set()
    subjects: dict[UUID, list[dict[str, Any]]] = {}
    for fact in every:
        # One statement may have been true more than once; each stretch of time is an edge.
        uuid = uuid5(fact.id, f"until\x1f{fact.invalid_at}") if fact.id in taken else fact.id
        taken.add(fact.id)
        ended_at = learnt.get(fact.ended_by, _learnt(fact)) if fact.ended_by else _learnt(fact)
        subjects.setdefault(fact.subject_id, []).append({
            "object": str(fact.object_id),
            "uuid": str(uuid),
            "name": fact.predicate,
            "fact": fact.sentence,
            "episodes": list(dict.fromkeys(str(row["chunk_id"]) for row in fact.sources)),
            "fact_ids": sorted({str(row["id"]) for row in fact.sources}),
            "created_at": times.place(_learnt(fact)),
            # Not when an undated source was accepted: that is what `begins` is for, by which it is read as of a time.
            "valid_at": times.place(fact.valid_at),
            "begins": times.place(fact.holds_from),
            "invalid_at": times.place(fact.invalid_at),
            "expired_at": times.place(ended_at if fact.invalid_at else None),
        })
    return [{"subject": str(subject), "edges": edges} for subject, edges in subjects.items()]


def _learnt(fact: Fact) -> datetime:
    return min(row["committed_at"] for row in fact.sources)


def _utc(time: datetime | None) -> datetime | None:
    return time.astimezone(UTC) if time else None
