"""What one document may cost: tokens, and time of the model."""

import asyncio
from contextlib import suppress
from dataclasses import asdict, replace
from uuid import UUID

from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.ingestion.enriching.protocol import Usage
from apex_mcp.stores.record.enrichments import EnrichmentStore


class Budget:
    """What is left for one document, from all of its runs together.

    Args:
        tokens: most tokens, in and out.
        seconds: most time that answers may take, all added up.
        spent: what earlier runs cost.
    """

    def __init__(self, *, tokens: int, seconds: float, spent: Usage = Usage()) -> None:  # noqa: B008  (it is frozen)
        self._tokens = tokens
        self._seconds = seconds
        self._open = 0
        self._reserved_tokens = 0
        self._settled = asyncio.Condition()
        self.usage = spent

    async def begin(self, estimate: Usage, longest_answer: int) -> Usage:
        """Before a request: its tokens are reserved, with those of the longest answer that it may get.

        Where they do not fit beside those of open ones, these are waited for; then the answer gets what is left. Of time,
        those that are still open count as much as others did so far.

        Raises:
            Rejected: it is spent, or what the request is likely to cost would overspend it (`budget_spent`).
        """
        async with self._settled:
            while self._open and not self._has_room_for(
                self._reserved_tokens + estimate.tokens_in + longest_answer
            ):
                await self._settled.wait()
            self.require_room_for(self._reserved_tokens + estimate.tokens)
            share = 1 + (self._open / self.usage.requests if self.usage.requests else 0)
            if self.usage.seconds * share >= self._seconds:
                raise self._over(f"{self._seconds:g} s of the model's time")
            left = self._tokens - self.usage.tokens - self._reserved_tokens - estimate.tokens_in
            reserved = replace(estimate, tokens_out=min(longest_answer, left))
            self._open += 1
            self._reserved_tokens += reserved.tokens
            return reserved

    async def end(self, reserved: Usage, cost: Usage) -> None:
        """After a request, whatever came of it: what it cost takes the place of what was reserved."""
        async with self._settled:
            self._open -= 1
            self._reserved_tokens -= reserved.tokens
            self.usage += cost
            self._settled.notify_all()

    def require_room_for(self, tokens: int) -> None:
        """Refuse at once what can't be read to its end.

        Raises:
            Rejected: that many tokens are more than is left (`budget_spent`); nothing was asked.
        """
        if not self._has_room_for(tokens):
            raise self._over(f"{self._tokens} tokens")

    def _has_room_for(self, tokens: int) -> bool:
        return self.usage.tokens + tokens <= self._tokens

    def _over(self, limit: str) -> Rejected:
        return Rejected(
            f"the model may spend {limit} on one document, and this one needs more",
            code=Code.BUDGET_SPENT,
            unchanged="its text stays searchable, and what was answered is kept",
            next_step="raise APEX_LLM_MAX_TOKENS_PER_DOCUMENT or APEX_LLM_MAX_SECONDS_PER_DOCUMENT and call "
            "retry_ingestion: it asks only what lacks",
            details={"tokens": self.usage.tokens, "seconds": round(self.usage.seconds)},
        )


class DocumentMeter:
    """Holds one document's requests to its budget, and notes in the record what each may cost before it is sent.

    So a process that is killed forgets none; what it was asking then counts as if the answer had been as long, and had taken as
    long, as it may.

    Args:
        store: where it is noted.
        version_id: of the document.
        budget: of what is left.
    """

    def __init__(self, store: EnrichmentStore, version_id: UUID, budget: Budget) -> None:
        self._store = store
        self._version_id = version_id
        self._budget = budget

    async def begin(self, estimate: Usage, longest_answer: int) -> Usage:
        """See `Meter`."""
        reserved = await self._budget.begin(estimate, longest_answer)
        try:
            await self._store.spend(self._version_id, **asdict(reserved))
        except BaseException:
            await self._budget.end(reserved, Usage())
            raise
        return reserved

    async def end(self, reserved: Usage, cost: Usage) -> None:
        """See `Meter`."""
        await self._budget.end(reserved, cost)
        # A record that is away keeps what was reserved, and says so itself when the answer is to be kept.
        with suppress(ApexError):
            await self._store.spend(self._version_id, **asdict(cost - reserved))
