"""From rows of the record to what callers see."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from apex_mcp import ids
from apex_mcp.errors import Code
from apex_mcp.models import STEPS, EnrichmentState, IngestionState, SourceType
from apex_mcp.retrieval.fusion import Fused
from apex_mcp.stores.health import Health
from apex_mcp.stores.record.facts import Fact
from apex_mcp.stores.record.ingestions import Ingestion
from apex_mcp.views import (
    STOPPING,
    EntityView,
    FactView,
    FailureView,
    Hit,
    IngestionView,
    MemoryItem,
    MergedView,
    Source,
)
from apex_mcp.wording import counted

_MAX_SOURCES = 10


_NO_MODEL = FailureView(
    code=Code.SETTINGS_INVALID,
    message="no model is set (APEX_LLM=none), so it waits for one; its text is searchable",
    next_step="set APEX_LLM=openai and its endpoint, if a model is to read it",
)


def present_ingestion(ingestion: Ingestion, health: Health | None = None) -> IngestionView:
    """An ingestion as its caller sees it."""
    finished = ingestion.state.finished
    result, failure = ingestion.result, ingestion.failure
    return IngestionView(
        ingestion_id=ingestion.id,
        document_id=ingestion.document_id,
        namespace=ingestion.namespace,
        key=ingestion.key,
        title=result.get("title") or ingestion.request.get("title") or _name(ingestion),
        state=ingestion.state,
        step=ingestion.step,
        steps_done=len(STEPS) - 1
        if ingestion.state is IngestionState.READY
        else max(0, STEPS.index(ingestion.step) - 1),
        finished=finished,
        version=result.get("version"),
        chunks=result.get("chunks"),
        pages=result.get("pages"),
        entities=result.get("entities"),
        facts=result.get("facts"),
        warnings=[*(result.get("warnings") or []), *_left_out(ingestion.enrichment_usage or {})],
        waiting_for=_waiting_for(ingestion, health),
        failure=_present_failure(failure) if failure and finished else None,
        enrichment=EnrichmentState(ingestion.enrichment or EnrichmentState.NONE),
        enrichment_failure=_enrichment_failure(ingestion),
        accepted_at=ingestion.accepted_at,
        finished_at=ingestion.finished_at,
        attempts=ingestion.attempts,
        workflow_id=ingestion.workflow_id,
    )


def _enrichment_failure(ingestion: Ingestion) -> FailureView | None:
    waits = ingestion.enrichment in (EnrichmentState.PENDING, EnrichmentState.RUNNING)
    if waits and not ingestion.read_by_model:
        return _NO_MODEL
    return _present_failure(ingestion.enrichment_failure) if ingestion.enrichment_failure else None


def _left_out(usage: dict[str, float]) -> list[str]:
    """What the model gave no usable answer about, and what of its answers was not kept."""
    said: list[str] = []
    if lacking := usage.get("groups_without_answer", 0):
        said.append(
            f"the model gave no usable answer about {lacking} of {usage['groups']} parts of the text: entities and facts of "
            "these come from rules only; retry_ingestion asks about these again"
        )
    if unanswered := usage.get("questions_without_answer", 0):
        said.append(
            f"{counted(int(unanswered), 'question')} about names that may be one or facts that may have "
            "ended got no usable answer, or nothing was left to spend for it: these stand as they are; retry_ingestion asks "
            "again, for which a higher limit may be needed (APEX_LLM_MAX_TOKENS_PER_DOCUMENT)"
        )
    if ungrounded := usage.get("ungrounded", 0):
        said.append(
            f"{counted(int(ungrounded), 'entity, fact or time', 'entities, facts and times')} that the model gave "
            f"{'is' if ungrounded == 1 else 'are'} not in the text, and not kept"
        )
    return said


def _present_failure(failure: dict[str, Any]) -> FailureView:
    return FailureView(code=failure["code"], message=failure["message"], next_step=failure["next_step"])


def _name(ingestion: Ingestion) -> str:
    """What to call a document that has no title yet: its file, or its key, if that is not a hash of its text."""
    if ingestion.request["path"]:
        return Path(ingestion.request["path"]).name
    return "" if ids.is_text_key(ingestion.key) else ingestion.key


def _waiting_for(ingestion: Ingestion, health: Health | None) -> str:
    if ingestion.state.finished:
        return ""
    if ingestion.cancel_requested_at is not None:
        return STOPPING
    if ingestion.failure is not None:
        return str(ingestion.failure["message"])
    # A claimed one waits as well: it has not begun, or its next step does not come.
    if health is not None and (temporal := health.of("temporal")).detail:
        return temporal.detail
    if health is not None and (vectors := health.of("vectors")).detail:
        return f"the vector index: {vectors.detail}"
    return "its turn" if ingestion.state is IngestionState.PENDING else ""


def present_source(row: dict[str, Any]) -> Source:
    """Where something comes from."""
    return Source(
        document_id=row["document_id"],
        version=row["number"],
        title=row["title"],
        uri=row["uri"],
        source_type=SourceType(row["source_type"]),
        media_type=row["media_type"],
        document_time=row["document_time"],
        ingested_at=row["committed_at"],
        current=row["current"],
    )


def present_hit(fused: Fused, row: dict[str, Any]) -> Hit:
    """A passage with its place and why it was found."""
    return Hit(
        chunk_id=row["chunk_id"],
        text=row["text"],
        score=round(fused.score, 4),
        why={name: round(part, 4) for name, part in fused.why.items()},
        source=present_source(row),
        page=row["page_from"],
        page_to=row["page_to"],
        heading_path=row["heading_path"],
        start=row["start_offset"],
        end=row["end_offset"],
        entities=row["entities"],
        metadata=row["metadata"],
    )


def present_item(row: dict[str, Any]) -> MemoryItem:
    """A document in a list."""
    return MemoryItem(
        document_id=row["document_id"],
        key=row["key"],
        title=row["title"],
        source=present_source(row),
        chunks=row["chunk_count"],
        excerpt=" ".join((row["excerpt"] or "").split()),
    )


def present_entities(
    rows: Sequence[dict[str, Any]],
    facts: Sequence[Fact],
    sources: Sequence[dict[str, Any]],
    *,
    as_of: datetime,
) -> list[EntityView]:
    """Entities with their facts, those that are true at `as_of` first."""
    return [
        EntityView(
            entity_id=row["id"],
            name=row["name"],
            type=row["type"],
            aliases=row["aliases"],
            mentions=row["mentions"],
            merged_from=[
                MergedView(entity_id=id_, name=name, reason=reason) for id_, name, reason in row["merged"]
            ],
            facts=sorted(
                (
                    _present_fact(fact, as_of)
                    for fact in _latest_first(facts)
                    if row["id"] in (fact.subject_id, fact.object_id)
                ),
                key=lambda view: not view.current,
            ),
            sources=[present_source(source) for source in sources if source["entity_id"] == row["id"]][
                :_MAX_SOURCES
            ],
        )
        for row in rows
    ]


def _latest_first(facts: Sequence[Fact]) -> list[Fact]:
    return sorted(facts, key=lambda fact: fact.begins.timestamp() if fact.begins else 0, reverse=True)


def _present_fact(fact: Fact, as_of: datetime) -> FactView:
    return FactView(
        fact_id=fact.id,
        subject_id=fact.subject_id,
        subject=fact.subject,
        predicate=fact.predicate,
        object_id=fact.object_id if fact.object_named else None,
        object=fact.object,
        sentence=fact.sentence,
        valid_at=fact.valid_at,
        invalid_at=fact.invalid_at,
        ended_by=fact.ended_by,
        current=fact.holds(as_of),
        sources=[present_source(row) for row in fact.sources][:_MAX_SOURCES],
        chunk_ids=[row["chunk_id"] for row in fact.sources][:_MAX_SOURCES],
    )
