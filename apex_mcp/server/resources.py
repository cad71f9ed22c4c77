"""Resources: a document's text, an entity, an ingestion, by id, for clients that attach them to a chat."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mcp.server.mcpserver import Context, MCPServer

from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, InputError, NotFound
from apex_mcp.server import rendering
from apex_mcp.server.desk import Desk
from apex_mcp.server.failures import resource_failure

if TYPE_CHECKING:
    from apex_mcp.memory import Memory

_DOCUMENT_CHARS = 50_000


def add_resources(server: MCPServer[Any], desk: Desk) -> None:
    """Offer the three kinds of resource."""

    async def read(
        ctx: Context[Any, Any], resource_id: str, ask: "Callable[[Memory, Caller, UUID], Awaitable[str]]"
    ) -> str:
        try:
            return await ask(await desk.memory(), desk.caller(ctx), _uuid(resource_id))
        except ApexError as error:
            raise resource_failure(error) from error

    @server.resource("apex://documents/{id}", name="document", title="Document", mime_type="text/plain")
    async def document(id: str, ctx: Context[Any, Any]) -> str:
        """A stored document's text with its source."""

        async def ask(memory: "Memory", caller: Caller, document_id: UUID) -> str:
            view = await memory.get_document(caller, document_id=document_id, length=_DOCUMENT_CHARS)
            return rendering.document(view)

        return await read(ctx, id, ask)

    @server.resource("apex://entities/{id}", name="entity", title="Entity", mime_type="text/plain")
    async def entity(id: str, ctx: Context[Any, Any]) -> str:
        """An entity with its facts and sources."""

        async def ask(memory: "Memory", caller: Caller, entity_id: UUID) -> str:
            view = await memory.get_entities(caller, entity_id=entity_id, limit=1)
            if not view.entities:
                raise NotFound("no entity has this id", next_step="get_entities finds entities by name")
            return rendering.entities(view)

        return await read(ctx, id, ask)

    @server.resource("apex://ingestions/{id}", name="ingestion", title="Ingestion", mime_type="text/plain")
    async def ingestion(id: str, ctx: Context[Any, Any]) -> str:
        """How far an ingestion is."""

        async def ask(memory: "Memory", caller: Caller, ingestion_id: UUID) -> str:
            return rendering.ingestion(await memory.get_ingestion(caller, ingestion_id=ingestion_id))

        return await read(ctx, id, ask)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InputError(
            "the last part of the address is not an id", next_step="use an id from search"
        ) from None
