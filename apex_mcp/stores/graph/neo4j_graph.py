"""The graph in Neo4j, as far as its readers go: names and what is near."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import LiteralString
from uuid import UUID

from neo4j import AsyncTransaction

from apex_mcp import ids
from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.breaker import ANSWERED
from apex_mcp.stores.graph.neo4j_client import Neo4jClient, Row, rows
from apex_mcp.stores.graph.neo4j_schema import MARK, NAMES_INDEX
from apex_mcp.stores.graph.neo4j_writing import name_key, word_key, words_of
from apex_mcp.stores.graph.protocol import Neighbour
from apex_mcp.stores.record.graph_changes import GraphMark

_MAX_HOPS = 3
# Among so many that hold the words, the best are looked for.
_MOST_NAMES = 2000

# What means something to Lucene, white space among it.
_SPECIAL = re.compile(r"[^\w]")

_NAMES: LiteralString = """
CALL db.index.fulltext.queryNodes($index, $wanted, {limit: $most}) YIELD node AS n
WHERE n.record = $record AND n.group_id = $namespace
RETURN n.uuid AS id, n.names AS names, n.alias_keys AS aliases, n.mentions AS mentions
"""

_NEAR: LiteralString = """
UNWIND $frontier AS id
MATCH (n:Entity {record: $record, uuid: id}) USING INDEX SEEK n:Entity(record, uuid)
MATCH (n)-[r:RELATES_TO]-(o:Entity)
WHERE n.group_id = $namespace AND o.group_id = $namespace AND NOT o.value AND NOT o.uuid IN $seen
  AND ($as_of IS NULL OR ((r.begins IS NULL OR r.begins <= $as_of)
                          AND (r.invalid_at IS NULL OR r.invalid_at > $as_of)))
UNWIND r.fact_ids AS fact
RETURN o.uuid AS id, collect(DISTINCT fact) AS facts ORDER BY id LIMIT $limit
"""


class Neo4jGraph:
    """Reads of one record's graph.

    A graph without the record's mark was emptied; one of another name, or one that was told less, is older or newer than the
    record, because one of both was restored from a backup: nothing is read from it.

    Args:
        client: the database.
        record_id: whose graph it is.
    """

    def __init__(self, client: Neo4jClient, record_id: UUID) -> None:
        self._client = client
        self._record = record_id.hex

    async def verify(self) -> None:
        """Ask whether the server answers.

        Raises:
            Unavailable: it does not.
            Rejected: it does not let us in.
        """
        await self._client.verify()

    async def find_names(
        self, namespace: str, query: str, *, limit: int, mark: GraphMark | None = None
    ) -> list[UUID]:
        """Entities whose name or alias is `query`, begins with it or holds its words, in this order; else parts of words."""
        name = ids.normalise_name(query)
        if not name or limit <= 0:
            return []
        key = partial(name_key, self._record, namespace)
        words = " AND ".join(_term(word_key(self._record, namespace, word)) for word in words_of(name))
        # Exact ones weigh more than any other, so that they are among the most that are looked at.
        wanted = f"{_term(key(name))}^1000 OR {_term(key(name))}*" + (f" OR ({words})" if words else "")
        async with self._reading(mark) as transaction:
            named = await self._named(transaction, namespace, wanted)
            found = [row for row in named if _match(name, row) is not None]
            if not found:
                found = await self._named(transaction, namespace, f"{_term(key(''))}*{_term(name)}*")
        found.sort(key=lambda row: (-(_match(name, row) or 0), -row["mentions"], row["id"]))
        return [UUID(row["id"]) for row in found[:limit]]

    async def _named(self, transaction: AsyncTransaction, namespace: str, wanted: str) -> list[Row]:
        return await rows(
            transaction,
            _NAMES,
            index=NAMES_INDEX,
            wanted=wanted,
            most=_MOST_NAMES,
            record=self._record,
            namespace=namespace,
        )

    async def neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        *,
        hops: int = 1,
        limit: int = 50,
        as_of: datetime | None = None,
        mark: GraphMark | None = None,
    ) -> list[Neighbour]:
        """Entities within 1 to 3 hops, themselves not among them; `as_of` passes facts only that were true then."""
        async with self._reading(mark) as transaction:
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

    @asynccontextmanager
    async def _reading(self, mark: GraphMark | None) -> AsyncGenerator[AsyncTransaction]:
        async with self._client.reading() as transaction:
            found = await rows(transaction, MARK, record=self._record)
            if not found or (mark is not None and not GraphMark(**found[0]).covers(mark)):
                raise Unavailable(
                    "the graph in Neo4j was emptied, is an older one, or is not this memory's",
                    code=Code.GRAPH_UNAVAILABLE,
                    next_step="nothing is to be done: it is written again from the record",
                    details={"marked": False, ANSWERED: True},
                )
            yield transaction


def _neighbour(id_: str, hops: int, facts: Sequence[str]) -> Neighbour:
    return Neighbour(entity_id=UUID(id_), hops=hops, fact_ids=tuple(sorted(map(UUID, facts))))


def _match(name: str, row: Row) -> int | None:
    """How well a node's names match: whole name, whole alias, beginning of a name, all words of one; else None."""
    if name in row["names"]:
        return 3
    if name in row["aliases"]:
        return 2
    if any(one.startswith(name) for one in row["names"]):
        return 1
    words = set(words_of(name))
    return (
        0 if words and any(words <= set(words_of(one)) for one in (*row["names"], *row["aliases"])) else None
    )


def _term(key: str) -> str:
    """A term of a Lucene query, taken literally."""
    return _SPECIAL.sub(r"\\\g<0>", key)
