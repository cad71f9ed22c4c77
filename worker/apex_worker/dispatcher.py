"""Empties the outbox: claims what waits, starts its workflow, and dispatches again whatever Temporal has lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from apex_mcp.errors import ApexError, Invariant
from apex_mcp.ingestion.contract import (
    DOCUMENT_WORKFLOW,
    GROUP_WORKFLOW,
    MAX_GROUP,
    IngestionInput,
    IngestionResult,
)
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import IngestionState, Lane
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.health import Health
from apex_mcp.stores.record.ingestions import Claimed, Ingestion, IngestionStore

# Renewed three times in it: after this long without a sign of life others take over what a dispatcher had claimed.
_LEASE_SECONDS = 20.0
_LOOK_SECONDS = 10.0
_PAUSE_SECONDS = 1.0
_LARGE_BYTES = 2_000_000
# An ingestion that ended this many workers or workflows is taken to be the cause.
_MAX_ATTEMPTS = 8

_log = logging.getLogger(__name__)


CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class _Traffic:
    """One kind of work: how many go together, and which part of all runs at a time may be of it."""

    lane: Lane
    bulk: bool
    together: int
    share: float

    def flights(self, concurrency: int) -> int:
        return max(1, round(concurrency * self.share))


_TRAFFIC = (
    _Traffic(Lane.FAST, bulk=False, together=MAX_GROUP, share=0.5),
    _Traffic(Lane.OWN, bulk=False, together=1, share=1.0),
    _Traffic(Lane.FAST, bulk=True, together=MAX_GROUP, share=0.5),
    _Traffic(Lane.OWN, bulk=True, together=1, share=0.5),
)


class Dispatcher:
    """One process's dispatcher.

    Args:
        client: Temporal.
        task_queue: where this memory's worker polls.
        ingestions: the outbox.
        index: removes what a lost run wrote.
        bell: rings when something waits.
        health: where Temporal's state is noted.
        sole: no other process dispatches for this record, so whatever another one has claimed is lost.
        concurrency: runs at a time, of each kind of work.
    """

    def __init__(
        self,
        *,
        client: Client,
        task_queue: str,
        ingestions: IngestionStore,
        index: IndexKeeper,
        bell: Bell,
        health: Health,
        sole: bool,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._ingestions = ingestions
        self._index = index
        self._bell = bell
        self._health = health
        self._sole = sole
        self._concurrency = concurrency
        self._owner = str(uuid4())
        self._stopping = False
        self._flying: dict[UUID, list[UUID]] = {}

    async def run(self) -> None:
        """Dispatch until cancelled, or until `stop` was called and what was claimed is over."""
        if self._sole:
            await self._patiently(self.reclaim, all_others=True)
        async with asyncio.TaskGroup() as tasks:
            leases = tasks.create_task(self._keep_leases())
            async with asyncio.TaskGroup() as lanes:
                for traffic in _TRAFFIC:
                    lanes.create_task(self._serve(traffic))
            leases.cancel()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self._bell.ring()  # whoever waits for it here sees that it is over

    async def release_all(self) -> None:
        """After `run` was cancelled: give back at once what it had claimed, so that others go on with it."""
        for claim, ids_ in list(self._flying.items()):
            with suppress(RPCError):
                await self._terminate(f"group-{claim}")
            await self._release_unfinished(ids_, claim, ran=False)
        self._bell.ring()

    async def _serve(self, traffic: _Traffic) -> None:
        rung = self._bell.listener((traffic.lane, traffic.bulk))
        slots = asyncio.Semaphore(traffic.flights(self._concurrency))
        async with asyncio.TaskGroup() as flights:
            while True:
                await slots.acquire()
                rung.clear()
                if self._stopping:
                    return
                claim, claimed = await self._claim(traffic)
                if claimed:
                    flights.create_task(self._fly(traffic, claim, claimed, slots))
                    continue
                slots.release()
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes as the bell rings.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await rung.wait()

    async def _claim(self, traffic: _Traffic) -> tuple[UUID, list[Claimed]]:
        try:
            return await self._ingestions.claim(
                owner=self._owner,
                lane=traffic.lane,
                bulk=traffic.bulk,
                limit=traffic.together,
                lease_seconds=_LEASE_SECONDS,
            )
        except ApexError as error:
            _log.warning("the outbox cannot be read: %s", error.code)
            await asyncio.sleep(_PAUSE_SECONDS)
            return uuid4(), []

    async def _fly(
        self, traffic: _Traffic, claim: UUID, claimed: Sequence[Claimed], slots: asyncio.Semaphore
    ) -> None:
        """One run, from its start to its end; whoever is not over then waits again, alone."""
        ids_ = self._flying[claim] = [one.id for one in claimed]
        ran = True
        try:
            await self._execute(traffic, claim, claimed)
        except RPCError as error:
            self._health.note("temporal", "down", f"Temporal does not answer ({error.status.name.lower()})")
            ran = False
            await asyncio.sleep(_PAUSE_SECONDS)
        except WorkflowFailureError:
            _log.warning("workflow of claim %s did not complete", claim)
        finally:
            slots.release()
        await self._patiently(self._release_unfinished, ids_, claim, ran=ran)
        del self._flying[claim]
        self._bell.ring()  # what waited for these documents may go now

    async def _execute(self, traffic: _Traffic, claim: UUID, claimed: Sequence[Claimed]) -> None:
        group = traffic.lane is Lane.FAST
        handle = await self._client.start_workflow(
            GROUP_WORKFLOW if group else DOCUMENT_WORKFLOW,
            IngestionInput(
                ingestion_ids=[str(one.id) for one in claimed],
                claim=str(claim),
                large=any(one.size_bytes > _LARGE_BYTES for one in claimed),
            ),
            id=f"group-{claim}" if group else str(claimed[0].id),
            task_queue=self._task_queue,
            result_type=IngestionResult,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # A run of the same ingestion that is still there belongs to an earlier claim: it can change nothing any more.
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            request_eager_start=True,
        )
        self._health.note("temporal", "ok")
        await handle.result()

    async def _release_unfinished(self, ingestion_ids: Sequence[UUID], claim: UUID, *, ran: bool) -> None:
        """Put back who is not over; `ran` is False where it was Temporal that failed, and nobody's attempt counts."""
        left = {one.id: one for one in await self._ingestions.owned(ingestion_ids, claim)}
        if not left:
            return
        spent = [one for one in left.values() if ran and one.attempts >= _MAX_ATTEMPTS]
        for one in spent:
            await self._ingestions.finish(
                one.id, IngestionState.ROLLED_BACK, claim=claim, error=_given_up(one)
            )
        # Released first: from then on nothing of this claim can be committed any more.
        released = await self._ingestions.release(list(left), claim=claim, alone=ran, ran=ran)
        for id_ in [*released, *(one.id for one in spent)]:
            await self._index.purge_run(left[id_].document_id, id_, claim)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            await self._patiently(self._ingestions.renew_leases, self._owner, _LEASE_SECONDS)
            await self._patiently(self.reclaim, all_others=False)

    async def reclaim(self, *, all_others: bool) -> None:
        """Take back what a dispatcher that is gone had claimed. Its workflows, where they still run, can change nothing."""
        expired = await self._ingestions.expired(not_owner=self._owner, all_others=all_others)
        # A document's own workflow has the ingestion's id: by now it may be the run of whoever was quicker to take it back.
        for workflow_id in {lost.workflow_id for lost in expired if lost.workflow_id}:
            if not self._sole and not workflow_id.startswith("group-"):
                continue
            with suppress(RPCError):
                await self._terminate(workflow_id)
        for lost in expired:
            if lost.attempts >= _MAX_ATTEMPTS:
                await self._ingestions.finish(lost.id, IngestionState.ROLLED_BACK, error=_given_up(lost))
            else:
                await self._ingestions.release([lost.id], claim=lost.claim, alone=True)
            if lost.claim is not None:
                await self._index.purge_run(lost.document_id, lost.id, lost.claim)
        if expired:
            self._bell.ring()

    async def _terminate(self, workflow_id: str) -> None:
        try:
            await self._client.get_workflow_handle(workflow_id).terminate("its dispatcher has gone")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _patiently(
        self, work: Callable[..., Awaitable[object]], *args: object, **kwargs: object
    ) -> None:
        """Do something to the record, however long the record is away."""
        while True:
            try:
                await work(*args, **kwargs)
                return
            except ApexError as error:
                _log.warning("the record does not answer: %s", error.code)
                await asyncio.sleep(_PAUSE_SECONDS)


def _given_up(ingestion: Ingestion) -> ApexError:
    return Invariant(
        f"it was begun {ingestion.attempts} times and never came to an end",
        unchanged="nothing of it was stored",
        next_step="call retry_ingestion to try again, or send the document in another format",
    )
