"""What is left of the forgotten beside record and index: staged content, vectors and answers in caches."""

import asyncio
from collections.abc import Sequence

from apex_mcp.batches import batches
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.staging import Staging
from apex_mcp.stores.cache.keys import answers_of, embedding_key
from apex_mcp.stores.cache.protocol import Cache
from apex_mcp.stores.record.forgetting import ForgetStore
from apex_mcp.stores.record.purging import Purge

_AT_ONCE = 16


class Leavings:
    """Removes them, for as long as the record can tell what they are.

    Args:
        store: what the forgotten said.
        staging: where content waits between steps.
        cache: of this process, or shared.
        embedder: under whose name vectors are cached, or None.
    """

    def __init__(self, store: ForgetStore, staging: Staging, cache: Cache, embedder: Embedder | None) -> None:
        self._store = store
        self._staging = staging
        self._cache = cache
        self._embedder = embedder

    async def remove(self, purges: Sequence[Purge]) -> None:
        """Before the rows go. What a cache does not let go now goes when its time is over.

        Raises:
            Unavailable: the record or staging does not answer.
        """
        for some in batches(list({purge.ingestion_id for purge in purges}), _AT_ONCE):
            await asyncio.gather(*map(self._staging.delete, some))
        if self._embedder is not None and not self._embedder.local:
            name = self._embedder.name
            async for texts in self._store.embedded_texts([purge.version_id for purge in purges]):
                await self._cache.delete_many([embedding_key(name, text, question=False) for text in texts])
        documents = [purge.document_id for purge in purges if purge.document_id is not None]
        for namespace in await self._store.namespaces_of(documents):
            await self._cache.delete_beginning(answers_of(namespace))
