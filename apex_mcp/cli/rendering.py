"""Views as a terminal shows them: pure functions from a view to something that rich prints."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apex_mcp.cli.output import plain
from apex_mcp.models import EnrichmentState, IngestionState
from apex_mcp.views import (
    DocumentView,
    EntityList,
    FactView,
    ForgetView,
    ForgottenDocument,
    Hit,
    IngestionList,
    IngestionView,
    MemoryList,
    SearchView,
    Source,
    StatsView,
)
from apex_mcp.wording import byte_size, contents, counted, date_or_time, fact_with_times

_ID_COLUMNS = frozenset({"id", "document", "ingestion"})

_STATE_STYLES = {
    IngestionState.READY: "green",
    IngestionState.UNCHANGED: "green",
    IngestionState.RUNNING: "cyan",
    IngestionState.PENDING: "cyan",
    IngestionState.SUPERSEDED: "yellow",
    IngestionState.CANCELLED: "yellow",
    IngestionState.ROLLED_BACK: "red",
}


def search(view: SearchView) -> RenderableType:
    """Passages, best first, each under its source."""
    if not view.hits:
        but = (
            ", but the search could not look everywhere: it may be there all the same"
            if view.degraded
            else ""
        )
        return Group(*_degraded(view.degraded), plain(f"nothing found in namespace {view.namespace}{but}"))
    return Group(*_degraded(view.degraded), *(_hit(number, hit) for number, hit in enumerate(view.hits, 1)))


def _hit(number: int, hit: Hit) -> RenderableType:
    head = Text.assemble((f"[{number}] ", "bold"), _styled(_source(hit.source), "bold"))
    place = _place(hit.page, hit.page_to, hit.heading_path)
    if place:
        head.append_text(plain(f", {place}"))
    why = ", ".join(f"{name} {share:.2f}" for name, share in hit.why.items())
    return Group(
        head, plain(hit.text.strip()), _styled(f"{hit.chunk_id}  {hit.score:.2f} ({why})", "dim"), Text()
    )


def document(view: DocumentView) -> RenderableType:
    """A part of a document, the asked passage highlighted in place."""
    place = _place(view.page, None, view.heading_path)
    of = f"{view.start}-{view.end} of {view.length} characters"
    head = _styled(_source(view.source), "bold")
    body = Text()
    start, end = view.passage_start, view.passage_end
    if start is not None and end is not None:
        body.append_text(plain(view.text[:start]))
        body.append_text(_styled(view.text[start:end], "reverse"))
        body.append_text(plain(view.text[end:]))
    else:
        body.append_text(plain(view.text))
    lines: list[RenderableType] = [
        head,
        _styled(", ".join(part for part in (f"version {view.source.version}", place, of) if part), "dim"),
        *(_styled(f"warning: {warning}", "yellow") for warning in view.warnings),
        body,
    ]
    if view.next_start is not None:
        lines.append(_styled(f"goes on: --start {view.next_start}", "dim"))
    lines.append(_styled(f"document {view.document_id}, key {view.key}", "dim"))
    return Group(*lines)


def entities(view: EntityList) -> RenderableType:
    """Entities with their facts."""
    blocks: list[RenderableType] = [*_degraded(view.degraded)]
    for entity in view.entities:
        blocks.append(
            Text.assemble(
                _styled(entity.name, "bold"),
                plain(f" ({entity.type}), {counted(entity.mentions, 'mention')}"),
            )
        )
        if entity.aliases:
            blocks.append(plain(f"  also: {', '.join(entity.aliases)}"))
        blocks.extend(
            Text.assemble(
                plain(f"  the same as {other.name} (by {other.reason}) "),
                _styled(str(other.entity_id), "dim"),
            )
            for other in entity.merged_from
        )
        blocks.extend(_fact(fact) for fact in entity.facts)
        blocks.append(_styled(f"  {entity.entity_id}", "dim"))
    return Group(*blocks) if view.entities else Group(*blocks, plain("no such entity"))


def _fact(fact: FactView) -> Text:
    sources = dict.fromkeys(source.title or source.uri for source in fact.sources)
    words = plain(f"  - {fact_with_times(fact)}")
    if sources:
        words.append_text(_styled(f" [{'; '.join(sources)}]", "dim"))
    return words if fact.current else _styled(words.plain, "strike")


def memories(view: MemoryList) -> RenderableType:
    """What is there, one line each."""
    table = _table("stored", "title", "chunks", "document")
    for item in view.items:
        table.add_row(
            moment(item.source.ingested_at),
            plain(item.title or item.key),
            str(item.chunks),
            str(item.document_id),
        )
    return Group(
        table,
        plain(f"{len(view.items)} of {view.total} in namespace {view.namespace}"),
        *_more(view.next_cursor),
    )


def ingestions(view: IngestionList) -> RenderableType:
    """Recent ingestions."""
    table = _table("accepted", "state", "what", "ingestion")
    for item in view.ingestions:
        table.add_row(
            moment(item.accepted_at),
            _styled(state(item), _STATE_STYLES[item.state]),
            plain(f"{item.title or item.key}{reason(item)}"),
            str(item.ingestion_id),
        )
    return Group(table, *_more(view.next_cursor))


def ingestion(view: IngestionView) -> Text:
    """One ingestion in a line or two."""
    counts = ", ".join(contents(view))
    line = Text.assemble(
        _styled(state(view), _STATE_STYLES[view.state]),
        plain(f"  {view.title or view.key}{f' ({counts})' if counts else ''}{reason(view)}"),
        _styled(f"  {view.ingestion_id}", "dim"),
    )
    for warning in view.warnings:
        line.append_text(_styled(f"\n  warning: {warning}", "yellow"))
    if view.enrichment is not EnrichmentState.NONE:
        failure = view.enrichment_failure
        why = f": {failure.message}; {failure.next_step}" if failure else ""
        line.append_text(_styled(f"\n  what a model finds in it: {view.enrichment}{why}", "dim"))
    return line


def state(view: IngestionView) -> str:
    """The state, with the step while it runs."""
    return (
        str(view.state) if view.finished else f"{view.state} {view.step} {view.steps_done}/{view.steps_total}"
    )


def reason(view: IngestionView) -> str:
    """Why it failed or waits, to append to a line."""
    if view.failure is not None:
        parts = (f"{view.failure.code}: {view.failure.message}", view.failure.next_step)
        return f": {'; '.join(part for part in parts if part)}"
    return f", waiting: {view.waiting_for}" if view.waiting_for and not view.finished else ""


def stats(view: StatsView) -> RenderableType:
    """Counts, then each store's health."""
    counts = _table("documents", "versions", "chunks", "entities", "facts")
    counts.add_row(
        *(str(count) for count in (view.documents, view.versions, view.chunks, view.entities, view.facts))
    )
    stores = _table("store", "state", "")
    for store in view.stores:
        style = {"ok": "green", "off": "dim"}.get(store.state, "red")
        stores.add_row(plain(store.name), _styled(store.state, style), plain(store.detail))
    unfinished = ", ".join(f"{count} {name}" for name, count in sorted(view.ingestions.items()) if count)
    enriched = ", ".join(f"{count} {name}" for name, count in sorted(view.enrichments.items()) if count)
    return Group(
        plain(
            f"namespace {view.namespace} of {', '.join(view.namespaces) or 'none'}; embedder {view.embedder}"
        ),
        counts,
        stores,
        plain(f"ingestions: {unfinished or 'none'}"),
        *([plain(f"documents read by a model: {enriched}")] if enriched else []),
        *_degraded(view.degraded),
    )


def status(answer: Mapping[str, Any]) -> RenderableType:
    """The daemon's own state, and the parts that it runs."""
    services: Sequence[Mapping[str, Any]] = answer.get("services", ())
    shown = {
        _WITHOUT_UNIT.get(name, name): _readable(name, value)
        for name, value in answer.items()
        if name != "services" and value is not None
    }
    # Servers of the user's have no process here, but a place and a distance.
    elsewhere = ("where", "latency") if any(service.get("where") for service in services) else ()
    table = _table("service", "state", "pid", "memory", *elsewhere)
    for service in services:
        memory = _readable("rss_bytes", service["rss_bytes"]) if service.get("rss_bytes") else ""
        latency = _readable("latency_ms", service["latency_ms"]) if service.get("latency_ms") else ""
        cells = (service["name"], service["state"], service.get("pid") or "", memory)
        beside = (service.get("where") or "", latency) if elsewhere else ()
        table.add_row(*(plain(str(cell)) for cell in (*cells, *beside)))
    return Group(fields(shown), table) if services else fields(shown)


_WITHOUT_UNIT = {
    "uptime_seconds": "uptime",
    "longest_pause_ms": "longest pause",
    "rss_bytes": "memory",
    "data_bytes": "data",
}


def _readable(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return byte_size(value)
    if name.endswith("_seconds"):
        return duration(value)
    if name.endswith("_ms"):
        return f"{value:g} ms"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """In the two largest units that say something: `1 h 2 min`."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def fields(data: Mapping[str, Any]) -> RenderableType:
    """Plain data, a line for each field."""
    table = Table.grid(padding=(0, 2))
    for name, value in data.items():
        table.add_row(_styled(name, "dim"), plain(str(value)))
    return table


def rows(data: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Plain rows, a column for each field of the first."""
    if not data:
        return plain("none")
    table = _table(*data[0])
    for row in data:
        table.add_row(*(plain(str(row.get(name, ""))) for name in data[0]))
    return table


def moment(when: datetime) -> str:
    """A time in the reader's own zone."""
    return f"{when.astimezone():%Y-%m-%d %H:%M}"


def _source(source: Source) -> str:
    when = date_or_time(source.document_time) if source.document_time else moment(source.ingested_at)
    return (
        f"{source.title or source.uri or 'untitled'} ({when}{'' if source.current else ', since replaced'})"
    )


def _place(page: int | None, page_to: int | None, heading_path: Sequence[str]) -> str:
    parts: list[str] = []
    if page is not None:
        parts.append(f"page {page}" if page_to in (None, page) else f"pages {page}-{page_to}")
    if heading_path:
        parts.append(" > ".join(heading_path))
    return ", ".join(parts)


def _degraded(degraded: Iterable[str]) -> list[Text]:
    return [_styled(f"degraded: {what}", "yellow") for what in degraded]


def _more(cursor: str | None) -> list[Text]:
    return [_styled(f"more: --cursor {cursor}", "dim")] if cursor else []


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        # Ids are there to be copied: never cut, and broken last of all.
        table.add_column(name, overflow="fold", no_wrap=name in _ID_COLUMNS)
    return table


def _styled(words: str, style: str) -> Text:
    text = plain(words)
    text.stylize(style)
    return text


def forgetting(view: ForgetView) -> RenderableType:
    """What would go, or what went; what stays; and by when nothing of it is left."""
    lines: list[RenderableType] = [
        _styled(f"{'forgotten' if view.forgotten else 'would go'}, from namespace {view.namespace}:", "bold")
    ]
    if view.documents:
        lines.append(
            plain(f"  documents {view.documents}, versions {view.versions}, passages {view.passages}")
        )
        lines += [_named(one) for one in view.first_documents]
    if view.ingestions_cancelled:
        lines.append(plain(f"  unfinished ingestions {view.ingestions_cancelled}"))
    lines += _some("entities", view.entities, view.first_entities)
    lines += _some("facts", view.facts, view.first_facts)
    if view.entities_shared or view.facts_shared:
        lines.append(_styled("stay, because other documents name them, too:", "bold"))
        lines += _some("entities", view.entities_shared, view.first_entities_shared)
        lines += _some("facts", view.facts_shared, ())
    if view.mentioned_in:
        stay = counted(view.mentioning, "document mentions it, and stays", "documents mention it, and stay")
        lines.append(_styled(f"{stay}:", "bold"))
        lines += [_named(one) for one in view.mentioned_in]
    if view.archives:
        lines.append(_styled("made before, may hold it, and are not touched:", "bold"))
        lines += [plain(f"    {one.kind} {one.name}, {moment(one.made_at)}") for one in view.archives]
    if view.forgotten:
        gone = (
            "indexes and tables are rid of it"
            if view.removed
            else f"it is being removed from {view.waits_for}"
        )
        lines.append(_styled(f"invisible from now on; {gone}; files by {moment(view.erased_by)}", "dim"))
    return Group(*lines)


def _named(one: ForgottenDocument) -> Text:
    return Text.assemble(plain(f"    {one.title or one.key}  "), _styled(str(one.document_id), "dim"))


def _some(what: str, count: int, first: Sequence[str]) -> list[RenderableType]:
    if not count:
        return []
    shown = f": {', '.join(first)}{', ...' if count > len(first) else ''}" if first else ""
    return [plain(f"  {what} {count}{shown}")]
