"""Views as short texts for a model: sources first, ids where the next call needs them, no JSON."""

from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from apex_mcp import ids
from apex_mcp.models import EnrichmentState, IngestionState
from apex_mcp.views import (
    STOPPING,
    DocumentView,
    EntityList,
    EntityView,
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
from apex_mcp.wording import contents, counted, date_or_time, fact_with_times

_EXCERPT_CHARS = 160
_FACTS_SHOWN = 12


def ingestion(view: IngestionView) -> str:
    """One ingestion: state, what it is, and what to do if it is not searchable."""
    name = called(view)
    known_as = f"ingestion {view.ingestion_id}, document {view.document_id}"
    lines: list[str] = []
    if not view.finished:
        waiting = f"; waiting: {view.waiting_for}" if view.waiting_for else ""
        lines.append(
            f"{view.state}: {name}, {view.step} ({view.steps_done} of {view.steps_total} steps done){waiting}"
        )
        lines.append(known_as)
        standing = (
            "It is being cancelled, and nothing of it will be kept"
            if view.waiting_for == STOPPING
            else "Accepted and safe, but not searchable yet"
        )
        lines.append(f"{standing}: ask get_ingestion with this id and namespace {view.namespace}.")
    else:
        lines.append(f"{view.state}: {name}{_counts(view)}{_outcome(view)}")
        lines.append(known_as)
    lines.extend(f"warning: {warning}" for warning in view.warnings)
    if view.enrichment is not EnrichmentState.NONE:
        lines.append(f"what a model finds in it: {view.enrichment}{_enrichment_reason(view)}")
    return "\n".join(lines)


def _enrichment_reason(view: IngestionView) -> str:
    failure = view.enrichment_failure
    if failure is None:
        return ""
    reason = "; ".join(part for part in (failure.message, failure.next_step) if part)
    return f" ({failure.code}: {reason}); the text is searchable all the same"


def called(view: IngestionView) -> str:
    """What to call a document before its title is known: the end of its address, if that is not a hash of its text."""
    if not view.title and ids.is_text_key(view.key):
        return "a text"
    return view.title or unquote(view.key.rstrip("/").rpartition("/")[2]) or view.key


def _counts(view: IngestionView) -> str:
    if view.state is not IngestionState.READY:
        return ""
    parts = [*([f"version {view.version}"] if view.version is not None else []), *contents(view)]
    return f" ({', '.join(parts)})" if parts else ""


def _outcome(view: IngestionView) -> str:
    if view.failure is not None:
        parts = (f"{view.failure.code}: {view.failure.message}", view.failure.next_step)
        return ": " + "; ".join(part for part in parts if part)
    match view.state:
        case IngestionState.UNCHANGED:
            return ": this content is already stored and searchable"
        case IngestionState.SUPERSEDED:
            return ": a later version of the document is the current one"
        case IngestionState.CANCELLED:
            return ": nothing of it is kept"
        case _:
            return ""


def ingestions(view: IngestionList) -> str:
    """Recent ingestions, one line each."""
    if not view.ingestions:
        return "No ingestions yet."
    lines = [_ingestion_line(item) for item in view.ingestions]
    if view.next_cursor:
        lines.append(f"More: cursor={view.next_cursor}")
    return "\n".join(lines)


def _ingestion_line(view: IngestionView) -> str:
    progress = "" if view.finished else f" {view.step} ({view.steps_done}/{view.steps_total})"
    return f"{view.state}{progress}: {called(view)}{_outcome(view)} | ingestion {view.ingestion_id}"


def search(view: SearchView) -> str:
    """Numbered passages, each under its source."""
    lines = _degraded(view.degraded)
    if not view.hits:
        # Other words would not help where it is not the words that keep something from being found.
        advice = (
            ", but the search could not look everywhere, so it may be there all the same. Try again later"
            if view.degraded
            else ". Try other or fewer words, or without filters"
        )
        lines.append(
            f"Nothing found in namespace {view.namespace}{advice}; list_memories shows what is there."
        )
        return "\n".join(lines)
    for number, hit in enumerate(view.hits, 1):
        lines.append(f"[{number}] {_hit_source(hit)}")
        # Quoted, so that stored text can't pass for another source of this answer.
        lines += [f"> {line}" if line else ">" for line in hit.text.strip().splitlines()]
        lines.append(f"(chunk {hit.chunk_id}, document {hit.source.document_id}, score {hit.score:.2f})")
        lines.append("")
    return "\n".join(lines).rstrip()


def _hit_source(hit: Hit) -> str:
    parts = [_source(hit.source)]
    if hit.page is not None:
        parts.append(f"p. {hit.page}" if hit.page_to in (None, hit.page) else f"pp. {hit.page}-{hit.page_to}")
    if hit.heading_path:
        parts.append(" > ".join(hit.heading_path))
    return ", ".join(parts)


def _source(source: Source) -> str:
    when = (
        date_or_time(source.document_time)
        if source.document_time
        else f"stored {date_or_time(source.ingested_at)}"
    )
    old = "" if source.current else f", version {source.version}, since replaced"
    return f"{source.title or source.uri or 'untitled'} ({when}{old})"


def entities(view: EntityList) -> str:
    """Entities with their facts and sources."""
    lines = _degraded(view.degraded)
    if not view.entities:
        lines.append(f"No such entity in namespace {view.namespace}. search finds passages by their words.")
    for entity in view.entities:
        lines.extend(_entity(entity))
    for near in view.neighbours:
        lines.append(
            f"{near.hops} away: {near.name} ({near.type}), entity {near.entity_id}: {' '.join(near.by)}"
        )
    return "\n".join(lines)


def _entity(view: EntityView) -> Iterable[str]:
    aliases = f", also {', '.join(view.aliases)}" if view.aliases else ""
    yield f"{view.name} ({view.type}{aliases}), {counted(view.mentions, 'mention')}, entity {view.entity_id}"
    for other in view.merged_from:
        yield f"  the same as {other.name} (by {other.reason}), entity {other.entity_id}"
    for fact in view.facts[:_FACTS_SHOWN]:
        yield f"- {_fact(fact)}"
    if len(view.facts) > _FACTS_SHOWN:
        yield f"- and {counted(len(view.facts) - _FACTS_SHOWN, 'more fact')}"
    if view.sources:
        yield f"  sources: {'; '.join(dict.fromkeys(_source(source) for source in view.sources))}"


def _fact(fact: FactView) -> str:
    source = f" [{_source(fact.sources[0])}]" if fact.sources else ""
    return f"{fact_with_times(fact)}{source}"


def document(view: DocumentView) -> str:
    """A part of a document under its source; the asked passage stands between marks."""
    place = f"characters {view.start}-{view.end} of {view.length}"
    if view.page is not None:
        place = f"page {view.page} of {view.pages or '?'}, {place}"
    heading = f", {' > '.join(view.heading_path)}" if view.heading_path else ""
    lines = [
        f"{_source(view.source)}, version {view.source.version}{heading}, {place}",
        f"document {view.document_id}",
    ]
    lines.extend(f"warning: {warning}" for warning in view.warnings)
    text = view.text
    if view.passage_start is not None and view.passage_end is not None:
        start, end = view.passage_start, view.passage_end
        text = f"{text[:start]}>>>{text[start:end]}<<<{text[end:]}"
    lines.append(text)
    if view.next_start is not None:
        lines.append(f"(goes on: start={view.next_start})")
    return "\n".join(lines)


def memories(view: MemoryList) -> str:
    """A page of what is there."""
    if not view.items:
        return f"Nothing is stored in namespace {view.namespace}."
    lines = [f"{view.total} in namespace {view.namespace}, newest first:"]
    for item in view.items:
        excerpt = " ".join(item.excerpt.split())[:_EXCERPT_CHARS]
        lines.append(f"- {_source(item.source)}: {excerpt} | document {item.document_id}")
    if view.next_cursor:
        lines.append(f"More: cursor={view.next_cursor}")
    return "\n".join(lines)


def forgetting(view: ForgetView) -> str:
    """What would go, or what went; what stays; and by when nothing of it is left."""
    head = "Forgotten from" if view.forgotten else "Nothing is forgotten yet. This would go from"
    lines = [f"{head} namespace {view.namespace}:"]
    if view.documents:
        counts = ", ".join((
            counted(view.documents, "document"),
            counted(view.versions, "version"),
            counted(view.passages, "passage"),
        ))
        lines += [f"- {counts}:", *(f"  {_named(one)}" for one in view.first_documents)]
    if view.ingestions_cancelled:
        lines.append(f"- {counted(view.ingestions_cancelled, 'unfinished ingestion')}")
    lines += _some(view.entities, "entity", "entities", view.first_entities)
    lines += _some(view.facts, "fact", "facts", view.first_facts)
    if view.entities_shared or view.facts_shared:
        kept = f": {', '.join(view.first_entities_shared)}" if view.first_entities_shared else ""
        lines.append(
            "Other documents name them, too, so these stay: "
            f"{counted(view.entities_shared, 'entity', 'entities')}, {counted(view.facts_shared, 'fact')}{kept}"
        )
    if view.mentioned_in:
        lines.append(
            f"{counted(view.mentioning, 'document mentions it, and stays', 'documents mention it, and stay')}; "
            "by its id each can be forgotten, if the user wants that:"
        )
        lines += [f"  {_named(one)}" for one in view.mentioned_in]
    if view.archives:
        lines.append("Made before, they may hold it, and are not touched: tell the user.")
        lines += [f"  {one.kind} {one.name} ({date_or_time(one.made_at)})" for one in view.archives]
    if not view.forgotten:
        lines.append("If the user agrees, call forget with the same arguments and confirm=true.")
    else:
        gone = (
            "indexes and tables are rid of it"
            if view.removed
            else f"it is being removed from {view.waits_for}"
        )
        lines.append(f"It is invisible from now on; {gone}; files by {date_or_time(view.erased_by)}.")
    return "\n".join(lines)


def _named(one: ForgottenDocument) -> str:
    return f"{one.title or one.key} | document {one.document_id}"


def _some(count: int, one: str, many: str, first: Sequence[str]) -> list[str]:
    more = ", ..." if count > len(first) else ""
    return [f"- {counted(count, one, many)}: {', '.join(first)}{more}"] if count else []


def stats(view: StatsView) -> str:
    """Counts, then what is not well."""
    running = (
        ", ".join(f"{count} {state}" for state, count in sorted(view.ingestions.items()) if count) or "none"
    )
    lines = [
        f"apex-mcp {view.version}, namespace {view.namespace} (all: {', '.join(view.namespaces) or 'none'})",
        ", ".join((
            counted(view.documents, "document"),
            counted(view.versions, "version"),
            counted(view.chunks, "chunk"),
            counted(view.entities, "entity", "entities"),
            counted(view.facts, "fact"),
        ))
        + f"; ingestions: {running}",
        *_enrichments(view),
        "stores: " + ", ".join(_store(store.name, store.state, store.detail) for store in view.stores),
        f"embedder: {view.embedder}",
    ]
    return "\n".join([*lines, *_degraded(view.degraded)])


def _enrichments(view: StatsView) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(view.enrichments.items()) if count)
    return [f"documents read by a model: {states}"] if states else []


def _store(name: str, state: str, detail: str) -> str:
    return f"{name} {state}" + (f" ({detail})" if detail else "")


def _degraded(degraded: Iterable[str]) -> list[str]:
    return [f"degraded: {what}" for what in degraded]
