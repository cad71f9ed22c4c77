"""What one document may cost: tokens, and time of the model."""

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.enriching.protocol import Usage

# A token of any language has at most about this many characters.
_CHARS_PER_TOKEN = 4


class Budget:
    """What is left for one document, from all of its runs together.

    Args:
        tokens: most tokens, in and out.
        seconds: most time that answers may take, all added up.
    """

    def __init__(self, *, tokens: int, seconds: float) -> None:
        self._tokens = tokens
        self._seconds = seconds
        self._answers = 0
        self._open = 0
        self.usage = Usage()

    @property
    def spent_tokens(self) -> int:
        return self.usage.tokens_in + self.usage.tokens_out

    def charge(self, usage: Usage) -> None:
        """Count what an answer cost."""
        self._answers += 1
        self.usage += usage

    def begin(self) -> None:
        """Before a question. Those that are still open count as much as answers did so far.

        Raises:
            Rejected: it is spent (`budget_spent`).
        """
        share = 1 + (self._open / self._answers if self._answers else 0)
        if self.spent_tokens * share >= self._tokens:
            raise self._over(f"{self._tokens} tokens")
        if self.usage.seconds * share >= self._seconds:
            raise self._over(f"{self._seconds:g} s of the model's time")
        self._open += 1

    def end(self) -> None:
        """After a question, whatever came of it."""
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
