"""Stands in for a model whose folder is not there: search goes on by words, and says why."""

from collections.abc import Sequence

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding.protocol import EmbedderState, OnProgress, Readiness


class MissingModel:
    """A local model that cannot be loaded before the user has put it back, or set another.

    Args:
        name: the embedder whose vectors the record has, so that they are kept.
        reason: what is wrong, and how to mend it.
    """

    def __init__(self, name: str, reason: Rejected) -> None:
        self._name = name
        self._reason = reason

    @property
    def name(self) -> str:
        return self._name

    @property
    def local(self) -> bool:
        return True

    @property
    def dimension(self) -> int | None:
        return None

    @property
    def state(self) -> EmbedderState:
        text = f"{self._reason.message}; {self._reason.next_step}"
        return EmbedderState(readiness=Readiness.UNAVAILABLE, text=text)

    @property
    def arrived(self) -> bool:
        return False

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        """Refuse.

        Raises:
            Rejected: always (`settings_invalid`).
        """
        raise self._reason

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        raise self._unavailable()

    async def embed_query(self, text: str) -> list[float]:
        raise self._unavailable()

    async def close(self) -> None:
        """Nothing to end."""

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            self._reason.message,
            code=Code.EMBEDDER_UNAVAILABLE,
            unchanged="no vector was made",
            next_step=self._reason.next_step,
        )
