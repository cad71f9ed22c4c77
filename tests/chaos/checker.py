"""Looks at the documents through the public interface all the time, and at each answer with the model's eyes."""

import itertools
import random
from collections import Counter
from typing import Any

import anyio

from tests.chaos.calling import Answer, Caller
from tests.chaos.documents import PREDICATE
from tests.chaos.model import Document, Model
from tests.chaos.stream import OpenCaller
from tests.chaos.timeline import Timeline

PULSE = "pulse"
PULSE_WORD = "zpulsex"

_PAUSE_SECONDS = 0.02
_LOOKS_AT_ONE_VERSION = 5
_PART = 4000
_LAST_CHECKERS = 4
_PULSE_SECONDS = 0.2


class Checker:
    """Clients of its own.

    Args:
        model: what must be true; is told what was seen.
        open_caller: a new client.
        seed: in which order documents are looked at.
    """

    def __init__(self, model: Model, open_caller: OpenCaller, seed: int) -> None:
        self._model = model
        self._open_caller = open_caller
        self._rng = random.Random(seed)

    async def watch(self) -> None:
        """Look at one document after another, until cancelled."""
        async with self._open_caller() as caller:
            while True:
                documents = list(self._model.documents.values())
                if documents:
                    await self.check(caller, self._chosen(documents))
                await anyio.sleep(_PAUSE_SECONDS)

    def _chosen(self, documents: list[Document]) -> Document:
        """Those that change now more often than the others."""
        changing = [
            one for one in documents if any(not told.state for told in one.told.values()) or one.forgets
        ]
        return self._rng.choice(changing if changing and self._rng.random() < 0.7 else documents)

    async def check_all(self) -> list[str]:
        """Look at every document once, when all is over: what is expected must be there, whole; what could not be asked."""
        unanswered: list[str] = []
        documents = iter(list(self._model.documents.values()))

        async def look() -> None:
            async with self._open_caller() as caller:
                for document in documents:
                    document.see(document.expected() or 0)
                    if not await self.check(caller, document):
                        unanswered.append(f"document {document.number} could not be asked about")
                    await self._check_elsewhere(caller, document)

        async with anyio.create_task_group() as tasks:
            for _ in range(_LAST_CHECKERS):
                tasks.start_soon(look)
        return unanswered

    async def check(self, caller: Caller, document: Document) -> bool:
        """Look at one document; False where an answer was missing or degraded."""
        look = await self._look(caller, document)
        if look is None:
            return False
        version, document_id, whole = look
        self._model.checks += 1
        if version is None:
            return whole
        return (
            whole
            and await self._check_marks(caller, document, version)
            and await self._check_text(caller, document, document_id)
            and await self._check_facts(caller, document)
        )

    async def _look(self, caller: Caller, document: Document) -> tuple[int | None, str, bool] | None:
        """The version that a search shows now, with its document's id, and whether the answer lacked nothing."""
        floor, epoch, forgets, forgotten_to = (
            document.floor,
            document.epoch,
            document.forgets,
            document.forgotten_to,
        )
        failed = {version for version in document.sent if document.failed(version)}
        answer = await caller.call("search", query=document.word, namespace=document.namespace, limit=20)
        if answer.data is None:
            return None
        whole = not answer.data.get("degraded")
        hits = [hit for hit in answer.data.get("hits", []) if document.word in hit["text"]]
        ids = {hit["source"]["document_id"] for hit in hits}
        seen = {version for hit in hits for version in document.versions_in(hit["text"])}
        self._require(len(ids) <= 1, document, "is there twice")
        self._require(len(seen) <= 1, document, "shows an old version beside a new one")
        self._require(
            max(Counter(hit["chunk_id"] for hit in hits).values(), default=0) <= 1,
            document,
            "has a passage twice",
        )
        if not hits:
            undisturbed = document.epoch == epoch and not forgets
            self._require(
                not (floor and whole and undisturbed),
                document,
                f"was visible in version {floor}, and is not found",
            )
            return None, "", whole
        version = max(seen, default=0)
        self._require(bool(seen), document, "shows a passage without its version's mark")
        self._require(
            version not in failed or not document.failed(version),
            document,
            f"shows version {version}, which failed",
        )
        if not forgets and document.epoch == epoch:
            self._require(version > forgotten_to, document, f"shows version {version}, which was forgotten")
            self._require(version >= floor, document, f"went back from version {floor} to {version}")
            document.see(version)
        return version, next(iter(ids)), whole

    async def _check_marks(self, caller: Caller, document: Document, version: int) -> bool:
        """Middle and end of a version that was seen are found too, unless another one has come meanwhile."""
        for mark in document.marks(version).all[1:]:
            for _ in range(_LOOKS_AT_ONE_VERSION):
                epoch = document.epoch
                answer = await caller.call("search", query=mark, namespace=document.namespace, limit=5)
                if answer.data is None or answer.data.get("degraded"):
                    return False
                found = [hit for hit in answer.data.get("hits", []) if mark in hit["text"]]
                self._require(len(found) <= 1, document, "has a passage twice")
                if found or document.epoch != epoch or document.forgets:
                    break
                look = await self._look(caller, document)
                if look is None or not look[2]:
                    return False
                if look[0] != version:
                    return True
                self._model.violated(
                    f"document {document.number} is partially visible: version {version} lacks {mark[:2]}"
                )
                return True
        return True

    async def _check_text(self, caller: Caller, document: Document, document_id: str) -> bool:
        """The text itself is one version's, from its beginning to its end."""
        first = await self._part(caller, document, document_id, 0)
        if first is None:
            return False
        parts = [first]
        if first.get("next_start"):
            last = await self._part(caller, document, document_id, max(first["end"], first["length"] - _PART))
            if last is None or last["source"]["version"] != first["source"]["version"]:
                return last is not None
            parts.append(last)
        text = "".join(part["text"] for part in parts)
        seen = document.versions_in(text)
        self._require(len(seen) == 1, document, f"has the text of versions {sorted(seen)} in one")
        for version in seen:
            begin, middle, end = document.marks(version).all
            wanted = (begin, end) if first["length"] > 2 * _PART else (begin, middle, end)
            self._require(
                all(mark in text for mark in wanted), document, f"has part of version {version}'s text only"
            )
        return True

    async def _part(
        self, caller: Caller, document: Document, document_id: str, start: int
    ) -> dict[str, Any] | None:
        answer = await caller.call(
            "get_document", document_id=document_id, namespace=document.namespace, start=start, length=_PART
        )
        return answer.data

    async def _check_facts(self, caller: Caller, document: Document) -> bool:
        """What the caller gave with a version is there with it, and nothing of another version's."""
        entity = document.marks(1).entity
        answer = await caller.call("get_entities", query=entity, namespace=document.namespace, limit=5)
        if answer.data is None or answer.data.get("degraded"):
            return False
        vessels = [one for one in answer.data.get("entities", []) if one["name"] == entity]
        self._require(len(vessels) <= 1, document, "has its entity twice")
        stated = [
            fact["object"]
            for one in vessels
            for fact in one.get("facts", [])
            if fact["predicate"] == PREDICATE
        ]
        self._require(len(stated) <= 1, document, f"states {len(stated)} places at once")
        return True

    async def _check_elsewhere(self, caller: Caller, document: Document) -> None:
        """The other memory knows nothing of it."""
        other = f"chaos-{1 - document.number % 2}"
        answer = await caller.call("search", query=document.word, namespace=other, limit=5)
        hits = (answer.data or {}).get("hits", [])
        self._require(
            not any(document.word in hit["text"] for hit in hits), document, "shows in another memory"
        )

    def _require(self, holds: bool, document: Document, otherwise: str) -> None:
        if not holds:
            self._model.violated(f"document {document.number} ({document.shape.value}) {otherwise}")


def is_whole(answer: Answer) -> bool:
    """Whether a search found something, and lacks nothing."""
    return answer.data is not None and not answer.data.get("degraded") and bool(answer.data.get("hits"))


async def pulse_reads(caller: Caller, timeline: Timeline) -> None:
    """Search for what has been there from the beginning, and note when it was found: what recoveries are measured by."""
    async with caller:
        while True:
            answer = await caller.call("search", query=PULSE_WORD, namespace=PULSE)
            if is_whole(answer):
                timeline.reads.append((timeline.since_zero(answer.began), timeline.since_zero(answer.ended)))
            for lack in (answer.data or {}).get("degraded", []):
                timeline.count(f"degraded: {lack}")
            await anyio.sleep(_PULSE_SECONDS)


async def pulse_writes(caller: Caller, timeline: Timeline) -> None:
    """Store something and note when it was searchable."""
    async with caller:
        for number in itertools.count():
            text = f"The lighthouse {PULSE_WORD} blinks, {number}."
            answer = await caller.call("add_memory", text=text, key="pulse", namespace=PULSE, wait_seconds=10)
            if answer.data is not None and answer.data["state"] == "ready":
                timeline.writes.append((timeline.since_zero(answer.began), timeline.since_zero(answer.ended)))
            await anyio.sleep(_PULSE_SECONDS)
