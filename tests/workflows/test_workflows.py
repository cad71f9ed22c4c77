"""The order of steps and what follows a failure: real Temporal, fake activities."""

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle

from apex_mcp.errors import Code
from apex_mcp.ingestion.contract import (
    DOCUMENT_WORKFLOW,
    ENRICHMENT_ATTEMPTS,
    ENRICHMENT_WORKFLOW,
    GRAPH_WORKFLOW,
    GREETING_WORKFLOW,
    GROUP_WORKFLOW,
    MAINTENANCE_WORKFLOW,
    EnrichmentInput,
    EnrichmentResult,
    IngestionInput,
    IngestionResult,
    MaintenanceInput,
    MaintenanceResult,
    StepResult,
)
from apex_mcp.models import EnrichmentState
from tests.workflows.conftest import Run
from tests.workflows.fakes import Fakes, final, passing

pytestmark = pytest.mark.anyio

SIX = [
    "stage_document", "parse_document", "extract_entities", "generate_embeddings", "write_to_databases",
    "cleanup_staging",
]  # fmt: skip
SMALL = IngestionInput(ingestion_ids=["a"], claim="c")
LARGE = IngestionInput(ingestion_ids=["a"], claim="c", large=True)
ENRICHMENT = EnrichmentInput(version_id="v", claim="c", seconds=60)
GROUP = IngestionInput(ingestion_ids=["a", "b", "c"], claim="c")


async def scheduled(handle: WorkflowHandle[object, object]) -> list[tuple[str, bool]]:
    """The regular activities that a history has, and whether each must give signs of life."""
    return [
        (
            event.activity_task_scheduled_event_attributes.activity_type.name,
            event.activity_task_scheduled_event_attributes.heartbeat_timeout.ToSeconds() > 0,
        )
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


async def test_a_small_document_goes_through_six_local_steps(run: Run, fakes: Fakes) -> None:
    result, handle = await run(DOCUMENT_WORKFLOW, SMALL, IngestionResult)
    assert result == IngestionResult()
    assert fakes.calls == [(name, ["a"]) for name in SIX]
    assert await scheduled(handle) == []


async def test_a_large_document_goes_through_regular_steps_with_heartbeats(run: Run, fakes: Fakes) -> None:
    result, handle = await run(DOCUMENT_WORKFLOW, LARGE, IngestionResult)
    assert result == IngestionResult()
    assert fakes.names == SIX
    assert await scheduled(handle) == [(name, True) for name in SIX[:-1]]


async def test_a_document_that_cannot_be_parsed_is_rolled_back(run: Run, fakes: Fakes) -> None:
    fakes.on("parse_document", final(Code.MALFORMED))
    result, _ = await run(DOCUMENT_WORKFLOW, SMALL, IngestionResult)
    assert result == IngestionResult(states={"a": Code.MALFORMED})
    assert fakes.names == ["stage_document", "parse_document", "rollback_writes"]
    assert fakes.rolled_back == [("a", Code.MALFORMED)]


async def test_a_large_document_that_fails_at_the_last_step_is_rolled_back(run: Run, fakes: Fakes) -> None:
    fakes.on("write_to_databases", final(Code.INVARIANT))
    result, _ = await run(DOCUMENT_WORKFLOW, LARGE, IngestionResult)
    assert result == IngestionResult(states={"a": Code.INVARIANT})
    assert fakes.names == [*SIX[:-1], "rollback_writes"]
    assert fakes.rolled_back == [("a", Code.INVARIANT)]


async def test_a_document_that_a_step_ended_is_rolled_back(run: Run, fakes: Fakes) -> None:
    fakes.on("extract_entities", StepResult(ended={"a": Code.CANCELLED}))
    result, _ = await run(DOCUMENT_WORKFLOW, SMALL, IngestionResult)
    assert result == IngestionResult(states={"a": Code.CANCELLED})
    assert fakes.rolled_back == [("a", Code.CANCELLED)]
    assert fakes.names == [*SIX[:3], "rollback_writes"]


async def test_an_unchanged_document_goes_no_further(run: Run, fakes: Fakes) -> None:
    fakes.on("stage_document", StepResult())
    result, _ = await run(DOCUMENT_WORKFLOW, SMALL, IngestionResult)
    assert result == IngestionResult()
    assert fakes.names == ["stage_document"]


async def test_a_step_whose_store_is_away_is_tried_until_it_is_back(run: Run, fakes: Fakes) -> None:
    away = passing(Code.RECORD_UNAVAILABLE)
    fakes.on("write_to_databases", away, away)
    result, _ = await run(DOCUMENT_WORKFLOW, SMALL, IngestionResult)
    assert result == IngestionResult()
    assert fakes.names == [*SIX[:4], *["write_to_databases"] * 3, "cleanup_staging"]


async def test_a_large_step_whose_store_is_away_is_tried_until_it_is_back(run: Run, fakes: Fakes) -> None:
    fakes.on("parse_document", passing(Code.PARSER_UNAVAILABLE))
    result, _ = await run(DOCUMENT_WORKFLOW, LARGE, IngestionResult)
    assert result == IngestionResult()
    assert fakes.names == ["stage_document", *["parse_document"] * 2, *SIX[2:]]


async def test_a_group_goes_through_three_steps_together(run: Run, fakes: Fakes) -> None:
    result, handle = await run(GROUP_WORKFLOW, GROUP, IngestionResult)
    assert result == IngestionResult()
    together = ["a", "b", "c"]
    assert fakes.calls == [
        ("prepare_group", together), ("generate_embeddings", together), ("write_to_databases", together),
    ]  # fmt: skip
    assert await scheduled(handle) == []


async def test_a_member_that_fails_leaves_its_group(run: Run, fakes: Fakes) -> None:
    fakes.on("prepare_group", StepResult(going_on=["a", "c"], ended={"b": Code.EMPTY_CONTENT}))
    result, _ = await run(GROUP_WORKFLOW, GROUP, IngestionResult)
    assert result == IngestionResult(states={"b": Code.EMPTY_CONTENT})
    assert fakes.calls[1:] == [
        ("generate_embeddings", ["a", "c"]), ("write_to_databases", ["a", "c"]), ("rollback_writes", ["b"]),
    ]  # fmt: skip
    assert fakes.rolled_back == [("b", Code.EMPTY_CONTENT)]


async def test_a_group_that_fails_as_a_whole_sends_each_member_alone(run: Run, fakes: Fakes) -> None:
    fakes.on("prepare_group", StepResult(going_on=["a", "c"], ended={"b": Code.EMPTY_CONTENT}))
    fakes.on("write_to_databases", final(Code.INVARIANT))
    result, _ = await run(GROUP_WORKFLOW, GROUP, IngestionResult)
    assert result == IngestionResult(states={"b": Code.EMPTY_CONTENT}, alone=["a", "c"])
    assert fakes.calls[2:] == [
        ("write_to_databases", ["a", "c"]), ("rollback_writes", ["b"]), ("send_alone", ["a", "c"]),
    ]  # fmt: skip


async def test_members_that_a_step_sends_away_are_tried_alone(run: Run, fakes: Fakes) -> None:
    fakes.on("prepare_group", StepResult(alone=["a", "b", "c"]))
    result, _ = await run(GROUP_WORKFLOW, GROUP, IngestionResult)
    assert result == IngestionResult(alone=["a", "b", "c"])
    assert fakes.names == ["prepare_group", "send_alone"]
    assert fakes.rolled_back == []


async def test_a_group_whose_store_is_away_is_tried_until_it_is_back(run: Run, fakes: Fakes) -> None:
    fakes.on("write_to_databases", passing(Code.RECORD_UNAVAILABLE))
    result, _ = await run(GROUP_WORKFLOW, GROUP, IngestionResult)
    assert result == IngestionResult()
    assert fakes.names == ["prepare_group", "generate_embeddings", *["write_to_databases"] * 2]


async def test_what_a_model_found_is_published_once_it_was_asked(run: Run, fakes: Fakes) -> None:
    result, handle = await run(ENRICHMENT_WORKFLOW, ENRICHMENT, EnrichmentResult)
    assert result == EnrichmentResult(state=EnrichmentState.DONE)
    assert fakes.calls == [("extract_by_model", ["v"]), ("publish_enrichment", ["v"])]
    assert await scheduled(handle) == [("extract_by_model", True), ("publish_enrichment", True)]


async def test_an_enrichment_that_failed_publishes_nothing(run: Run, fakes: Fakes) -> None:
    fakes.on("extract_by_model", EnrichmentResult(state=EnrichmentState.FAILED))
    result, _ = await run(ENRICHMENT_WORKFLOW, ENRICHMENT, EnrichmentResult)
    assert result == EnrichmentResult(state=EnrichmentState.FAILED)
    assert fakes.names == ["extract_by_model"]


async def test_a_model_that_is_away_is_asked_again(run: Run, fakes: Fakes) -> None:
    fakes.on("extract_by_model", passing(Code.MODEL_UNAVAILABLE))
    fakes.on("publish_enrichment", passing(Code.RECORD_UNAVAILABLE))
    result, _ = await run(ENRICHMENT_WORKFLOW, ENRICHMENT, EnrichmentResult)
    assert result == EnrichmentResult(state=EnrichmentState.DONE)
    assert fakes.names == [*["extract_by_model"] * 2, *["publish_enrichment"] * 2]


async def test_an_enrichment_does_not_hold_its_place_for_ever(run: Run, fakes: Fakes) -> None:
    away = passing(Code.MODEL_UNAVAILABLE, retry_seconds=0.01)
    fakes.on("extract_by_model", *[away] * ENRICHMENT_ATTEMPTS)
    with pytest.raises(WorkflowFailureError):
        await run(ENRICHMENT_WORKFLOW, ENRICHMENT, EnrichmentResult)
    assert fakes.names == ["extract_by_model"] * ENRICHMENT_ATTEMPTS


async def test_the_graph_is_told_of_changes_until_none_waits(run: Run, fakes: Fakes) -> None:
    fakes.on("project_graph", True, True)
    _, handle = await run(GRAPH_WORKFLOW)
    assert fakes.names == ["project_graph"] * 3
    assert await scheduled(handle) == [("project_graph", True)] * 3


async def test_a_graph_that_is_away_is_waited_for(run: Run, fakes: Fakes) -> None:
    fakes.on("project_graph", *[passing(Code.GRAPH_UNAVAILABLE, retry_seconds=0.01)] * 5)
    await run(GRAPH_WORKFLOW)
    assert fakes.names == ["project_graph"] * 6


async def test_a_long_projection_goes_on_as_a_new_run(run: Run, fakes: Fakes) -> None:
    fakes.on("project_graph", *[True] * 50)
    _, last = await run(GRAPH_WORKFLOW)
    assert fakes.names == ["project_graph"] * 51
    assert await scheduled(last) == [("project_graph", True)]


async def test_a_greeting_is_answered(run: Run) -> None:
    assert (await run(GREETING_WORKFLOW, "you", str))[0] == "Hello, you"


async def test_maintenance_tells_what_it_did(run: Run) -> None:
    done, last = await run(MAINTENANCE_WORKFLOW, None, MaintenanceResult)
    assert done == MaintenanceResult(staged=3)
    assert await scheduled(last) == [("maintain_stores", True)]


async def test_maintenance_erases_where_it_is_asked_to(run: Run) -> None:
    done, _ = await run(MAINTENANCE_WORKFLOW, MaintenanceInput(erase=True), MaintenanceResult)
    assert done == MaintenanceResult(staged=3, erased=1)
