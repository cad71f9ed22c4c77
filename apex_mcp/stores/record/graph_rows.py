"""Rows of the entities and facts that versions name, as both of their commits write them."""

import json
from dataclasses import dataclass, field
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import ExtractedFact, Extraction, Layer
from apex_mcp.stores.record.database import Connection

# Here and below sorted by id, so that no two commits, or removals, that name the same wait for each other in a circle.
_INSERT_ENTITIES: LiteralString = """
INSERT INTO entities (id, namespace, normalised, core)
SELECT DISTINCT ON (id) id, namespace, normalised, core FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, namespace text, normalised text, core text) ORDER BY id
ON CONFLICT DO NOTHING
"""

_INSERT_ALIASES: LiteralString = """
INSERT INTO entity_aliases (namespace, key, entity_id)
SELECT DISTINCT namespace, key, id FROM jsonb_to_recordset(%s::jsonb) AS r(id uuid, namespace text, alias_keys jsonb)
CROSS JOIN LATERAL jsonb_array_elements_text(alias_keys) AS a(key) ORDER BY namespace, key, id
ON CONFLICT DO NOTHING
"""

_INSERT_ENTITY_SOURCES: LiteralString = """
INSERT INTO entity_sources (entity_id, version_id, name, type, aliases, alias_keys, chunk_ids)
SELECT id, version_id, name, type, ARRAY(SELECT jsonb_array_elements_text(aliases)),
       ARRAY(SELECT jsonb_array_elements_text(alias_keys)), ARRAY(SELECT jsonb_array_elements_text(chunk_ids)::uuid)
FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, version_id uuid, name text, type text, aliases jsonb, alias_keys jsonb, chunk_ids jsonb)
ORDER BY id
ON CONFLICT DO NOTHING
"""

# A passage counts as one mention, whoever found it: the model's row has those that the text's row lacks.
_ADD_ENTITY_SOURCES: LiteralString = """
INSERT INTO entity_sources (entity_id, version_id, layer, name, type, aliases, alias_keys, chunk_ids)
SELECT r.id, r.version_id, 1, r.name, r.type, ARRAY(SELECT jsonb_array_elements_text(r.aliases)),
       ARRAY(SELECT jsonb_array_elements_text(r.alias_keys)),
       ARRAY(SELECT c::uuid FROM jsonb_array_elements_text(r.chunk_ids) AS c WHERE c::uuid <> ALL(coalesce(s.chunk_ids, '{}')))
FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, version_id uuid, name text, type text, aliases jsonb, alias_keys jsonb, chunk_ids jsonb)
LEFT JOIN entity_sources s ON s.entity_id = r.id AND s.version_id = r.version_id AND s.layer = 0
ORDER BY r.id
ON CONFLICT DO NOTHING
"""

_INSERT_FACTS: LiteralString = """
INSERT INTO facts (id, namespace, subject_id, predicate, object_id, object_text)
SELECT DISTINCT ON (id) id, namespace, subject_id, predicate, object_id, object_text FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, namespace text, subject_id uuid, predicate text, object_id uuid, object_text text) ORDER BY id
ON CONFLICT DO NOTHING
"""

_INSERT_FACT_SOURCES: LiteralString = """
INSERT INTO fact_sources (fact_id, version_id, chunk_id, sentence, valid_at, invalid_at)
SELECT id, version_id, chunk_id, sentence, valid_at, invalid_at FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, version_id uuid, chunk_id uuid, sentence text, valid_at timestamptz, invalid_at timestamptz)
ORDER BY id
ON CONFLICT DO NOTHING
"""

# Of a fact that the text's row has already, the model's is needed for an end that only the model saw.
_ADD_FACT_SOURCES: LiteralString = """
INSERT INTO fact_sources (fact_id, version_id, layer, chunk_id, sentence, valid_at, invalid_at)
SELECT r.id, r.version_id, 1, r.chunk_id, r.sentence, r.valid_at, r.invalid_at FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, version_id uuid, chunk_id uuid, sentence text, valid_at timestamptz, invalid_at timestamptz)
LEFT JOIN fact_sources s ON s.fact_id = r.id AND s.version_id = r.version_id AND s.layer = 0
WHERE s.fact_id IS NULL OR (s.invalid_at IS NULL AND r.invalid_at IS NOT NULL)
ORDER BY r.id
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class GraphRows:
    """What is inserted, as plain data."""

    entities: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    facts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, namespace: str, version_id: UUID, extraction: Extraction) -> None:
        """Take in what was extracted from one version."""
        for entity in extraction.entities:
            self.entities.append({
                "id": str(ids.entity_id(namespace, entity.name)),
                "namespace": namespace,
                "version_id": str(version_id),
                "normalised": ids.normalise_name(entity.name),
                "core": ids.core_name(entity.name),
                "name": entity.name,
                "type": entity.type,
                "aliases": list(entity.aliases),
                "alias_keys": [ids.normalise_name(alias) for alias in entity.aliases],
                "chunk_ids": [str(ids.chunk_id(version_id, ordinal)) for ordinal in entity.chunks],
            })
        for fact in extraction.facts:
            self.facts.append({
                "id": str(fact_id(namespace, fact)),
                "namespace": namespace,
                "version_id": str(version_id),
                "subject_id": str(ids.entity_id(namespace, fact.subject)),
                "predicate": fact.predicate,
                "object_id": str(ids.entity_id(namespace, fact.object)),
                "object_text": fact.object,
                "chunk_id": str(ids.chunk_id(version_id, fact.chunk)),
                "sentence": fact.sentence,
                "valid_at": fact.valid_at.isoformat() if fact.valid_at else None,
                "invalid_at": fact.invalid_at.isoformat() if fact.invalid_at else None,
            })


def fact_id(namespace: str, fact: ExtractedFact) -> UUID:
    """Id of an extracted fact; an object has the id of the entity of that name, should there be one."""
    return ids.fact_id(
        namespace,
        ids.entity_id(namespace, fact.subject),
        fact.predicate,
        str(ids.entity_id(namespace, fact.object)),
        fact.valid_at.isoformat() if fact.valid_at else "",
    )


async def insert_graph(connection: Connection, rows: GraphRows, layer: Layer) -> None:
    """Insert the rows, hidden as their version or its second commit is."""
    model = layer is Layer.MODEL
    if rows.entities:
        entities = json.dumps(rows.entities)
        await connection.execute(_INSERT_ENTITIES, (entities,))
        await connection.execute(_ADD_ENTITY_SOURCES if model else _INSERT_ENTITY_SOURCES, (entities,))
        # Behind the sources, which hold the entities' rows: a removal takes no alias that is there already away from under us.
        if any(row["alias_keys"] for row in rows.entities):
            await connection.execute(_INSERT_ALIASES, (entities,))
    if rows.facts:
        facts = json.dumps(rows.facts)
        await connection.execute(_INSERT_FACTS, (facts,))
        await connection.execute(_ADD_FACT_SOURCES if model else _INSERT_FACT_SOURCES, (facts,))
