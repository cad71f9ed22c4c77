"""Commands that store a text and follow or steer ingestions."""

import time
from typing import Annotated
from uuid import UUID

import typer

from apex_mcp.cli import rendering
from apex_mcp.cli.daemon import daemon
from apex_mcp.cli.options import Cursor, Limit, Meta, Namespace, iso, metadata
from apex_mcp.cli.output import AsJson, Output, reports_errors
from apex_mcp.models import IngestionState
from apex_mcp.views import IngestionList, IngestionView

_POLL_SECONDS = 0.05

IngestionId = Annotated[UUID, typer.Argument(metavar="ID", help="An ingestion's id.")]


@reports_errors
def add(
    text: Annotated[str, typer.Argument(help="What to remember; - reads it from stdin.")],
    title: Annotated[str | None, typer.Option(help="Shown as the source.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Stable name; the same key again makes a new version.")
    ] = None,
    time_: Annotated[str | None, typer.Option("--time", help="When it is from, ISO 8601.")] = None,
    namespace: Namespace = None,
    meta: Meta = None,
    wait_seconds: Annotated[float, typer.Option("--wait", min=0, help="Wait this long, in seconds.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Remember a text."""
    output = Output(as_json=as_json)
    words = typer.get_text_stream("stdin", encoding="utf-8").read() if text == "-" else text
    given, when = metadata(meta), iso("--time", time_)
    with daemon(output) as client:
        answer = client.call(
            "add_memory",
            text=words,
            title=title,
            key=key,
            namespace=namespace,
            document_time=when,
            metadata=given,
        )
        view = IngestionView.model_validate(answer)
        deadline = time.monotonic() + wait_seconds
        while not view.finished and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            view = IngestionView.model_validate(
                client.call("get_ingestion", ingestion_id=str(view.ingestion_id))
            )
    output.show(view, lambda: rendering.ingestion(view))
    if view.failure is not None:
        raise typer.Exit(1)


@reports_errors
def ingestions(
    state: Annotated[IngestionState | None, typer.Option(help="Only in this state.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """List the recent ingestions."""
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer = client.call("list_ingestions", namespace=namespace, state=state, limit=limit, cursor=cursor)
    view = IngestionList.model_validate(answer)
    output.show(view, lambda: rendering.ingestions(view))


@reports_errors
def cancel(ingestion_id: IngestionId, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Stop an ingestion that is not finished."""
    _steer("cancel_ingestion", ingestion_id, namespace, as_json=as_json)


@reports_errors
def retry(ingestion_id: IngestionId, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Try a failed ingestion again."""
    _steer("retry_ingestion", ingestion_id, namespace, as_json=as_json)


def _steer(op: str, ingestion_id: UUID, namespace: str | None, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer = client.call(op, ingestion_id=str(ingestion_id), namespace=namespace)
    view = IngestionView.model_validate(answer)
    output.show(view, lambda: rendering.ingestion(view))
