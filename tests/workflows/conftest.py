"""One Temporal server for the run; for each test a queue of its own and a worker with fakes of the activities."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_worker.embedded import WORKFLOWS
from tests.workflows.fakes import Fakes

HISTORIES = Path(__file__).parent / "histories"
# Which refuses what would not replay: files, clocks, random numbers. Our own modules do none of it and pass through.
SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("apex_mcp", "apex_worker")
)

# The folders of whoever recorded it; replaying needs none.
_STACK = re.compile(r'"stackTrace": "(?:[^"\\]|\\.)*"')

# (workflow, input, result type) -> result and handle
Run = Callable[..., Awaitable[tuple[Any, WorkflowHandle[Any, Any]]]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def temporal(anyio_backend: str) -> AsyncGenerator[Client]:
    with TemporaryDirectory(prefix="apex") as folder:
        server = EmbeddedTemporal(DataFolder(Path(folder) / "home").prepare())
        try:
            # The identity goes into the histories that are kept: it names no machine.
            yield await Client.connect(await server.start(), identity="test")
        finally:
            await server.stop()


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture(params=[100, 0], ids=["cached", "uncached"])
async def run(request: pytest.FixtureRequest, temporal: Client, fakes: Fakes) -> AsyncGenerator[Run]:
    """Runs a workflow to its end. Without a cache the worker replays it from its beginning for every task."""
    queue = f"test-{uuid4()}"
    name = request.node.originalname.removeprefix("test_")
    record = request.config.getoption("--record-histories") and request.param

    async def run_workflow(
        workflow: str, given: Any = None, result_type: type | None = None
    ) -> tuple[Any, WorkflowHandle[Any, Any]]:
        handle = await temporal.start_workflow(
            workflow,
            args=[] if given is None else [given],
            id=name if record else str(uuid4()),
            task_queue="recorded" if record else queue,
            result_type=result_type,
        )
        result = await handle.result()
        if record:
            kept = _STACK.sub('"stackTrace": ""', (await handle.fetch_history()).to_json())
            (HISTORIES / f"{workflow}.{name}.json").write_text(kept + "\n", "utf-8")
        return result, handle

    worker = Worker(
        temporal,
        task_queue="recorded" if record else queue,
        workflows=WORKFLOWS,
        activities=fakes.all(),
        workflow_runner=SANDBOX,
        max_cached_workflows=request.param,
    )
    async with worker:
        yield run_workflow
