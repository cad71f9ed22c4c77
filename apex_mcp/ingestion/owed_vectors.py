"""Vectors that passages and names wait for, because no embedder was ready or another one was set when they came."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

from apex_mcp.ingestion.background import guarded
from apex_mcp.ingestion.current_index import CurrentIndex
from apex_mcp.ingestion.embedding.protocol import Embedder, Readiness, prepare_until_ready
from apex_mcp.ingestion.index_upkeep import IndexUpkeep
from apex_mcp.stores.record import Record
from apex_mcp.stores.vectors.packing import pack

_LOOK_SECONDS = 5.0
_RETRY_SECONDS = 60.0
_COUNTING_SHARE = 50
_EMBED_BATCH = 64
_NAMES_BATCH = 256
_OWED_LOOK_SECONDS = 0.5

_log = logging.getLogger(__name__)


class OwedVectors:
    """Brings passages and names their vectors.

    Args:
        record: what knows which are owed.
        current: the index that passages' vectors go to as well.
        upkeep: whose turn it is to keep that index; whoever has it brings them.
        embedder: whose vectors they are, or None.
        shared: other processes store passages too.

    Attributes:
        owed: number of passages that wait for their vectors, as last counted.
    """

    def __init__(
        self,
        record: Record,
        current: CurrentIndex,
        upkeep: IndexUpkeep,
        embedder: Embedder | None,
        *,
        shared: bool,
    ) -> None:
        self.owed = 0
        self._record = record
        self._current = current
        self._upkeep = upkeep
        self._embedder = embedder
        self._shared = shared

    def lacking(self) -> str | None:
        """Why nothing can be found by meaning now, and what helps; None where it can, or no embedder is set."""
        embedder = self._embedder
        if embedder is None:
            return None
        if embedder.name != self._current.use.embedder:
            return "the embedder was changed; run `apex-mcp reindex`"
        return self._misfit(embedder) if embedder.state.ready else embedder.state.text

    async def to_come(self) -> AsyncGenerator[int]:
        """How many passages wait for their vectors, until none does, or the embedder cannot be asked.

        Raises:
            Unavailable: the record does not answer.
        """
        embedder = self._embedder
        while embedder is not None and embedder.name == self._current.use.embedder:
            owed = await self.count()
            yield owed
            if not owed or embedder.state.readiness is Readiness.UNAVAILABLE or self._misfit(embedder):
                return
            await asyncio.sleep(_OWED_LOOK_SECONDS)

    async def bring(self, embedder: Embedder) -> None:
        """Wait for the embedder, then compute what is owed whenever there is something."""
        await prepare_until_ready(embedder)
        if embedder.dimension is None:
            return  # only the user can help; the embedder's state says how
        if misfit := self._misfit(embedder):
            _log.warning("no vectors: %s", misfit)
        while True:
            self._current.written.clear()
            if embedder.name == self._current.use.embedder and self._current.vectors.dimension is None:
                await guarded(
                    "making the index take vectors",
                    self._current.vectors.enable_dense(embedder.name, embedder.dimension),
                )
            began = time.monotonic()
            self.owed = await guarded("counting missing vectors", self.count()) or 0
            # A long backlog takes long to count, and others do so too.
            look_seconds = max(_LOOK_SECONDS, _COUNTING_SHARE * (time.monotonic() - began))
            while self._upkeep.keeping:
                # In turns: neither waits for a long backlog of the other.
                passages = self.owed and await guarded("computing passages' vectors", self._embed_owed())
                if (
                    not await guarded("computing names' vectors", self._embed_names(embedder))
                    and not passages
                ):
                    break
            # What is owed comes with a write, of another process too, or was left by an embedder that failed for a while.
            with suppress(TimeoutError):
                async with asyncio.timeout(look_seconds if self._shared else _RETRY_SECONDS):
                    await self._current.written.wait()

    async def count(self) -> int:
        """Number of passages that lack a vector of the record's embedder. Raises Unavailable."""
        embedder = self._current.use.embedder
        return await self._record.passage_vectors.count_owed(embedder) if embedder else 0

    async def _embed_owed(self) -> bool:
        """Vectors of some chunks that lack them; whether there were any."""
        embedder = self.ready_embedder()
        if embedder is None:
            return False
        owed = await self._record.passage_vectors.owed(embedder.name, limit=_EMBED_BATCH)
        if owed:
            vectors = await embedder.embed_documents([chunk.text for chunk in owed])
            packed = [pack(vector) for vector in vectors]
            current = self._current
            with current.writing():
                async with current.rewriting:
                    # Another index may have taken over meanwhile, one that takes no vectors yet.
                    if self.ready_embedder() is None:
                        return False
                    use = current.use
                    await current.replay().add_vectors(owed, vectors)
                    stored = await self._record.passage_vectors.bring(embedder.name, owed, packed, index=use)
            if stored:
                self.owed = max(0, self.owed - len(owed))
            else:
                await current.refresh()
        return bool(owed)

    async def _embed_names(self, embedder: Embedder) -> bool:
        """Vectors of some names that lack them; whether there were any."""
        if self.ready_embedder() is None:
            return False
        owed = await self._record.name_vectors.owed(embedder.name, limit=_NAMES_BATCH)
        if not owed.versions:
            return False
        vectors = await embedder.embed_documents(list(owed.names.values())) if owed.names else []
        return await self._record.name_vectors.bring(
            embedder.name, owed, [pack(vector) for vector in vectors]
        )

    def ready_embedder(self) -> Embedder | None:
        """The embedder, where its vectors are the record's and it can be asked."""
        if self._embedder is None or self._current.vectors.dimension is None or self.lacking() is not None:
            return None
        return self._embedder

    def _misfit(self, embedder: Embedder) -> str | None:
        """What is wrong with vectors of another length than the record's under the same name; None where nothing is."""
        ours, theirs = self._current.vectors.dimension, embedder.dimension
        if embedder.name != self._current.use.embedder or None in (ours, theirs) or ours == theirs:
            return None
        return (
            f"the record's vectors have {ours} numbers, and {embedder.name} gives {theirs}, so its model was changed under the "
            "same name; set the model back and restart, or run `apex-mcp reindex`"
        )
