"""A fastembed model on this machine, in a child process of its own."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from apex_mcp.errors import ApexError, Code, InputError, Unavailable
from apex_mcp.ingestion.embedding.fetching import fetch_model
from apex_mcp.ingestion.embedding.models import LocalModel
from apex_mcp.ingestion.embedding.protocol import EmbedderState, FetchProgress, OnProgress, Readiness
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.stores.vectors.packing import unpack_many

# A question waits for the batch that is running. Larger batches are hardly quicker a token.
_BATCH_TOKENS = 256
_BYTES_PER_TOKEN = 4
_LONGEST_TEXT_CHARS = 8_000
_QUERY_PRIORITY = 0
_DOCUMENTS_PRIORITY = 10
_LOAD_TIMEOUT_SECONDS = 120.0
_BATCH_TIMEOUT_SECONDS = 60.0
_CHILD = "apex_mcp.ingestion.embedding.child"


class LocalEmbedder:
    """Embeds by a model of fastembed's, or by one in a folder.

    Args:
        model: which one.
        pool: its child processes: one, and nobody else's. Closed with the embedder.
    """

    def __init__(self, model: LocalModel, pool: ChildPool) -> None:
        self._model = model
        self._pool = pool
        self._preparing = asyncio.Lock()
        self._dimension: int | None = None
        self._state = _fetching(
            "loading the embedding model" if self.arrived else "the embedding model is not there yet"
        )

    @property
    def name(self) -> str:
        return self._model.identity

    @property
    def local(self) -> bool:
        return True

    @property
    def dimension(self) -> int | None:
        return self._dimension

    @property
    def state(self) -> EmbedderState:
        return self._state

    @property
    def arrived(self) -> bool:
        return self._model.folder.is_dir()

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        async with self._preparing:
            if self._state.ready:
                return
            try:
                if not self.arrived and self._model.fetched_as:
                    await self._fetch(self._model.fetched_as, on_progress)
                self._state = _fetching("loading the embedding model")
                self._dimension = await self._run("load", timeout_seconds=_LOAD_TIMEOUT_SECONDS)
            except ApexError as error:
                text = f"{error.message}; {error.unchanged}; {error.next_step}"
                self._state = EmbedderState(readiness=Readiness.UNAVAILABLE, text=text)
                raise
            self._state = EmbedderState(readiness=Readiness.READY, text=self.name)

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = [[]] * len(texts)
        for batch in _batches(texts):
            answers = await self._embed([texts[index] for index in batch], query=False)
            for index, vector in zip(batch, answers, strict=True):
                vectors[index] = vector
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        [vector] = await self._embed([text], query=True)
        return vector

    async def close(self) -> None:
        await self._pool.close()

    async def _fetch(self, name: str, on_progress: OnProgress | None) -> None:
        def note(progress: FetchProgress) -> None:
            done, total = (size / 1e6 for size in (progress.done_bytes, progress.total_bytes))
            self._state = _fetching(f"fetching the embedding model, {done:.0f} of {total:.0f} MB")
            if on_progress:
                on_progress(progress)

        self._state = _fetching("fetching the embedding model")
        await fetch_model(name, self._model.folder, note)

    async def _embed(self, texts: list[str], *, query: bool) -> list[list[float]]:
        if self._dimension is None:
            raise Unavailable(
                self._state.text,
                code=Code.EMBEDDER_UNAVAILABLE,
                unchanged="no vector was made",
                next_step="search by words meanwhile; it is tried again by itself",
            )
        # Lone surrogates would not pass the tokenizer.
        fitted = [text[:_LONGEST_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        packed = await self._run(
            "embed",
            fitted,
            query,
            timeout_seconds=_BATCH_TIMEOUT_SECONDS,
            priority=_QUERY_PRIORITY if query else _DOCUMENTS_PRIORITY,
        )
        return unpack_many(packed, self._dimension)

    async def _run(self, function: str, *args: object, timeout_seconds: float, priority: int = 0) -> Any:
        call = asyncio.create_task(
            self._pool.run(
                f"{_CHILD}:{function}",
                str(self._model.folder),
                self._model.fetched_as,
                self._model.model_file,
                *args,
                timeout_seconds=timeout_seconds,
                priority=priority,
            )
        )
        call.add_done_callback(_noted)
        try:
            # Cancelling a call ends its child: one search given up would cost everyone the loaded model.
            return await asyncio.shield(call)
        except InputError as error:
            raise Unavailable(
                f"the embedding model's process ended ({error.code})",
                code=Code.EMBEDDER_UNAVAILABLE,
                unchanged="no vector was made",
                next_step="try again; if it stays so, free memory on this machine",
                retry_after_seconds=1,
            ) from error


def _noted(call: asyncio.Task[Any]) -> None:
    """Take the error of a call that nobody waits for any more, so that asyncio doesn't complain of it."""
    if not call.cancelled():
        call.exception()


def _fetching(text: str) -> EmbedderState:
    return EmbedderState(readiness=Readiness.FETCHING, text=text)


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Positions of texts of like length, so that little is padded, up to `_BATCH_TOKENS` a batch."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        # The longest so far, times the count, is what the padded batch costs.
        if batch and _tokens(texts[index]) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _tokens(text: str) -> int:
    """About how many tokens; bytes serve better than characters where a character is a token."""
    return 2 + len(text[:_LONGEST_TEXT_CHARS].encode("utf-8", "replace")) // _BYTES_PER_TOKEN
