"""The graph in Neo4j, as far as its readers go: names and what is near."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

from neo4j import AsyncTransaction

from apex_mcp import ids
from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.graph.neo4j_client import Neo4jClient, rows
from apex_mcp.stores.graph.neo4j_schema import NAMES_INDEX
from apex_mcp.stores.graph.neo4j_writing import name_key, word_key
from apex_mcp.stores.graph.protocol import Neighbour

_MAX_HOPS = 3
# Among so many that hold the words, the best are looked for.
_MOST_NAMES = 2000

_MARKED: LiteralString = "MATCH (m:ApexGraph {record: $record}) RETURN m.token AS token"

_NAMES: LiteralString = """
CALL db.index.fulltext.queryNodes($index, $wanted, {limit: $most}) YIELD node AS n
WHERE n.record = $record AND n.group_id = $namespace
  AND any(name IN n.names + n.alias_keys WHERE all(word IN $words WHERE word IN split(name, ' ')))
WITH DISTINCT n, CASE WHEN $name IN n.names THEN 3 WHEN $name IN n.alias_keys THEN 2
                      WHEN any(name IN n.names WHERE name STARTS WITH $name) THEN 1 ELSE 0 END AS match
RETURN n.uuid AS id ORDER BY match DESC, n.mentions DESC, id LIMIT $limit
"""

_NEAR: LiteralString = """
UNWIND $frontier AS id
MATCH (n:Entity {record: $record, uuid: id})-[r:RELATES_TO]-(o:Entity)
WHERE n.group_id = $namespace AND o.group_id = $namespace AND NOT o.value AND NOT o.uuid IN $seen
  AND ($as_of IS NULL OR ((r.valid_at IS NULL OR r.valid_at <= $as_of)
                          AND (r.invalid_at IS NULL OR r.invalid_at > $as_of)))
UNWIND r.fact_ids AS fact
RETURN o.uuid AS id, collect(DISTINCT fact) AS facts ORDER BY id LIMIT $limit
"""

_COUNT: LiteralString = """
MATCH (n:Entity {group_id: $namespace}) WHERE n.record = $record
RETURN count(CASE WHEN NOT n.value THEN 1 END) AS entities, sum(COUNT { (n)-[:RELATES_TO]->() }) AS facts
"""


class Neo4jGraph:
    """Reads of one record's graph.

    A graph that lacks the record's mark was wiped, or belongs to a copy of the record: nothing is read from it.

    Args:
        client: the database.
        record_id: whose graph it is.
    """

    def __init__(self, client: Neo4jClient, record_id: UUID) -> None:
        self._client = client
        self._record = record_id.hex

    async def token(self) -> str | None:
        """The name of the graph that is there; None where there is none of this record."""
        found = await self._client.read(_MARKED, record=self._record)
        return str(found[0]["token"]) if found else None

    async def find_names(self, namespace: str, query: str, *, limit: int) -> list[UUID]:
        """Entities whose name or alias holds the words of `query`; exact ones first."""
        name = ids.normalise_name(query)
        if not name:
            return []
        words = name.split()
        whole = _quoted(name_key(self._record, namespace, name))
        held = " AND ".join(_quoted(word_key(self._record, namespace, word)) for word in words)
        found = await self._client.read(
            _NAMES,
            index=NAMES_INDEX,
            # Exact ones weigh more than any other, so that they are among the most that are looked at.
            wanted=f"{whole}^1000 OR ({held})",
            record=self._record,
            namespace=namespace,
            name=name,
            words=words,
            most=_MOST_NAMES,
            limit=max(0, limit),
        )
        return [UUID(row["id"]) for row in found]

    async def neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        *,
        hops: int = 1,
        limit: int = 50,
        as_of: datetime | None = None,
    ) -> list[Neighbour]:
        """Entities within 1 to 3 hops, themselves not among them; `as_of` passes facts only that were true then."""
        async with self._client.reading() as transaction:
            await self._require_mark(transaction)
            frontier = sorted({str(one) for one in entity_ids})
            seen, found = set(frontier), list[Neighbour]()
            for hop in range(1, min(hops, _MAX_HOPS) + 1):
                near = await rows(
                    transaction,
                    _NEAR,
                    record=self._record,
                    namespace=namespace,
                    frontier=frontier,
                    seen=list(seen),
                    as_of=as_of.astimezone(UTC) if as_of else None,
                    limit=max(0, limit - len(found)),
                )
                found += [_neighbour(row["id"], hop, row["facts"]) for row in near]
                frontier = [row["id"] for row in near]
                if not frontier or len(found) >= limit:
                    break
                seen.update(frontier)
        return found

    async def count(self, namespace: str) -> tuple[int, int]:
        """Number of entities and of facts."""
        (row,) = await self._client.read(_COUNT, record=self._record, namespace=namespace)
        return int(row["entities"]), int(row["facts"])

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def _require_mark(self, transaction: AsyncTransaction) -> None:
        if not await rows(transaction, _MARKED, record=self._record):
            raise Unavailable(
                "the graph in Neo4j is not this memory's, or was emptied",
                code=Code.GRAPH_UNAVAILABLE,
                next_step="nothing is to be done: it is written again from the record",
            )


def _neighbour(id_: str, hops: int, facts: Sequence[str]) -> Neighbour:
    return Neighbour(entity_id=UUID(id_), hops=hops, fact_ids=tuple(sorted(map(UUID, facts))))


def _quoted(key: str) -> str:
    """A term of a Lucene query, taken literally."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
