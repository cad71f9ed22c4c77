"""What was forgotten, told by keyed hashes: enough to keep it from coming back, and nothing else."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Database

_ALL: LiteralString = """
SELECT k.id, k.secret, t.digest, t.kind, t.forgotten_at FROM forget_keys k LEFT JOIN tombstones t ON t.key_id = k.id
ORDER BY k.id, t.digest
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """One forgotten thing."""

    digest: bytes
    kind: str
    forgotten_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetKey:
    """A key, and the tombstones that were made with it."""

    id: UUID
    secret: bytes
    tombstones: tuple[Tombstone, ...]


class ForgetStore:
    """Tombstones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forgotten(self, namespace: str, keys: Sequence[str]) -> set[str]:
        """Those of these documents that were forgotten and not added again by hand."""
        rows = await self._database.fetch_all("SELECT id, secret FROM forget_keys")
        digests = {
            (row["id"], _digest(row["secret"], "document", namespace, key)): key
            for row in rows
            for key in keys
        }
        found = await self._database.fetch_all(
            "SELECT key_id, digest FROM tombstones WHERE digest = ANY(%s)",
            ([digest for _, digest in digests],),
        )
        return {digests[one] for row in found if (one := (row["key_id"], row["digest"])) in digests}

    async def keys_and_tombstones(self) -> list[ForgetKey]:
        """All, to go along with an archive."""
        keys: dict[UUID, tuple[bytes, list[Tombstone]]] = {}
        for row in await self._database.fetch_all(_ALL):
            _, tombstones = keys.setdefault(row["id"], (row["secret"], []))
            if row["digest"] is not None:
                tombstones.append(
                    Tombstone(digest=row["digest"], kind=row["kind"], forgotten_at=row["forgotten_at"])
                )
        return [
            ForgetKey(id=id_, secret=secret, tombstones=tuple(some)) for id_, (secret, some) in keys.items()
        ]

    async def adopt(self, keys: Sequence[ForgetKey]) -> None:
        """Take over what an archive says was forgotten."""
        async with self._database.transaction() as connection:
            for key in keys:
                await connection.execute(
                    "INSERT INTO forget_keys (id, secret) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (key.id, key.secret),
                )
                for tombstone in key.tombstones:
                    await connection.execute(
                        "INSERT INTO tombstones (key_id, digest, kind, forgotten_at) VALUES (%s, %s, %s, %s) "
                        "ON CONFLICT DO NOTHING",
                        (key.id, tombstone.digest, tombstone.kind, tombstone.forgotten_at),
                    )


def _digest(secret: bytes, kind: str, namespace: str, key: str) -> bytes:
    return hmac.new(secret, f"{kind}\x1f{namespace}\x1f{key}".encode(), hashlib.sha256).digest()
