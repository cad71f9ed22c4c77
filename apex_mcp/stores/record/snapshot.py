"""One namespace at one revision, in one snapshot of the database: what every read stands on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.stores.record.components import Component, components
from apex_mcp.stores.record.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A connection in a read-only transaction, a namespace, and the revision that is looked at."""

    connection: Connection
    namespace: str
    revision: int

    async def rows(self, query: LiteralString, **params: Any) -> list[dict[str, Any]]:
        """Rows of one query; `namespace` and `revision` are bound besides the given parameters."""
        bound = {"namespace": self.namespace, "revision": self.revision, **params}
        return await (await self.connection.execute(query, bound)).fetchall()

    async def components(self, entity_ids: Iterable[UUID]) -> dict[UUID, Component]:
        """For each of these entities what it is shown as."""
        wanted = set(entity_ids)
        if not wanted:
            return {}
        return await components(self.connection, self.namespace, self.revision, wanted)
