"""What Neo4j must have before the first write: constraints, and indexes under the names that Graphiti gives them.

Several memories may share a database: every node carries its `record`, relations are found from nodes, and no query leaves it.
"""

import logging
from typing import LiteralString

from apex_mcp.stores.graph.neo4j_client import Neo4jClient

NAMES_INDEX = "apex_names"
# Of a `GraphMark`: what the graph calls itself, and how much it was told.
MARK: LiteralString = (
    "MATCH (m:ApexGraph {record: $record}) RETURN m.token AS token, coalesce(m.told, 0) AS told"
)

_log = logging.getLogger(__name__)

_STATEMENTS: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT apex_graph IF NOT EXISTS FOR (n:ApexGraph) REQUIRE n.record IS UNIQUE",
    "CREATE CONSTRAINT apex_entity IF NOT EXISTS FOR (n:Entity) REQUIRE (n.record, n.uuid) IS UNIQUE",
    "CREATE CONSTRAINT apex_episode IF NOT EXISTS FOR (n:Episodic) REQUIRE (n.record, n.uuid) IS UNIQUE",
    # Graphiti looks by uuid, by group and by name, and in these full-text indexes.
    "CREATE INDEX entity_uuid IF NOT EXISTS FOR (n:Entity) ON (n.uuid)",
    "CREATE INDEX episode_uuid IF NOT EXISTS FOR (n:Episodic) ON (n.uuid)",
    "CREATE INDEX relation_uuid IF NOT EXISTS FOR ()-[e:RELATES_TO]-() ON (e.uuid)",
    "CREATE INDEX entity_group_id IF NOT EXISTS FOR (n:Entity) ON (n.group_id)",
    "CREATE INDEX episode_group_id IF NOT EXISTS FOR (n:Episodic) ON (n.group_id)",
    "CREATE INDEX relation_group_id IF NOT EXISTS FOR ()-[e:RELATES_TO]-() ON (e.group_id)",
    "CREATE INDEX name_entity_index IF NOT EXISTS FOR (n:Entity) ON (n.name)",
    "CREATE FULLTEXT INDEX node_name_and_summary IF NOT EXISTS FOR (n:Entity) ON EACH [n.name, n.summary, n.group_id]",
    "CREATE FULLTEXT INDEX edge_name_and_fact IF NOT EXISTS "
    "FOR ()-[e:RELATES_TO]-() ON EACH [e.name, e.fact, e.group_id]",
    "CREATE FULLTEXT INDEX episode_content IF NOT EXISTS "
    "FOR (e:Episodic) ON EACH [e.content, e.source, e.source_description, e.group_id]",
    # Names and words as the record normalises them, each with its record and namespace before it.
    "CREATE FULLTEXT INDEX apex_names IF NOT EXISTS FOR (n:Entity) ON EACH [n.keys] "
    "OPTIONS {indexConfig: {`fulltext.analyzer`: 'keyword'}}",
)

# Graphiti knows the index by its name, so there is one.
_OTHERS_VECTORS: LiteralString = """
MATCH (n:Entity) WHERE n.record <> $record AND n.name_embedding IS NOT NULL RETURN 1 AS found LIMIT 1
"""

_VECTOR_INDEX: LiteralString = """
CREATE VECTOR INDEX entity_name_embedding IF NOT EXISTS FOR (n:Entity) ON (n.name_embedding)
OPTIONS {indexConfig: {`vector.dimensions`: $dimension, `vector.similarity_function`: 'cosine'}}
"""


async def ensure_schema(client: Neo4jClient) -> None:
    """Create what is missing, and wait until it can be used."""
    for statement in _STATEMENTS:
        await client.alone(statement)
    await client.alone("CALL db.awaitIndexes(60)")


async def ensure_vector_index(client: Neo4jClient, dimension: int, *, record: str) -> None:
    """Create the index of the names' vectors, in place of one for vectors of another size, unless another memory's are in it."""
    found = await client.alone(
        "SHOW VECTOR INDEXES YIELD name, options WHERE name = 'entity_name_embedding' "
        "RETURN options.indexConfig['vector.dimensions'] AS dimension"
    )
    if found and found[0]["dimension"] != dimension:
        if await client.alone(_OTHERS_VECTORS, record=record):
            _log.warning(
                "names have no vector index: another memory in this Neo4j has the one for %d dimensions, and these have %d",
                found[0]["dimension"],
                dimension,
            )
            return
        await client.alone("DROP INDEX entity_name_embedding IF EXISTS")
    await client.alone(_VECTOR_INDEX, dimension=dimension)
    await client.alone("CALL db.awaitIndexes(60)")
