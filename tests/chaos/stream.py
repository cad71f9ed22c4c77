"""The clients of a run: they do what the plan says, and follow what they were told until it is over."""

import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio

from tests.chaos.calling import Answer, Caller
from tests.chaos.documents import Content, content
from tests.chaos.model import ALLOWED_REASONS, Document, Model, Told
from tests.chaos.plan import Kind, Operation, Plan
from tests.chaos.timeline import Timeline

# So much is under way at most: enough that every harm hits something, and the end comes soon after the last of them.
_UNFINISHED = 24
_LOOK_SECONDS = 0.1

OpenCaller = Callable[[], Caller]


class Stream:
    """The client stream.

    Args:
        plan: what is done, in order for each document.
        model: is told all of it.
        timeline: likewise.
        files: where clients put files that the system may read.
        open_caller: a new client.
        on_operation: told of each operation before it begins.
    """

    def __init__(
        self,
        plan: Plan,
        model: Model,
        timeline: Timeline,
        *,
        files: Path,
        open_caller: OpenCaller,
        on_operation: Callable[[int], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._model = model
        self._timeline = timeline
        self._files = files
        self._open_caller = open_caller
        self._on_operation = on_operation
        self._operations: Iterator[Operation] = iter(plan.operations)
        self._turns: dict[int, deque[int]] = defaultdict(deque)
        self.can_forget = False

    async def run(self, clients: int) -> None:
        """Do everything, by so many clients at once."""
        async with anyio.create_task_group() as tasks:
            for number in range(clients):
                tasks.start_soon(self._client, number)

    async def follow(self) -> None:
        """Ask how everything that was acknowledged stands, until cancelled."""
        async with self._open_caller() as caller:
            while True:
                for document, told in self._model.unfinished():
                    await self._look(caller, document, told)
                await anyio.sleep(_LOOK_SECONDS)

    async def _client(self, number: int) -> None:
        async with self._open_caller() as caller:
            for operation in self._operations:
                turn = self._turns[operation.document]
                turn.append(operation.number)
                await self._on_operation(operation.number)
                # Looks at what the follower finds out; nobody could set an event.
                while len(self._model.unfinished()) > _UNFINISHED:  # noqa: ASYNC110
                    await anyio.sleep(_LOOK_SECONDS)
                document = self._model.document(operation.document, operation.shape)
                while turn[0] != operation.number:  # noqa: ASYNC110
                    await anyio.sleep(_LOOK_SECONDS)
                await self._do(caller, operation, document)
                turn.popleft()
                self._timeline.count(f"operation {operation.kind.value}")

    async def _do(self, caller: Caller, operation: Operation, document: Document) -> None:
        if operation.kind is Kind.FORGET:
            await self._forget(caller, document)
            return
        told = await self._send(caller, operation, document)
        if told is not None and operation.kind is Kind.CANCEL:
            await anyio.sleep(operation.cancel_after_seconds)
            await caller.until_answered(
                "cancel_ingestion", ingestion_id=str(told.ingestion_id), namespace=document.namespace
            )

    async def _send(self, caller: Caller, operation: Operation, document: Document) -> Told | None:
        made = content(operation.shape, operation.document, operation.version)
        arguments = await self._placed(made, operation.number)
        document.send(operation.version)
        answer = await caller.until_answered(
            made.tool,
            **arguments,
            namespace=document.namespace,
            idempotency_key=f"operation-{operation.number}",
            wait_seconds=0,
        )
        if answer.data is None:
            self._model.violated(f"operation {operation.number} was refused: {answer.code}")
            return None
        told = Told(UUID(answer.data["ingestion_id"]), operation.version, document.namespace, answer.ended)
        document.acknowledge(told)
        self._timeline.count(f"shape {operation.shape.value}")
        return told

    async def _placed(self, made: Content, number: int) -> dict[str, object]:
        if not made.file_name:
            return made.arguments
        path = self._files / f"{number}-{made.file_name}"
        await anyio.Path(path).write_bytes(made.file)
        return {**made.arguments, "source": str(path)}

    async def _forget(self, caller: Caller, document: Document) -> None:
        if not self.can_forget:
            return
        document.begin_forgetting()
        answer = await caller.until_answered(
            "forget", keys=[document.key], namespace=document.namespace, confirm=True
        )
        if answer.data is None and answer.code != "not_found":
            self._model.violated(f"document {document.number} could not be forgotten: {answer.code}")
        document.end_forgetting()

    async def _look(self, caller: Caller, document: Document, told: Told) -> None:
        answer = await caller.call(
            "get_ingestion", ingestion_id=str(told.ingestion_id), namespace=document.namespace
        )
        if answer.data is None:
            self._lost_sight(document, told, answer)
            return
        (view,) = answer.data["ingestions"]
        if not view["finished"]:
            return
        failure: dict[str, str] = view.get("failure") or {}
        reason = failure.get("code", "")
        if view["state"] == "rolled_back" and reason not in ALLOWED_REASONS:
            self._model.violated(
                f"an ingestion of document {document.number} failed: {reason or 'without a reason'}"
            )
        if view["state"] == "rolled_back":
            self._timeline.count(f"failed {reason}")
        if view["state"] == "ready":
            self._timeline.ready.append((self._timeline.now(), time.monotonic() - told.acknowledged_at))
        document.end(told.ingestion_id, view["state"], reason)

    def _lost_sight(self, document: Document, told: Told, answer: Answer) -> None:
        if answer.retryable:
            return
        if answer.code == "not_found" and (document.forgets or told.version <= document.forgotten_to):
            document.end(told.ingestion_id, "cancelled", "cancelled")
            return
        self._model.violated(
            f"an acknowledged ingestion of document {document.number} is gone: {answer.code}"
        )
        document.end(told.ingestion_id, "rolled_back", answer.code)


@asynccontextmanager
async def background(*work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """These run meanwhile."""
    async with anyio.create_task_group() as tasks:
        for one in work:
            tasks.start_soon(one)
        yield
        tasks.cancel_scope.cancel()
