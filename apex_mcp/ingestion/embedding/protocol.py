"""What an embedder offers: unit vectors of texts, an identity for the record, and its state in words."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from apex_mcp.errors import Rejected, Unavailable

_FIRST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 3600.0
_LOOK_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Readiness(StrEnum):
    """Whether an embedder can be asked now."""

    READY = "ready"
    FETCHING = "fetching"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderState:
    """What `status` says of an embedder; `text` is a sentence for the user, without a full stop."""

    readiness: Readiness
    text: str

    @property
    def ready(self) -> bool:
        return self.readiness is Readiness.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """How far a model has been fetched; `total_bytes` is 0 while it is not known."""

    done_bytes: int
    total_bytes: int


OnProgress = Callable[[FetchProgress], None]


class Embedder(Protocol):
    """Turns texts into unit vectors of one dimension; the same text gives the same vector.

    It may be asked at any time; before it is ready it raises `Unavailable` at once. Every call raises
    `Unavailable` (`embedder_unavailable`, `disk_full`) when the same call may work later, and `Rejected`
    (`provider_rejected`, `settings_invalid`, `data_folder_unusable`) when only the user can help.
    """

    @property
    def name(self) -> str:
        """The embedder's identity: vectors of two embedders with one name may be compared, others not."""
        ...

    @property
    def local(self) -> bool:
        """Whether it runs on this machine: free and quick enough to wait for when a document is written."""
        ...

    @property
    def dimension(self) -> int | None:
        """Length of its vectors; None until it has been ready once."""
        ...

    @property
    def state(self) -> EmbedderState:
        """Whether it can be asked now, and what to say about it."""
        ...

    @property
    def arrived(self) -> bool:
        """Whether what `prepare` would fetch is there, however it came."""
        ...

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        """Fetch what is missing, load it, learn the dimension. Returns at once when it is ready."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of passages, in the order of `texts`. Any number; the implementation batches."""
        ...

    async def embed_query(self, text: str) -> list[float]:
        """Vector of a question; goes ahead of passages, and does not wait long for a provider."""
        ...

    async def close(self) -> None:
        """End its processes and connections."""
        ...


async def prepare_until_ready(embedder: Embedder) -> None:
    """Prepare in the background: try again with growing pauses, and stop where only the user can help.

    The reason is logged once; after that `embedder.state` tells it. A model that another process fetches
    meanwhile (`apex-mcp setup`) is noticed within seconds.
    """
    pause_seconds = _FIRST_PAUSE_SECONDS
    said = False
    while True:
        try:
            return await embedder.prepare()
        except Rejected as error:
            _log.warning("no embedder: %s", error)
            return None
        except Unavailable as error:
            _log.log(logging.DEBUG if said else logging.WARNING, "no embedder yet: %s", error)
            said = True
        await _pause(embedder, pause_seconds)
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


async def _pause(embedder: Embedder, seconds: float) -> None:
    was_there = embedder.arrived
    while seconds > 0:
        await asyncio.sleep(min(seconds, _LOOK_SECONDS))
        seconds -= _LOOK_SECONDS
        if embedder.arrived and not was_there:
            return
