"""An embedder that asks another one only for texts that were not asked lately: an endpoint takes time, and money."""

from collections.abc import Sequence
from dataclasses import replace

from apex_mcp.batches import batches
from apex_mcp.ingestion.embedding.protocol import Embedder, EmbedderState, OnProgress
from apex_mcp.stores.cache.keys import embedding_key
from apex_mcp.stores.cache.protocol import Cache
from apex_mcp.stores.vectors.packing import pack, unpack

# A retry after a failure, a document that was edited, a question asked again. Not longer: what is forgotten must not stay.
_TTL_SECONDS = 86_400.0
# What was answered is kept after so many texts, so that a failure further on does not cost all of them twice.
_AT_ONCE = 1024
_NUMBER_BYTES = 4


class CachedEmbedder:
    """Vectors by embedder and text.

    Args:
        inner: who is asked for what the cache has not.
        cache: of this process, or shared.
    """

    def __init__(self, inner: Embedder, cache: Cache) -> None:
        self._inner = inner
        self._cache = cache
        self._wanted = 0
        self._found = 0

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def local(self) -> bool:
        return self._inner.local

    @property
    def dimension(self) -> int | None:
        return self._inner.dimension

    @property
    def state(self) -> EmbedderState:
        """The inner one's, and how much the cache has saved."""
        state = self._inner.state
        if not self._wanted:
            return state
        return replace(state, text=f"{state.text}; {self._found} of {self._wanted} texts from the cache")

    @property
    def arrived(self) -> bool:
        return self._inner.arrived

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        await self._inner.prepare(on_progress)

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for some in batches(texts, _AT_ONCE):
            keys = [embedding_key(self.name, text, question=False) for text in some]
            known = await self._known(keys)
            missing = {key: text for key, text in zip(keys, some, strict=True) if key not in known}
            if missing:
                asked = await self._inner.embed_documents(list(missing.values()))
                known |= await self._keep(dict(zip(missing, asked, strict=True)))
            vectors += [known[key] for key in keys]
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        key = embedding_key(self.name, text, question=True)
        known = await self._known([key])
        if key in known:
            return known[key]
        kept = await self._keep({key: await self._inner.embed_query(text)})
        return kept[key]

    async def close(self) -> None:
        await self._inner.close()

    async def _known(self, keys: Sequence[str]) -> dict[str, list[float]]:
        found = zip(keys, await self._cache.get_many(keys), strict=True)
        known = {key: unpack(value) for key, value in found if value is not None and self._is_vector(value)}
        self._wanted += len(keys)
        self._found += sum(key in known for key in keys)
        return known

    async def _keep(self, vectors: dict[str, list[float]]) -> dict[str, list[float]]:
        """Keep vectors; answers them as they will come back, so that a text has one vector whoever asks when."""
        packed = {key: pack(vector) for key, vector in vectors.items()}
        await self._cache.set_many(packed, ttl_seconds=_TTL_SECONDS)
        return {key: unpack(value) for key, value in packed.items()}

    def _is_vector(self, value: bytes) -> bool:
        """Whether it is one of this endpoint as it answers now; its model may be another one under the same name."""
        numbers, rest = divmod(len(value), _NUMBER_BYTES)
        return not rest and numbers > 0 and self.dimension in (None, numbers)
