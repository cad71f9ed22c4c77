"""What a model reads of an ingestion."""

from datetime import UTC, datetime
from uuid import uuid4

from apex_mcp.models import IngestionState, Step
from apex_mcp.server.rendering import ingestion
from apex_mcp.views import STOPPING, IngestionView


def running(waiting_for: str) -> str:
    return ingestion(
        IngestionView(
            ingestion_id=uuid4(), document_id=uuid4(), namespace="work", key="note", state=IngestionState.RUNNING,
            step=Step.PARSE, steps_done=1, finished=False, waiting_for=waiting_for, accepted_at=datetime.now(UTC),
        )
    )  # fmt: skip


def test_what_is_being_cancelled_is_not_said_to_be_safe() -> None:
    assert "Accepted and safe, but not searchable yet: ask get_ingestion" in running("")
    said = running(STOPPING)
    assert "Accepted and safe" not in said
    assert "It is being cancelled, and nothing of it will be kept: ask get_ingestion" in said
