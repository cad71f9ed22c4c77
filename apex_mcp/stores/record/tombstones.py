"""Tombstones: what was forgotten, as keyed hashes.

They keep an import from bringing it back, and a name from being extracted again, until the user gives it by his own hand.
"""

import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import Extraction, IngestionRequest
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database

# Shared by commits, and taken alone to forget an entity: no commit under way names what was just forgotten. Taken first.
_FORGETTING: LiteralString = "hashtext('apex-mcp forgetting')"
_SHARE: LiteralString = f"SELECT pg_advisory_xact_lock_shared({_FORGETTING})"
_ALONE: LiteralString = f"SELECT pg_advisory_xact_lock({_FORGETTING})"

_KEYS: LiteralString = "SELECT id, secret, own FROM forget_keys"
KEYS_IF_ANY: LiteralString = f"{_KEYS} WHERE EXISTS (SELECT 1 FROM tombstones)"
_KEYS_IF_ENTITIES: LiteralString = (
    f"{_KEYS} WHERE EXISTS (SELECT 1 FROM tombstones WHERE kind = 'entity' AND lifted_at IS NULL)"
)

_FIND: LiteralString = """
SELECT t.digest FROM unnest(%s::uuid[], %s::bytea[]) AS r(key_id, digest)
JOIN tombstones t ON t.key_id = r.key_id AND t.digest = r.digest WHERE t.lifted_at IS NULL
"""

_LIFT: LiteralString = """
UPDATE tombstones t SET lifted_at = clock_timestamp() FROM unnest(%s::uuid[], %s::bytea[]) AS r(key_id, digest)
WHERE t.key_id = r.key_id AND t.digest = r.digest AND t.lifted_at IS NULL
"""

_PUT: LiteralString = """
INSERT INTO tombstones (key_id, digest, kind) SELECT k.id, d, %s FROM forget_keys k, unnest(%s::bytea[]) AS u(d) WHERE k.own
ON CONFLICT (key_id, digest) DO UPDATE SET forgotten_at = clock_timestamp(), lifted_at = NULL
WHERE tombstones.lifted_at IS NOT NULL
"""

_ADOPT_KEYS: LiteralString = """
INSERT INTO forget_keys (id, secret) SELECT * FROM unnest(%s::uuid[], %s::bytea[]) ON CONFLICT DO NOTHING
"""

_ADOPT: LiteralString = """
INSERT INTO tombstones (key_id, digest, kind, forgotten_at)
SELECT * FROM unnest(%s::uuid[], %s::bytea[], %s::text[], %s::timestamptz[])
ON CONFLICT (key_id, digest) DO UPDATE SET forgotten_at = excluded.forgotten_at, lifted_at = NULL
WHERE tombstones.lifted_at < excluded.forgotten_at
"""


class Kind(StrEnum):
    """What a tombstone stands for: a document by its key, an entity by its normalised name."""

    DOCUMENT = "document"
    ENTITY = "entity"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetKey:
    """A secret under which names are hashed; this record makes new tombstones with its `own`."""

    id: UUID
    secret: bytes
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """One row, as it is exported and imported."""

    key_id: UUID
    digest: bytes
    kind: str
    forgotten_at: datetime


class TombstoneStore:
    """The tombstones, for whoever brings something in or takes it along."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys_and_tombstones(self) -> tuple[list[ForgetKey], list[Tombstone]]:
        """Everything that keeps what was forgotten from coming back, to be taken along; it tells nothing by itself."""
        async with self._database.snapshot(answer_seconds=LONG_SECONDS) as connection:
            keys = await all_keys(connection)
            rows = await (
                await connection.execute(
                    "SELECT key_id, digest, kind, forgotten_at FROM tombstones WHERE lifted_at IS NULL"
                )
            ).fetchall()
        return keys, [Tombstone(**row) for row in rows]

    async def adopt(self, keys: Sequence[ForgetKey], tombstones: Sequence[Tombstone]) -> None:
        """Take over what an archive brings: it counts as what was forgotten here, unless the user gave it again since.

        New tombstones keep the own key.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute(_ADOPT_KEYS, ([key.id for key in keys], [key.secret for key in keys]))
            await connection.execute(
                _ADOPT,
                (
                    [one.key_id for one in tombstones],
                    [one.digest for one in tombstones],
                    [one.kind for one in tombstones],
                    [one.forgotten_at for one in tombstones],
                ),
            )


def digest(secret: bytes, kind: Kind, namespace: str, name: str) -> bytes:
    """HMAC-SHA256 of a document's key, or of an entity's normalised name, in its namespace."""
    said = f"{kind}\x1f{namespace}\x1f{name}"
    # Lone surrogates are text too.
    return hmac.digest(secret, said.encode("utf-8", errors="surrogatepass"), "sha256")


async def hold_off_forgetting(connection: Connection) -> list[ForgetKey]:
    """First in a transaction that writes entities: none is forgotten until it ends.

    Returns:
        Under which names may be forgotten; nothing where no entity ever was.
    """
    async with connection.pipeline():
        await connection.execute(_SHARE)
        # A statement of its own, which sees what the one before it may have waited for.
        found = await connection.execute(_KEYS_IF_ENTITIES)
        return as_keys(await found.fetchall())


async def forget_alone(connection: Connection) -> None:
    """First in a transaction that forgets an entity: commits under way are waited for, and wait."""
    await connection.execute(_ALONE)


async def without_forgotten(
    connection: Connection, keys: Sequence[ForgetKey], namespace: str, extraction: Extraction
) -> Extraction:
    """What was extracted, without what names a forgotten entity."""
    names = {ids.normalise_name(name) for name in _names(extraction)}
    gone = await find(connection, keys, Kind.ENTITY, namespace, names)
    if not gone:
        return extraction

    def stays(name: str) -> bool:
        return ids.normalise_name(name) not in gone

    return replace(
        extraction,
        entities=tuple(
            replace(one, aliases=tuple(filter(stays, one.aliases)))
            for one in extraction.entities
            if stays(one.name)
        ),
        facts=tuple(one for one in extraction.facts if stays(one.subject) and stays(one.object)),
    )


async def find(
    connection: Connection, keys: Sequence[ForgetKey], kind: Kind, namespace: str, names: Collection[str]
) -> set[str]:
    """Those of the names (documents' keys, or normalised names of entities) that were forgotten, under any of the keys."""
    by_digest = {(key.id, digest(key.secret, kind, namespace, name)): name for key in keys for name in names}
    if not by_digest:
        return set()
    rows = await (await connection.execute(_FIND, _columns(by_digest))).fetchall()
    found = {row["digest"] for row in rows}
    return {name for (_, hashed), name in by_digest.items() if hashed in found}


async def put(connection: Connection, kind: Kind, namespace: str, names: Iterable[str]) -> None:
    """Note what is forgotten from now on, under this record's own key."""
    own = next(key for key in await all_keys(connection) if key.own)
    await connection.execute(_PUT, (kind, [digest(own.secret, kind, namespace, name) for name in names]))


async def lift(
    connection: Connection, keys: Sequence[ForgetKey], requests: Sequence[IngestionRequest]
) -> None:
    """Within the transaction that accepts what the user gives: it is forgotten no longer, nor what it is said to name."""
    given = {
        (kind, request.namespace, name)
        for request in requests
        for kind, name in ((Kind.DOCUMENT, request.key), *((Kind.ENTITY, one) for one in _given(request)))
    }
    await connection.execute(
        _LIFT, _columns((key.id, digest(key.secret, *one)) for key in keys for one in given)
    )


async def all_keys(connection: Connection) -> list[ForgetKey]:
    """Every key, of this record and of archives."""
    return as_keys(await (await connection.execute(_KEYS)).fetchall())


def _given(request: IngestionRequest) -> set[str]:
    names = [name for one in request.entities for name in (one.name, *one.aliases)]
    names += [name for one in request.facts for name in (one.subject, one.object)]
    return {ids.normalise_name(name) for name in names}


def _names(extraction: Extraction) -> Iterable[str]:
    for entity in extraction.entities:
        yield from (entity.name, *entity.aliases)
    for fact in extraction.facts:
        yield from (fact.subject, fact.object)


def as_keys(rows: Iterable[dict[str, Any]]) -> list[ForgetKey]:
    """From rows of `forget_keys`."""
    return [ForgetKey(**row) for row in rows]


def _columns(hashed: Iterable[tuple[UUID, bytes]]) -> tuple[list[UUID], list[bytes]]:
    pairs = list(hashed)
    return [key_id for key_id, _ in pairs], [one for _, one in pairs]
