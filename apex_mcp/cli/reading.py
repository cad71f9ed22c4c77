"""Commands that find and show what is stored."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from apex_mcp.cli import rendering
from apex_mcp.cli.daemon import daemon
from apex_mcp.cli.options import Cursor, Limit, Meta, Namespace, iso, metadata
from apex_mcp.cli.output import AsJson, Output, reports_errors
from apex_mcp.errors import NotFound
from apex_mcp.models import SourceType
from apex_mcp.views import DocumentView, EntityList, IngestionView, MemoryList, SearchView

if TYPE_CHECKING:
    from apex_mcp.runtime.client import DaemonClient

AsOf = Annotated[str | None, typer.Option(help="What was true then, ISO 8601, e.g. 2025-12-31.")]
KnownAt = Annotated[str | None, typer.Option(help="What the memory knew then.")]
EntityId = Annotated[UUID, typer.Argument(metavar="ID", help="An entity's id, as `entities` shows it.")]
Sources = Annotated[
    list[SourceType] | None, typer.Option("--source", help="Only from this source; repeatable.")
]


@reports_errors
def search(
    query: Annotated[str, typer.Argument(help="A question or key words.")],
    limit: Limit = 8,
    namespace: Namespace = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    after: Annotated[str | None, typer.Option(help="Only content from this time on.")] = None,
    before: Annotated[str | None, typer.Option(help="Only content from before this time.")] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this media type, e.g. pdf or text/html; repeatable."),
    ] = None,
    source: Sources = None,
    entity: Annotated[str | None, typer.Option(help="Only passages that name this entity.")] = None,
    meta: Meta = None,
    as_json: AsJson = False,
) -> None:
    """Find passages that answer a question."""
    output = Output(as_json=as_json)
    arguments = {
        "query": query,
        "limit": limit,
        "namespace": namespace,
        "as_of": iso("--as-of", as_of, end_of_day=True),
        "known_at": iso("--known-at", known_at, end_of_day=True),
        "after": iso("--after", after),
        "before": iso("--before", before),
        "media_types": type_ or [],
        "source_types": source or [],
        "entity": entity,
        "metadata": metadata(meta),
    }
    with daemon(output) as client:
        view = SearchView.model_validate(client.call("search", **arguments))
    output.show(view, lambda: rendering.search(view))


@reports_errors
def entities(
    query: Annotated[
        str | None, typer.Argument(help="A name or words; the most mentioned if not given.")
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", help="e.g. person, organisation.")] = None,
    limit: Limit = 10,
    namespace: Namespace = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    as_json: AsJson = False,
) -> None:
    """Show people, organisations and other named things, with their facts."""
    output = Output(as_json=as_json)
    arguments = {
        "query": query,
        "type": type_,
        "limit": limit,
        "namespace": namespace,
        "as_of": iso("--as-of", as_of, end_of_day=True),
        "known_at": iso("--known-at", known_at, end_of_day=True),
    }
    with daemon(output) as client:
        view = EntityList.model_validate(client.call("get_entities", **arguments))
    output.show(view, lambda: rendering.entities(view))


@reports_errors
def unlink(entity: EntityId, other: EntityId, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Undo that two entities are shown as one; what was known before is not changed."""
    _steer("split_entity", entity, other, namespace, as_json=as_json)


@reports_errors
def link(entity: EntityId, other: EntityId, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Take back an `unlink`."""
    _steer("join_entity", entity, other, namespace, as_json=as_json)


def _steer(op: str, entity: UUID, other: UUID, namespace: str | None, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer = client.call(op, entity_id=str(entity), other_id=str(other), namespace=namespace)
    view = EntityList.model_validate(answer)
    output.show(view, lambda: rendering.entities(view))


@reports_errors
def show(
    id_: Annotated[UUID, typer.Argument(metavar="ID", help="Of a document, a passage or an ingestion.")],
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version.")] = None,
    page: Annotated[int | None, typer.Option(min=1, help="Start at this page.")] = None,
    start: Annotated[int, typer.Option(min=0, help="Start at this character.")] = 0,
    length: Annotated[int, typer.Option(min=1, help="How many characters.")] = 8000,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show a document, a passage in its place, or an ingestion."""
    output = Output(as_json=as_json)
    part = {"version": version, "page": page, "start": start, "length": length, "namespace": namespace}
    with daemon(output) as client:
        view = _document(client, id_, part)
        if view is not None:
            output.show(view, lambda: rendering.document(view))
            return
        try:
            answer = client.call("get_ingestion", ingestion_id=str(id_), namespace=namespace)
        except NotFound:
            raise NotFound(
                f"no document, passage or ingestion has the id {id_}",
                next_step="list_memories shows what is there; --namespace looks in another memory",
            ) from None
        ingestion = IngestionView.model_validate(answer)
        output.show(ingestion, lambda: rendering.ingestion(ingestion))


def _document(client: "DaemonClient", id_: UUID, part: dict[str, Any]) -> DocumentView | None:
    """The document with this id, or the one with this passage; the ids themselves do not tell.

    Raises:
        NotFound: there is one, without the version or page that is asked for.
    """
    in_part = part["version"] is not None or part["page"] is not None
    for name in ("chunk_id", "document_id"):
        try:
            answer = client.call("get_document", **{name: str(id_)}, **part)
        except NotFound as error:
            if in_part and _is_there(client, {name: str(id_)}, part["namespace"]):
                raise error from None
        else:
            return DocumentView.model_validate(answer)
    return None


def _is_there(client: "DaemonClient", named: dict[str, str], namespace: str | None) -> bool:
    try:
        client.call("get_document", **named, namespace=namespace, length=1)
    except NotFound:
        return False
    return True


@reports_errors
def ls(
    limit: Limit = 20,
    cursor: Cursor = None,
    source: Sources = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """List what is stored, newest first."""
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer = client.call(
            "list_memories", namespace=namespace, limit=limit, cursor=cursor, source_types=source or []
        )
    view = MemoryList.model_validate(answer)
    output.show(view, lambda: rendering.memories(view))
