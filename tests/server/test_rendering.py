"""What a model reads of an answer."""

from datetime import UTC, datetime
from uuid import uuid4

from apex_mcp.models import IngestionState, Step
from apex_mcp.server.rendering import forgetting, ingestion, search
from apex_mcp.views import STOPPING, ForgetView, ForgottenDocument, IngestionView, SearchView


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


def nothing_found(*degraded: str) -> str:
    return search(SearchView(query="x", namespace="work", hits=[], revision=1, degraded=list(degraded)))


def test_other_words_are_advised_only_where_everything_was_looked_through() -> None:
    assert nothing_found() == (
        "Nothing found in namespace work. Try other or fewer words, or without filters; list_memories shows what is there."
    )
    down = "words: the vector index did not answer"
    assert nothing_found(down) == (
        f"degraded: {down}\nNothing found in namespace work, but the search could not look everywhere, so it may be there all "
        "the same. Try again later; list_memories shows what is there."
    )


def test_one_document_that_mentions_what_is_forgotten_stays() -> None:
    view = ForgetView(
        namespace="work", kind="entity", forgotten=False, removed=False, erased_by=datetime.now(UTC), mentioning=1,
        mentioned_in=[ForgottenDocument(document_id=uuid4(), key="note", title="A note")],
    )  # fmt: skip
    assert "1 document mentions it, and stays; " in forgetting(view)
    assert "2 documents mention it, and stay; " in forgetting(view.model_copy(update={"mentioning": 2}))
