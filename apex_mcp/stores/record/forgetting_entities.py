"""Forgetting an entity: every name that is shown as it, with its mentions, facts and links, in every version at once."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.record.components import components
from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.forgetting_prospects import ShownDocument
from apex_mcp.stores.record.graph_changes import note_forgotten_entities
from apex_mcp.stores.record.tombstones import ForgetKey, Kind, find, forget_alone, put
from apex_mcp.stores.record.versions import LESS_THAN, RAISE_REVISIONS
from apex_mcp.stores.record.visibility import DIFFERENT, NAMED, SPLIT

_SHOWN = 20
_ROWS_AT_ONCE = 500
# What reading an answer may raise that an archive brought: nobody can tell what it names, and what it answers is asked anew.
_UNREADABLE = (KeyError, TypeError, AttributeError)

_REVISION: LiteralString = """
SELECT n.revision FROM namespaces n WHERE n.name = %(namespace)s
  AND EXISTS (SELECT 1 FROM entities e WHERE e.id = %(id)s AND e.namespace = n.name)
"""

# Names that were linked with these in whatever version, or are spellings of them as a commit would link them, and that nothing
# shows as something else now.
_PAST_NAMES: LiteralString = f"""
SELECT e.id, e.normalised, e.core FROM entity_pairs p
JOIN entities e ON e.id = CASE WHEN p.a_id = ANY(%(ids)s) THEN p.b_id ELSE p.a_id END
WHERE (p.a_id = ANY(%(ids)s) OR p.b_id = ANY(%(ids)s)) AND e.id <> ALL(%(ids)s) AND NOT {SPLIT} AND NOT {NAMED}
  AND EXISTS (SELECT 1 FROM entity_links l WHERE l.a_id = p.a_id AND l.b_id = p.b_id AND l.reason <> '{DIFFERENT}')
UNION
SELECT e.id, e.normalised, e.core FROM entities o JOIN entities e ON e.namespace = o.namespace AND e.core = o.core
CROSS JOIN LATERAL (SELECT o.id AS a_id, e.id AS b_id) AS p
WHERE o.id = ANY(%(ids)s) AND o.core <> '' AND e.id <> ALL(%(ids)s) AND NOT {SPLIT} AND NOT {NAMED}
  AND EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = o.id AND s.type IN ('Organization', 'Thing'))
  AND EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = e.id AND s.type IN ('Organization', 'Thing'))
"""

_NAMES: LiteralString = """
SELECT e.id, e.normalised, e.core,
       coalesce((SELECT s.name FROM entity_sources s WHERE s.entity_id = e.id ORDER BY s.version_id LIMIT 1),
                                    e.normalised) AS name
FROM entities e WHERE e.id = ANY(%s) ORDER BY e.seq
"""

_FACTS_NAMING: LiteralString = "(f.subject_id = ANY(%(ids)s) OR f.object_id = ANY(%(ids)s))"

# What such a version was made of is not what it holds any more, see `versions.lacking`. Of one that an archive brought nobody
# knows what its caller gave, so what it holds is looked at.
_LACKS_SOMETHING: LiteralString = f"""
UPDATE versions v SET content_hash = '{LESS_THAN}' || v.content_hash
WHERE v.content_hash NOT LIKE '{LESS_THAN}%%' AND v.namespace = %(namespace)s AND (v.ingestion_id = ANY(%(ingestions)s)
  OR v.imported AND v.id IN (
    SELECT s.version_id FROM entity_sources s WHERE s.entity_id = ANY(%(ids)s)
    UNION SELECT s.version_id FROM facts f JOIN fact_sources s ON s.fact_id = f.id WHERE {_FACTS_NAMING}
    UNION SELECT s.version_id FROM entity_aliases a JOIN entity_sources s ON s.entity_id = a.entity_id
    WHERE a.namespace = %(namespace)s AND a.key = ANY(%(names)s) AND s.alias_keys && %(names)s))
"""

_COUNT_FACTS: LiteralString = f"""
SELECT count(*) AS facts,
       ARRAY(SELECT min(s.sentence) FROM facts f JOIN fact_sources s ON s.fact_id = f.id WHERE {_FACTS_NAMING}
             GROUP BY f.id ORDER BY 1 LIMIT %(shown)s) AS first_facts
FROM facts f WHERE {_FACTS_NAMING}
"""

# They stay: what their texts say is theirs.
_MENTIONED_IN: LiteralString = """
SELECT count(*) OVER () AS every, d.id, d.key, coalesce(
    (SELECT v.title FROM versions v WHERE v.document_id = d.id AND v.tombstoned_at IS NULL
     ORDER BY v.number DESC LIMIT 1), '') AS title
FROM documents d WHERE d.id IN (
    SELECT v.document_id FROM entity_sources s JOIN versions v ON v.id = s.version_id
    WHERE s.entity_id = ANY(%(ids)s) AND v.tombstoned_at IS NULL)
ORDER BY title, d.id LIMIT 100
"""

_REQUESTS: LiteralString = """
SELECT id, request -> 'entities' AS entities, request -> 'facts' AS facts FROM ingestions
WHERE namespace = %s AND id > %s AND (request -> 'entities' <> '[]'::jsonb OR request -> 'facts' <> '[]'::jsonb)
ORDER BY id LIMIT %s
"""

_WRITE_REQUESTS: LiteralString = """
UPDATE ingestions i SET request = i.request || r.given FROM jsonb_to_recordset(%s::jsonb) AS r(id uuid, given jsonb)
WHERE i.id = r.id
"""

_ANSWERS: LiteralString = """
SELECT a.version_id, a.key, a.answer -> 'content' AS content FROM model_answers a
WHERE a.namespace = %s AND (a.version_id, a.key) > (%s, %s) AND jsonb_typeof(a.answer -> 'content' -> 'entities') = 'array'
ORDER BY a.version_id, a.key LIMIT %s
"""

_WRITE_ANSWERS: LiteralString = """
UPDATE model_answers a SET answer = jsonb_set(a.answer, '{content}', r.content)
FROM jsonb_to_recordset(%s::jsonb) AS r(version_id uuid, key text, content jsonb)
WHERE a.version_id = r.version_id AND a.key = r.key
"""

_DELETE_ANSWERS: LiteralString = """
DELETE FROM model_answers a USING unnest(%s::uuid[], %s::text[]) AS r(version_id, key)
WHERE a.version_id = r.version_id AND a.key = r.key
"""

_LOCK_ENTITIES: LiteralString = "SELECT 1 FROM entities WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE"
_LOCK_FACTS: LiteralString = f"SELECT 1 FROM facts f WHERE {_FACTS_NAMING} ORDER BY f.id FOR UPDATE"
_DELETE_FACTS: LiteralString = f"DELETE FROM facts f WHERE {_FACTS_NAMING}"
# With their sources, aliases, links and vectors.
_DELETE_ENTITIES: LiteralString = "DELETE FROM entities WHERE id = ANY(%(ids)s)"
_DELETE_SPLITS: LiteralString = "DELETE FROM entity_splits WHERE a_id = ANY(%(ids)s) OR b_id = ANY(%(ids)s)"

# What others are also called.
_DELETE_ALIASES: LiteralString = """
DELETE FROM entity_aliases WHERE namespace = %(namespace)s AND key = ANY(%(names)s) RETURNING entity_id
"""
_STRIP_ALIASES: LiteralString = """
UPDATE entity_sources s SET
    aliases = ARRAY(SELECT u.a FROM unnest(s.aliases, s.alias_keys) WITH ORDINALITY AS u(a, k, n)
                    WHERE u.k <> ALL(%(names)s) ORDER BY u.n),
    alias_keys = ARRAY(SELECT u.k FROM unnest(s.alias_keys) WITH ORDINALITY AS u(k, n)
                       WHERE u.k <> ALL(%(names)s) ORDER BY u.n)
WHERE s.entity_id = ANY(%(others)s) AND s.alias_keys && %(names)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityProspect:
    """What goes with an entity.

    Attributes:
        members: the ids that mean it, and the name of each.
        first_facts: some of the facts, by their sentences.
        mentioned_in: documents in which it was found, the first hundred; they stay.
        mentioning: how many there are.
    """

    members: Mapping[UUID, str]
    facts: int
    first_facts: Sequence[str]
    mentioned_in: Sequence[ShownDocument]
    mentioning: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityGone:
    """What went."""

    members: Collection[UUID]
    facts: int


async def look_at_entity(connection: Connection, namespace: str, entity_id: UUID) -> EntityProspect | None:
    """What would go with an entity; None where the namespace has none of this id."""
    members = await _members(connection, namespace, entity_id)
    if not members:
        return None
    bound: dict[str, Any] = {"ids": members, "shown": _SHOWN}
    names = await (await connection.execute(_NAMES, (members,))).fetchall()
    counts = await (await connection.execute(_COUNT_FACTS, bound)).fetchone()
    documents = await (await connection.execute(_MENTIONED_IN, bound)).fetchall()
    assert counts is not None
    return EntityProspect(
        members={row["id"]: row["name"] for row in names},
        facts=counts["facts"],
        first_facts=counts["first_facts"],
        mentioned_in=[ShownDocument(id=row["id"], key=row["key"], title=row["title"]) for row in documents],
        mentioning=documents[0]["every"] if documents else 0,
    )


async def forget_entity(connection: Connection, namespace: str, entity_id: UUID) -> EntityGone | None:
    """Within a transaction: remove it everywhere, and keep it from being extracted again.

    No commit is under way meanwhile. Locks in the order of the others: ingestions, entities, facts, namespace.
    """
    await forget_alone(connection)
    members = await _members(connection, namespace, entity_id)
    if not members:
        return None
    bound: dict[str, Any] = {"ids": members, "namespace": namespace}
    rows = await (await connection.execute(_NAMES, (members,))).fetchall()
    names = [row["normalised"] for row in rows]
    stripped = await _strip_requests(connection, namespace, set(names))
    await connection.execute(_LOCK_ENTITIES, bound)
    await connection.execute(_LOCK_FACTS, bound)
    await connection.execute(RAISE_REVISIONS, ([namespace],))
    await note_forgotten_entities(connection, namespace, members)
    await connection.execute(_LACKS_SOMETHING, bound | {"ingestions": stripped, "names": names})
    facts = (await connection.execute(_DELETE_FACTS, bound)).rowcount
    await connection.execute(_DELETE_ENTITIES, bound)
    await connection.execute(_DELETE_SPLITS, bound)
    others = await (await connection.execute(_DELETE_ALIASES, bound | {"names": names})).fetchall()
    if others:
        called = {"names": names, "others": [row["entity_id"] for row in others]}
        await connection.execute(_STRIP_ALIASES, called)
        await note_forgotten_entities(connection, namespace, called["others"])
    await _strip_answers(connection, namespace, set(names))
    await put(connection, Kind.ENTITY, namespace, names)
    return EntityGone(members=members, facts=facts)


async def _members(connection: Connection, namespace: str, entity_id: UUID) -> list[UUID]:
    """The ids of all that is shown as this entity now, and of what was in the past and is nothing else now."""
    bound: dict[str, Any] = {"namespace": namespace, "id": entity_id}
    row = await (await connection.execute(_REVISION, bound)).fetchone()
    if row is None:
        return []
    found = await components(connection, namespace, row["revision"], [entity_id])
    members = list(found[entity_id].members)
    shown = await (await connection.execute(_NAMES, (members,))).fetchall()
    while True:
        bound = {"namespace": namespace, "revision": row["revision"], "ids": members}
        past = await (await connection.execute(_PAST_NAMES, bound)).fetchall()
        more = dict.fromkeys(
            one["id"]
            for one in past
            if not any(
                ids.differ_in_form(one["normalised"], one["core"], other["normalised"], other["core"])
                for other in shown
            )
        )
        if not more:
            return members
        members += more


async def _strip_requests(connection: Connection, namespace: str, names: set[str]) -> list[UUID]:
    """What callers gave with documents, as the ingestions keep it; those of which something went."""
    all_changed: list[UUID] = []
    after = UUID(int=0)
    while rows := await (await connection.execute(_REQUESTS, (namespace, after, _ROWS_AT_ONCE))).fetchall():
        after = rows[-1]["id"]
        changed: list[dict[str, Any]] = []
        for row in rows:
            given = {"entities": row["entities"], "facts": row["facts"]}
            stripped = _without(given, names)
            if stripped != given:
                changed.append({"id": str(row["id"]), "given": stripped})
                all_changed.append(row["id"])
        if changed:
            await connection.execute(_WRITE_REQUESTS, (json.dumps(changed),))
    return all_changed


async def _strip_answers(connection: Connection, namespace: str, names: set[str]) -> None:
    """What a model answered."""
    after = UUID(int=0), ""
    while rows := await (await connection.execute(_ANSWERS, (namespace, *after, _ROWS_AT_ONCE))).fetchall():
        after = rows[-1]["version_id"], rows[-1]["key"]
        changed: list[dict[str, Any]] = []
        unreadable: list[tuple[UUID, str]] = []
        for row in rows:
            try:
                stripped = _without(row["content"], names)
            except _UNREADABLE:
                unreadable.append((row["version_id"], row["key"]))
                continue
            if stripped != row["content"]:
                changed.append({"version_id": str(row["version_id"]), "key": row["key"], "content": stripped})
        if changed:
            await connection.execute(_WRITE_ANSWERS, (json.dumps(changed),))
        if unreadable:
            await connection.execute(_DELETE_ANSWERS, tuple(map(list, zip(*unreadable, strict=True))))


async def answer_without_forgotten(
    connection: Connection, keys: Sequence[ForgetKey], version_id: UUID, answer: dict[str, Any]
) -> dict[str, Any] | None:
    """What a model answered about a version, without what its namespace has forgotten by now; None of what nobody can read."""
    content: Any = answer.get("content")
    version = await connection.execute("SELECT namespace FROM versions WHERE id = %s", (version_id,))
    row = await version.fetchone()
    if row is None or not isinstance(content, dict) or "entities" not in content:
        return answer
    read = cast("dict[str, Any]", content)
    try:
        named = set(_named(read))
    except _UNREADABLE:
        return None
    gone = await find(connection, keys, Kind.ENTITY, row["namespace"], named)
    return {**answer, "content": _without(read, gone)} if gone else answer


def _named(content: dict[str, Any]) -> Iterator[str]:
    for one in content["entities"]:
        yield from map(ids.normalise_name, (one["name"], *one["aliases"]))
    for one in content["facts"]:
        yield from map(ids.normalise_name, (one["subject"], one["object"]))


def _without(given: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Entities and facts as plain data, without those that have one of the names."""

    def stays(name: str) -> bool:
        return ids.normalise_name(name) not in names

    return {
        **given,
        "entities": [
            {**one, "aliases": [alias for alias in one["aliases"] if stays(alias)]}
            for one in given["entities"]
            if stays(one["name"])
        ],
        "facts": [one for one in given["facts"] if stays(one["subject"]) and stays(one["object"])],
    }
