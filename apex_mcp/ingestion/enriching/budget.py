"""What one document may cost: tokens, and time of the model."""

from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.ingestion.enriching.protocol import Usage
from apex_mcp.stores.record.enrichments import EnrichmentStore

# A token of any language has at most about this many characters.
_CHARS_PER_TOKEN = 4


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
        self.usage = spent

    @property
    def spent_tokens(self) -> int:
        return self.usage.tokens_in + self.usage.tokens_out

    def charge(self, usage: Usage) -> None:
        """Count what a request cost."""
        self.usage += usage

    def begin(self) -> None:
        """Before a request. Those that are still open count as much as others did so far.

        Raises:
            Rejected: it is spent (`budget_spent`).
        """
        share = 1 + (self._open / self.usage.requests if self.usage.requests else 0)
        if self.spent_tokens * share >= self._tokens:
            raise self._over(f"{self._tokens} tokens")
        if self.usage.seconds * share >= self._seconds:
            raise self._over(f"{self._seconds:g} s of the model's time")
        self._open += 1

    def end(self) -> None:
        """After a request, whatever came of it."""
        self._open -= 1

    def require_room_for(self, chars: int) -> None:
        """Refuse at once what can't be read to its end.

        Raises:
            Rejected: that much text costs more than is left (`budget_spent`); nothing was asked.
        """
        if self.spent_tokens + chars // _CHARS_PER_TOKEN > self._tokens:
            raise self._over(f"{self._tokens} tokens")

    def _over(self, limit: str) -> Rejected:
        return Rejected(
            f"the model may spend {limit} on one document, and this one needs more",
            code=Code.BUDGET_SPENT,
            unchanged="its text stays searchable, and what was answered is kept",
            next_step="raise APEX_LLM_MAX_TOKENS_PER_DOCUMENT or APEX_LLM_MAX_SECONDS_PER_DOCUMENT and call "
            "retry_ingestion: it asks only what lacks",
            details={"tokens": self.spent_tokens, "seconds": round(self.usage.seconds)},
        )


class DocumentMeter:
    """Holds one document's requests to its budget, and notes in the record what each may cost before it is sent.

    So a process that is killed forgets none; what it was asking then counts as if the answer had taken all of its time.

    Args:
        store: where it is noted.
        version_id: of the document.
        budget: of what is left.
    """

    def __init__(self, store: EnrichmentStore, version_id: UUID, budget: Budget) -> None:
        self._store = store
        self._version_id = version_id
        self._budget = budget

    async def begin(self, estimate: Usage) -> None:
        """See `Meter`."""
        self._budget.begin()
        try:
            await self._store.spend(self._version_id, **asdict(estimate))
        except BaseException:
            self._budget.end()
            raise

    async def end(self, estimate: Usage, cost: Usage) -> None:
        """See `Meter`."""
        self._budget.charge(cost)
        self._budget.end()
        # A record that is away keeps the estimate, and says so itself when the answer is to be kept.
        with suppress(ApexError):
            await self._store.spend(self._version_id, **asdict(cost - estimate))
