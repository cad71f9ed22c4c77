"""What Neo4j holds of one record, by ranges of ids, in the few words by which it can be compared."""

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable
from dataclasses import dataclass, field
from math import floor
from typing import LiteralString, NamedTuple
from uuid import UUID

from apex_mcp.stores.graph.neo4j_client import Neo4jClient, Row
from apex_mcp.stores.graph.neo4j_schema import MARK
from apex_mcp.stores.record.facts import Fact
from apex_mcp.stores.record.graph_changes import GraphMark
from apex_mcp.stores.record.graph_state import ShownEntity, ShownPassage

_IDS_AT_ONCE = 2000

# What everything has that is written from the record. What lacks it, no id finds, and nothing else here can read it.
# As cases, because Neo4j 5.26 may look for what has no such property in an index of those that have it.
_ID: LiteralString = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WHOLE_EPISODE: LiteralString = f"""
CASE WHEN toStringOrNull(n.uuid) =~ '{_ID}' AND n.group_id IS :: STRING NOT NULL THEN true ELSE false END
"""
_WHOLE_NODE: LiteralString = f"""
CASE WHEN NOT {_WHOLE_EPISODE} OR NOT n.members IS :: LIST<STRING NOT NULL> NOT NULL THEN false
     ELSE all(one IN n.members WHERE one =~ '{_ID}') END
"""
_WHOLE_EDGE: LiteralString = f"""
CASE WHEN toStringOrNull(o.uuid) =~ '{_ID}' AND r.name IS :: STRING NOT NULL
          AND r.fact_ids IS :: LIST<STRING NOT NULL> NOT NULL AND r.invalid_at IS :: ZONED DATETIME THEN true ELSE false END
"""

# By their names below. A relation of a group that is none of the record's is somebody else's.
_EVERY: tuple[tuple[LiteralString, LiteralString, LiteralString], ...] = (
    (
        "r",
        "MATCH (n:Entity {record: $record})-[r:RELATES_TO]->(o:Entity) "
        "WHERE coalesce(r.group_id, n.group_id) IN $namespaces",
        _WHOLE_EDGE,
    ),
    ("n", "MATCH (n:Entity {record: $record})", _WHOLE_NODE),
    ("n", "MATCH (n:Episodic {record: $record})", _WHOLE_EPISODE),
)

_NODES: LiteralString = f"""
MATCH (n:Entity {{record: $record}}) WHERE n.group_id = $namespace AND n.uuid > $after AND ($upto IS NULL OR n.uuid <= $upto)
AND {_WHOLE_NODE}
RETURN n.uuid AS id, n.name AS name, n.type AS type, n.value AS value, n.mentions AS mentions, n.members AS members
"""

_EDGES: LiteralString = f"""
MATCH (n:Entity {{record: $record}}) WHERE n.group_id = $namespace AND n.uuid > $after AND ($upto IS NULL OR n.uuid <= $upto)
AND {_WHOLE_NODE}
MATCH (n)-[r:RELATES_TO]->(o:Entity) WHERE {_WHOLE_EDGE}
RETURN n.uuid AS subject, r.name AS predicate, o.uuid AS object, r.fact_ids AS facts, r.invalid_at.epochSeconds AS ended,
    toStringOrNull(r.fact) AS sentence
"""

_EPISODES: LiteralString = f"""
MATCH (n:Episodic {{record: $record}}) WHERE n.group_id = $namespace AND n.uuid > $after AND ($upto IS NULL OR n.uuid <= $upto)
AND {_WHOLE_EPISODE}
RETURN n.uuid AS id, n.name AS name,
    COLLECT {{ MATCH (n)-[:MENTIONS]->(o:Entity) RETURN coalesce(toStringOrNull(o.uuid), '') }} AS mentions
"""

_TEXTS: LiteralString = """
UNWIND $ids AS id MATCH (n:Episodic {record: $record, uuid: id}) USING INDEX SEEK n:Episodic(record, uuid)
RETURN n.uuid AS id, n.content AS text
"""

_NAMESPACES: LiteralString = f"""
MATCH (n:Entity {{record: $record}}) WHERE {_WHOLE_NODE} RETURN DISTINCT n.group_id AS namespace
UNION MATCH (n:Episodic {{record: $record}}) WHERE {_WHOLE_EPISODE} RETURN DISTINCT n.group_id AS namespace
"""

_ENTITY_IDS: LiteralString = f"""
MATCH (n:Entity {{record: $record}}) WHERE n.uuid > $after AND {_WHOLE_NODE}
RETURN n.uuid AS id, n.group_id AS namespace ORDER BY n.uuid LIMIT $limit
"""
_PASSAGE_IDS: LiteralString = f"""
MATCH (n:Episodic {{record: $record}}) WHERE n.uuid > $after AND {_WHOLE_EPISODE}
RETURN n.uuid AS id, n.group_id AS namespace ORDER BY n.uuid LIMIT $limit
"""


class Edge(NamedTuple):
    """A relation, as it is compared."""

    subject: UUID
    predicate: str
    object: UUID
    facts: tuple[str, ...]
    ended_at: int | None


@dataclass(slots=True, kw_only=True)
class Portion:
    """A part of a graph: nodes and passages by id, in a few words each, and relations, each as often as it is there.

    Of what its sources say in different words, a relation has one sentence: `sentences` are those that it has, or may have.
    """

    nodes: dict[UUID, tuple[object, ...]] = field(default_factory=dict[UUID, tuple[object, ...]])
    edges: Counter[Edge] = field(default_factory=Counter[Edge])
    sentences: dict[Edge, set[str | None]] = field(default_factory=dict[Edge, set[str | None]])
    passages: dict[UUID, tuple[object, ...]] = field(default_factory=dict[UUID, tuple[object, ...]])


class Neo4jInventory:
    """Reads of one record's graph, by ranges of ids.

    Args:
        client: the database.
        record_id: whose graph it is.
    """

    def __init__(self, client: Neo4jClient, record_id: UUID) -> None:
        self._client = client
        self._record = record_id.hex

    async def mark(self) -> GraphMark | None:
        """What the graph calls itself, and how much it says it was told; None where there is none.

        Raises:
            Unavailable: Neo4j does not answer.
        """
        found = await self._client.read(MARK, record=self._record)
        return GraphMark(**found[0]) if found else None

    async def namespaces(self) -> set[str]:
        """Where it holds something. Raises Unavailable."""
        return {row["namespace"] for row in await self._client.read(_NAMESPACES, record=self._record)}

    async def foreign(self, namespaces: Collection[str]) -> tuple[int, list[str]]:
        """How many nodes and relations there are, and Neo4j's ids of those that are not as the record writes any.

        Raises:
            Unavailable: Neo4j does not answer.
        """
        compared, foreign = 0, list[str]()
        for name, every, whole in _EVERY:
            (row,) = await self._client.alone(
                f"{every} RETURN count({name}) AS compared, collect(CASE WHEN NOT {whole} THEN elementId({name}) END) AS foreign",
                record=self._record,
                namespaces=list(namespaces),
            )
            compared += row["compared"]
            foreign += row["foreign"]
        return compared, foreign

    async def remove_foreign(self, namespaces: Collection[str]) -> None:
        """Remove those, nodes with all that hangs on them. Raises Unavailable."""
        for name, every, whole in _EVERY:
            await self._client.alone(
                f"{every} WITH * WHERE NOT {whole} "
                f"CALL ({name}) {{ DETACH DELETE {name} }} IN TRANSACTIONS OF 5000 ROWS",
                record=self._record,
                namespaces=list(namespaces),
            )

    def entity_ids(self) -> AsyncGenerator[tuple[str, list[UUID]]]:
        """The ids of all nodes, in pages of one namespace each. Raises Unavailable."""
        return self._ids(_ENTITY_IDS)

    def passage_ids(self) -> AsyncGenerator[tuple[str, list[UUID]]]:
        """The ids of all passages, in pages of one namespace each. Raises Unavailable."""
        return self._ids(_PASSAGE_IDS)

    async def _ids(self, query: LiteralString) -> AsyncGenerator[tuple[str, list[UUID]]]:
        after = str(UUID(int=0))
        while found := await self._client.read(query, record=self._record, after=after, limit=_IDS_AT_ONCE):
            for namespace in {row["namespace"] for row in found}:
                yield namespace, [UUID(row["id"]) for row in found if row["namespace"] == namespace]
            after = found[-1]["id"]

    async def entities(self, namespace: str, after: UUID, upto: UUID | None) -> Portion:
        """Nodes in a range of ids, and the relations that begin at them. Raises Unavailable."""
        bounds = self._bounds(namespace, after, upto)
        nodes, edges = await self._client.read(_NODES, **bounds), await self._client.read(_EDGES, **bounds)
        every = [(_edge(row), row["sentence"]) for row in edges]
        return Portion(
            nodes={
                UUID(row["id"]): ("value",)
                if row["value"]
                else (row["name"], row["type"], row["mentions"], tuple(sorted(row["members"])))
                for row in nodes
            },
            edges=Counter(edge for edge, _ in every),
            sentences=_sentences(every),
        )

    async def passages(self, namespace: str, after: UUID, upto: UUID | None) -> Portion:
        """Episodes in a range of ids, and what they mention. Raises Unavailable."""
        rows = await self._client.read(_EPISODES, **self._bounds(namespace, after, upto))
        return Portion(
            passages={UUID(row["id"]): (row["name"], tuple(sorted(row["mentions"]))) for row in rows}
        )

    async def texts(self, passages: Iterable[UUID]) -> dict[UUID, object]:
        """Of these passages those that are there, with what they have for a text. Raises Unavailable."""
        ids = [str(one) for one in passages]
        rows = await self._client.read(_TEXTS, record=self._record, ids=ids) if ids else []
        return {UUID(row["id"]): row["text"] for row in rows}

    def _bounds(self, namespace: str, after: UUID, upto: UUID | None) -> dict[str, str | None]:
        return {
            "record": self._record,
            "namespace": namespace,
            "after": str(after),
            "upto": str(upto) if upto else None,
        }


def _edge(row: Row) -> Edge:
    return Edge(
        UUID(row["subject"]), row["predicate"], UUID(row["object"]), tuple(row["facts"]), row["ended"]
    )


def _sentences(said: Iterable[tuple[Edge, str | None]]) -> dict[Edge, set[str | None]]:
    sentences: dict[Edge, set[str | None]] = {}
    for edge, sentence in said:
        sentences.setdefault(edge, set()).add(sentence)
    return sentences


def portion(
    entities: Iterable[ShownEntity] = (),
    facts: Iterable[Fact] = (),
    passages: Iterable[tuple[ShownPassage, tuple[UUID, ...]]] = (),
) -> Portion:
    """What Neo4j should hold of these, in the same words."""
    edges = [(_due(fact), fact) for fact in facts]
    return Portion(
        nodes={
            one.id: ("value",)
            if one.value
            else (one.name, one.type, one.mentions, tuple(sorted(map(str, one.members))))
            for one in entities
        },
        edges=Counter(edge for edge, _ in edges),
        sentences=_sentences((edge, row["sentence"]) for edge, fact in edges for row in fact.sources),
        passages={
            one.id: (f"{one.title} #{one.ordinal + 1}", tuple(sorted(map(str, mentioned))))
            for one, mentioned in passages
        },
    )


def _due(fact: Fact) -> Edge:
    return Edge(
        fact.subject_id,
        fact.predicate,
        fact.object_id,
        tuple(sorted({str(row["id"]) for row in fact.sources})),
        floor(fact.invalid_at.timestamp()) if fact.invalid_at else None,
    )
