"""The command that makes the memory forget."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from apex_mcp.cli import rendering
from apex_mcp.cli.daemon import daemon
from apex_mcp.cli.options import Namespace, iso
from apex_mcp.cli.output import AsJson, Output, reports_errors
from apex_mcp.views import ForgetView


@reports_errors
def forget(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY-OR-ID", help="Documents and memories: ids, keys, or files that were ingested."
        ),
    ] = None,
    entity: Annotated[
        UUID | None, typer.Option(help="An entity, by its id; documents that mention it stay.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="All that was stored from this time on.")] = None,
    before: Annotated[str | None, typer.Option(help="All that was stored before this time.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole memory that --namespace names.")
    ] = False,
    namespace: Namespace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget documents, an entity, a time or a whole memory, for good."""
    if [bool(what), entity is not None, bool(after or before), everything].count(True) != 1:
        raise typer.BadParameter(
            "name documents, or --entity, or --after and --before, or --all: one of them"
        )
    output = Output(as_json=as_json)
    target: dict[str, Any] = {
        **_named(what or []),
        "entity_id": str(entity) if entity else None,
        "after": iso("--after", after),
        "before": iso("--before", before),
        "whole_namespace": everything,
        "namespace": namespace,
    }
    with daemon(output) as client:
        view = ForgetView.model_validate(client.call("forget", **target))
        if dry_run:
            output.show(view, lambda: rendering.forgetting(view))
            return
        if not yes:
            if as_json or not typer.get_text_stream("stdin").isatty():
                raise typer.BadParameter(
                    "nobody can be asked here: give --yes, or --dry-run to see what would go"
                )
            output.render(rendering.forgetting(view))
            typer.confirm("Forget this for good?", abort=True)
        done = ForgetView.model_validate(client.call("forget", **target, confirm=True))
    output.show(done, lambda: rendering.forgetting(done))


def _named(what: list[str]) -> dict[str, list[str]]:
    ids: list[str] = []
    keys: list[str] = []
    for one in what:
        try:
            ids.append(str(UUID(one)))
        except ValueError:
            path = Path(one)
            keys.append(path.resolve().as_uri() if path.is_file() else one)
    return {"document_ids": ids, "keys": keys}
