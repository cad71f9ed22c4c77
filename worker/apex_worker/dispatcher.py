"""Empties the outbox: claims what waits, starts its workflow, and dispatches again whatever Temporal has lost."""

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

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
from apex_mcp.stores.record.ingestions import Ingestion, IngestionStore
from apex_mcp.stores.record.outbox import Claimed, Outbox
from apex_worker.leasing import LeasingDispatcher, Line

_LARGE_BYTES = 2_000_000
# An ingestion that ended this many workers or workflows is taken to be the cause.
_MAX_ATTEMPTS = 8

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


@dataclass(frozen=True, slots=True)
class _Run:
    """What was claimed together."""

    traffic: _Traffic
    claim: UUID
    claimed: tuple[Claimed, ...]


class Dispatcher(LeasingDispatcher[_Run]):
    """One process's dispatcher of ingestions.

    Args:
        client: Temporal.
        task_queue: where this memory's worker polls.
        ingestions: requests and how they end.
        outbox: what waits.
        index: removes what a lost run wrote.
        bell: rings when something waits.
        health: where Temporal's state is noted.
        sole: no other process dispatches for this record, so whatever another one has claimed is lost.
        concurrency: runs at a time, of each kind of work.
    """

    lease_seconds = 20.0
    look_seconds = 10.0

    def __init__(
        self,
        *,
        client: Client,
        task_queue: str,
        ingestions: IngestionStore,
        outbox: Outbox,
        index: IndexKeeper,
        bell: Bell,
        health: Health,
        sole: bool,
        concurrency: int = CONCURRENCY,
    ) -> None:
        super().__init__(client=client, task_queue=task_queue, bell=bell, health=health, sole=sole)
        self._ingestions = ingestions
        self._outbox = outbox
        self._index = index
        self._concurrency = concurrency

    def lines(self) -> list[Line[_Run]]:
        return [
            Line(
                (traffic.lane, traffic.bulk),
                traffic.flights(self._concurrency),
                partial(self._claim, traffic),
            )
            for traffic in _TRAFFIC
        ]

    async def _claim(self, traffic: _Traffic) -> _Run | None:
        claim, claimed = await self._outbox.claim(
            owner=self.owner,
            lane=traffic.lane,
            bulk=traffic.bulk,
            limit=traffic.together,
            lease_seconds=self.lease_seconds,
        )
        return _Run(traffic, claim, tuple(claimed)) if claimed else None

    async def start(self, run: _Run) -> WorkflowHandle[Any, Any]:
        group = run.traffic.lane is Lane.FAST
        return await self.client.start_workflow(
            GROUP_WORKFLOW if group else DOCUMENT_WORKFLOW,
            IngestionInput(
                ingestion_ids=[str(one.id) for one in run.claimed],
                claim=str(run.claim),
                large=any(one.size_bytes > _LARGE_BYTES for one in run.claimed),
            ),
            id=f"group-{run.claim}" if group else str(run.claimed[0].id),
            task_queue=self.task_queue,
            result_type=IngestionResult,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # A run of the same ingestion that is still there belongs to an earlier claim: it can change nothing any more.
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            request_eager_start=True,
        )

    async def settle(self, run: _Run, *, ran: bool) -> None:
        """What is not over waits again, alone; where it was Temporal that failed, nobody's attempt counts."""
        left = {
            one.id: one for one in await self._ingestions.owned([one.id for one in run.claimed], run.claim)
        }
        if not left:
            return
        spent = [one for one in left.values() if ran and one.attempts >= _MAX_ATTEMPTS]
        # Purged first, and so by then nothing of this claim can be committed any more: what is over has left nothing.
        for one in left.values():
            await self._index.purge_run(one.document_id, one.id, run.claim)
        for one in spent:
            await self._ingestions.finish(
                one.id, IngestionState.ROLLED_BACK, claim=run.claim, error=_given_up(one)
            )
        await self._outbox.release(list(left), claim=run.claim, alone=ran, ran=ran)

    async def renew_leases(self) -> None:
        await self._outbox.renew_leases(self.owner, self.lease_seconds)

    async def reclaim(self, *, all_others: bool) -> None:
        expired = await self._ingestions.get(
            await self._outbox.expired(not_owner=self.owner, all_others=all_others)
        )
        # A document's own workflow has the ingestion's id: by now it may be the run of whoever was quicker to take it back.
        for workflow_id in {lost.workflow_id for lost in expired if lost.workflow_id}:
            if not self.sole and not workflow_id.startswith("group-"):
                continue
            await self.terminate(workflow_id)
        for lost in expired:
            if lost.claim is not None:
                await self._index.purge_run(lost.document_id, lost.id, lost.claim)
            if lost.attempts >= _MAX_ATTEMPTS:
                await self._ingestions.finish(
                    lost.id, IngestionState.ROLLED_BACK, claim=lost.claim, error=_given_up(lost)
                )
            else:
                await self._outbox.release([lost.id], claim=lost.claim, alone=True)
        if expired:
            self.bell.ring()


def _given_up(ingestion: Ingestion) -> ApexError:
    return Invariant(
        f"it was begun {ingestion.attempts} times and never came to an end",
        unchanged="nothing of it was stored",
        next_step="call retry_ingestion to try again, or send the document in another format",
    )
