"""What Temporal keeps of a failure: codes and types, nothing in an error's own words."""

from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from apex_mcp.errors import Code
from apex_mcp.ingestion.contract import ENRICHMENT_WORKFLOW, MAINTENANCE_WORKFLOW, EnrichmentInput
from apex_mcp.runtime.temporal_client import TemporalPlace
from apex_worker.embedded import WORKFLOWS, make_worker
from tests.e2e.apps import app_without_worker
from tests.workflows.conftest import SANDBOX
from tests.workflows.fakes import Fakes

pytestmark = pytest.mark.anyio


async def history_of_failed(client: Client, workflow: str, queue: str, *given: object) -> str:
    """All that the server keeps of a run that fails."""
    handle = await client.start_workflow(workflow, args=given, id=str(uuid4()), task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ActivityError)
    assert isinstance(failed.value.cause.cause, ApplicationError)
    return (await handle.fetch_history()).to_json()


async def test_neither_an_error_nor_its_causes_speak_in_a_history(temporal: Client, fakes: Fakes) -> None:
    client = await TemporalPlace(address=temporal.service_client.config.target_host).connect()
    error = ApplicationError("Jane Doe works at Initech", type="invariant", non_retryable=True)
    error.__cause__ = ValueError("secret-one")
    error.__cause__.__cause__ = ConnectionError("db.internal:5432")
    fakes.on("extract_by_model", LookupError("secret-two"), error)
    worker = Worker(
        client, task_queue=(queue := str(uuid4())), workflows=WORKFLOWS, activities=fakes.all(),
        workflow_runner=SANDBOX,
    )  # fmt: skip
    given = EnrichmentInput(version_id="v", claim="c", seconds=60)
    async with worker:
        history = await history_of_failed(client, ENRICHMENT_WORKFLOW, queue, given)
    assert not {"invariant", "ValueError", "ConnectionError", "LookupError"} - set(history.split('"'))
    assert not [word for word in ("Initech", "secret", "db.internal", ".py") if word in history]


async def test_maintenance_that_fails_gives_a_code_and_no_words() -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        async with app_without_worker(Path(folder) / "home") as app, make_worker(app):
            async with app.record.database.connection() as connection:
                await connection.execute("ALTER TABLE ingestions RENAME TO elsewhere")
            history = await history_of_failed(app.temporal_client, MAINTENANCE_WORKFLOW, app.task_queue)
    assert f'"{Code.INVARIANT}"' in history
    assert not [word for word in ("relation", "UPDATE", "does not exist") if word in history]
