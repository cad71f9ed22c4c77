"""Answers that were given before, while nothing has changed: a write changes the namespace's revision, and with it every key."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

import apex_mcp
from apex_mcp import faults
from apex_mcp.stores.cache.keys import answer_key, answers_of
from apex_mcp.stores.cache.protocol import Cache
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.state import NamespaceState, owes_vectors, state_of
from apex_mcp.views import DocumentView, SearchView

_TTL_SECONDS = 3600.0

V = TypeVar("V", SearchView, DocumentView)


class AnswerCache:
    """Answers of searches and reads, by namespace, state and question.

    The record is asked for the namespace's state each time, so that a write is visible to the next question, whoever made it.

    Args:
        cache: where answers are kept.
        database: the record's.
        embedder: name of the one that this process asks, which need not be the record's; None searches by words only.
    """

    def __init__(self, cache: Cache, database: Database, embedder: str | None) -> None:
        self._cache = cache
        self._database = database
        # Another version of the code may rank, or show, otherwise.
        self._asker = f"{apex_mcp.__version__} {embedder}"

    async def search(
        self, namespace: str, question: object, make: Callable[[], Awaitable[SearchView]]
    ) -> SearchView:
        """A search's answer: from the cache, or made, and kept if it lacks nothing.

        Args:
            namespace: which is searched, at its newest revision.
            question: all else that the answer depends on, as its `repr`.
            make: searches.

        Raises:
            Unavailable: the record does not answer.
        """
        state, key, kept = await self._look(namespace, question, SearchView)
        if kept is not None:
            return kept
        # Before the search: vectors that come while it runs are not in its answer.
        lacking = await owes_vectors(self._database, namespace, state.index.embedder)
        answer = await make()
        if not lacking and not answer.degraded:
            await self._keep(namespace, state, key, answer)
        return answer

    async def document(
        self, namespace: str, question: object, make: Callable[[], Awaitable[DocumentView]]
    ) -> DocumentView:
        """The part of a document that was asked for: from the cache, or read and kept. Arguments as of `search`."""
        state, key, kept = await self._look(namespace, question, DocumentView)
        if kept is not None:
            return kept
        answer = await make()
        await self._keep(namespace, state, key, answer)
        return answer

    async def drop(self, namespace: str) -> None:
        """Keep no answers from this namespace: something that they may hold was forgotten."""
        await self._cache.delete_beginning(answers_of(namespace))

    async def _look(
        self, namespace: str, question: object, kind: type[V]
    ) -> tuple[NamespaceState, str, V | None]:
        state = await state_of(self._database, namespace)
        key = answer_key(namespace, f"{self._asker} {state!r}", f"{kind.__name__} {question!r}")
        [kept] = await self._cache.get_many([key])
        try:
            return state, key, None if kept is None else kind.model_validate_json(kept)
        except ValidationError:
            return state, key, None

    async def _keep(self, namespace: str, state: NamespaceState, key: str, answer: V) -> None:
        """Keep an answer that is certain to be from this state: nothing has changed since."""
        if await state_of(self._database, namespace) == state:
            with faults.around("cache.set"):
                await self._cache.set_many({key: answer.model_dump_json().encode()}, ttl_seconds=_TTL_SECONDS)
