"""What a model adds to one version: its passages are read in groups, then its entities and facts are published, all at once.

Every answer is kept before the next step, and looked up before a question: whatever is interrupted goes on where it was.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching.answers import (
    Answers,
    clash_key,
    doubt_key,
    from_answer,
    group_key,
    to_answer,
)
from apex_mcp.ingestion.enriching.budget import Budget, DocumentMeter
from apex_mcp.ingestion.enriching.combining import combine
from apex_mcp.ingestion.enriching.contradictions import find_contradictions
from apex_mcp.ingestion.enriching.grouping import group_passages
from apex_mcp.ingestion.enriching.protocol import Extractor, Meter, Passage, PassageGroup, Usage
from apex_mcp.ingestion.enriching.resolution import Resolution
from apex_mcp.models import EnrichmentState, Exclusive, Extraction
from apex_mcp.settings import Settings
from apex_mcp.stores.cache.protocol import Lock
from apex_mcp.stores.record.enrichments import (
    DIFFERENT,
    End,
    Enriched,
    Enrichment,
    EnrichmentStore,
    EnrichmentText,
    Link,
    Overtaken,
)

_DOUBTS_AT_ONCE = 12
_CLASHES_AT_ONCE = 10
_MAX_KNOWN_NAMES = 60
_LOOK_SECONDS = 0.5
# After that another one asks instead of a process that was killed.
_LOCK_SECONDS = 10.0
# Resolving again costs a moment; whoever is overtaken oftener than this has the others wait.
_TRIES_TOGETHER = 3
# After so many refusals and no answer, an endpoint says no to whatever it is asked.
_REFUSALS = 3
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 600.0

QuestionT = TypeVar("QuestionT")


class Enricher:
    """Enriches one version at a time, over the record.

    Args:
        settings: the budget of one document, and how many questions are open at a time.
        store: the record's side.
        extractor: the model.
        embedder: for candidates by meaning, or None.
        exclusive: predicates that have one object, or one subject, at a time.
        lock: keeps processes from asking the same at once.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: EnrichmentStore,
        extractor: Extractor,
        embedder: Embedder | None,
        exclusive: Exclusive,
        lock: Lock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._extractor = extractor
        self._embedder = embedder
        self._exclusive = exclusive
        self._lock = lock

    @property
    def longest_seconds(self) -> float:
        """Longest time that one attempt at a step may take: waiting for its turn comes to the model's own time."""
        return 2 * self._settings.llm_max_seconds_per_document + 600

    async def extract(self, version_id: UUID, claim: UUID) -> EnrichmentState:
        """Have every group of passages read that was not yet.

        Raises:
            Unavailable: the model or the record does not answer now; what was answered is kept.
            Rejected: asking again will not help, or the budget is spent; what was answered is kept.
        """
        work = await self._store.owned(version_id, claim)
        if work is None:
            return EnrichmentState.SUPERSEDED
        reading = await self._open(work)
        found = {group: await reading.answers.find(reading.key(group)) for group in reading.groups}
        todo = [group for group, answer in found.items() if answer is None]
        if todo:
            # In a thread: so many questions take a moment to write.
            reading.budget.require_room_for(
                await asyncio.to_thread(lambda: sum(map(self._extractor.tokens_to_ask, todo)))
            )
        known = [entity["name"] for answer in found.values() if answer for entity in answer["entities"]]
        unusable = await self._ask_all(reading, todo, known)
        if unusable is None:
            return EnrichmentState.SUPERSEDED
        if 2 * len(unusable) > len(reading.groups):
            raise unusable[0]
        return EnrichmentState.RUNNING

    async def publish(self, version_id: UUID, claim: UUID) -> EnrichmentState:
        """Resolve what was found against what is known, and make it visible: the second commit.

        Raises:
            Unavailable: the model or the record does not answer now.
            Rejected: the provider refuses the smaller questions.
        """
        work = await self._store.owned(version_id, claim)
        if work is None:
            return EnrichmentState.SUPERSEDED
        reading = await self._open(work)
        found = [await reading.answers.find(reading.key(group)) for group in reading.groups]
        extraction = combine([
            from_answer(answer, group.passages)
            for answer, group in zip(found, reading.groups, strict=True)
            if answer is not None
        ])
        parts = {"groups": len(found), "groups_without_answer": found.count(None)}
        for _ in range(_TRIES_TOGETHER):
            with suppress(Overtaken):
                return await self._publish(reading, extraction, parts, alone=False)
        # Others come first again and again: now they wait. Only a connection that breaks lets one of them through.
        while True:
            async with self._store.publishing_alone(work.namespace):
                with suppress(Overtaken):
                    return await self._publish(reading, extraction, parts, alone=True)

    async def _publish(
        self, reading: "_Reading", extraction: Extraction, parts: dict[str, int], *, alone: bool
    ) -> EnrichmentState:
        """Once, against what is known now. What the small model answered to an earlier try is not asked again."""
        work = reading.work
        reading.unanswered.clear()
        seen = await self._store.published(work.namespace)
        resolved = await Resolution(self._store, work.namespace, self._embedder).resolve(extraction)
        links = (*resolved.links, *await self._decide(reading, resolved.doubts))
        ends = await self._ends(reading, extraction)
        enriched = Enriched(
            extraction=extraction,
            links=links,
            ends=ends,
            embedder=self._embedder.name if self._embedder is not None else "",
            vectors=resolved.vectors,
            usage={
                **parts,
                "ungrounded": extraction.ungrounded,
                "questions_without_answer": len(reading.unanswered),
            },
            seen=seen,
        )
        done = await self._store.publish(work.version_id, work.claim, enriched, alone=alone)
        return EnrichmentState.DONE if done else EnrichmentState.SUPERSEDED

    async def fail(self, version_id: UUID, claim: UUID, error: ApexError) -> None:
        """End it; the text stays as it is, and what was answered is kept for a retry."""
        work = await self._store.owned(version_id, claim)
        if work is not None:
            await self._store.fail(version_id, claim, error)

    async def note_waiting(self, version_id: UUID, claim: UUID, error: ApexError) -> None:
        """Note why a step will be tried again, for whoever asks meanwhile."""
        await self._store.note_failure(version_id, claim, error)

    async def postpone(self, version_id: UUID, claim: UUID, error: ApexError) -> None:
        """Let it wait for a while, so that what a provider cannot do now holds up nobody else."""
        work = await self._store.owned(version_id, claim)
        if work is not None:
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(work.attempts - 1, 10), _LONGEST_PAUSE_SECONDS)
            await self._store.wait(
                version_id, claim, error, seconds=max(pause, error.retry_after_seconds or 0)
            )

    # --- reading the passages ----------------------------------------------------------------------------------------

    async def _open(self, work: Enrichment) -> "_Reading":
        budget = Budget(
            tokens=self._settings.llm_max_tokens_per_document,
            seconds=self._settings.llm_max_seconds_per_document,
            spent=Usage(**await self._store.spent(work.version_id)),
        )
        text = await self._store.text(work.version_id)
        answers = Answers(self._store, work)
        meter = DocumentMeter(self._store, work.version_id, budget)
        # In a thread: a book's tokens take a moment to count.
        return await asyncio.to_thread(_Reading, work, text, answers, budget, meter, self._extractor.name)

    async def _ask_all(
        self, reading: "_Reading", todo: Sequence[PassageGroup], known: Sequence[str]
    ) -> list[ApexError] | None:
        """Ask about each group; the errors of those whose answers could not be used, None if it is not ours any more.

        Once one fails otherwise, no more are asked; those that are open are waited for, since they are paid for.
        """
        waiting = iter(todo)
        names = dict.fromkeys(known)
        unusable: list[ApexError] = []
        ends: list[Exception | None] = []

        answered = len(todo) < len(reading.groups)

        async def ask_in_turn() -> None:
            nonlocal answered
            for group in waiting:
                if ends:
                    return
                if await self._store.owned(reading.work.version_id, reading.work.claim) is None:
                    ends.append(None)
                    return
                try:
                    recent = tuple(names)[-_MAX_KNOWN_NAMES:]
                    found = await self._ask(reading, replace(group, known_names=recent))
                    names.update(dict.fromkeys(entity.name for entity in found.entities))
                    answered = True
                except Rejected as error:
                    (unusable if _concerns_one_request(error) else ends).append(error)
                    if error.code == Code.PROVIDER_REJECTED and len(unusable) >= _REFUSALS and not answered:
                        ends.append(error)
                except Exception as error:  # noqa: BLE001  (raised below, once the others are in)
                    ends.append(error)

        await asyncio.gather(*(ask_in_turn() for _ in range(min(self._settings.llm_concurrency, len(todo)))))
        for error in ends:
            if error is not None:
                raise error
        return None if ends else unusable

    async def _ask(self, reading: "_Reading", group: PassageGroup) -> Extraction:
        """The answer about a group. What another one asks at this moment is waited for, as long as an answer may take."""
        key, longest = reading.key(group), self._settings.llm_timeout_seconds
        name, began = f"answer:{reading.work.namespace}:{key}", time.monotonic()
        waited = False
        while True:
            async with self._lock.hold(name, seconds=_LOCK_SECONDS) as held:
                if waited and (answer := await reading.answers.find(key)) is not None:
                    return from_answer(answer, group.passages)
                if held or time.monotonic() - began > longest:
                    return await self._ask_model(reading, group, key)
            waited = True
            await asyncio.sleep(_LOOK_SECONDS)

    async def _ask_model(self, reading: "_Reading", group: PassageGroup, key: str) -> Extraction:
        extraction, _ = await self._extractor.extract(group, reading.meter)
        await reading.answers.keep(key, to_answer(extraction, group.passages))
        return extraction

    # --- the smaller questions ---------------------------------------------------------------------------------------

    async def _decide(self, reading: "_Reading", doubts: Sequence[tuple[Link, Any]]) -> list[Link]:
        """What the model says of these pairs: that they are one, or that they are not."""
        answers = await self._small(
            reading,
            [doubt for _, doubt in doubts],
            key=lambda doubt: doubt_key(self._extractor.name, doubt),
            ask=self._extractor.same,
            at_once=_DOUBTS_AT_ONCE,
        )
        return [
            link if same else replace(link, reason=DIFFERENT)
            for (link, _), same in zip(doubts, answers, strict=True)
            if same is not None
        ]

    async def _ends(self, reading: "_Reading", extraction: Extraction) -> tuple[End, ...]:
        found = await find_contradictions(
            extraction,
            self._store,
            reading.work.namespace,
            said_at=reading.said_at,
            dated=reading.dated,
            exclusive=self._exclusive,
        )
        answers: list[list[int] | None] = await self._small(
            reading,
            [one.clash for one in found],
            key=lambda clash: clash_key(self._extractor.name, clash),
            ask=self._extractor.ended,
            at_once=_CLASHES_AT_ONCE,
        )
        return tuple(
            End(by_id=by, ended_id=ended, at=one.older[position][1])
            for one, positions in zip(found, answers, strict=True)
            for position in positions or ()
            if 0 <= position < len(one.older)
            for ended in one.older[position][0]
            for by in one.fact_ids
        )

    async def _small(
        self,
        reading: "_Reading",
        questions: Sequence[QuestionT],
        *,
        key: Callable[[QuestionT], str],
        ask: Callable[[Sequence[QuestionT], Meter], Awaitable[tuple[Sequence[Any], Usage]]],
        at_once: int,
    ) -> list[Any]:
        """An answer to each, from the record or from the model; None where it gives none, or nothing is left to spend."""
        answers = [await reading.answers.find(key(question)) for question in questions]
        todo = [number for number, answer in enumerate(answers) if answer is None]
        for some in batches(todo, at_once):
            try:
                given, _ = await ask([questions[number] for number in some], reading.meter)
            except Rejected as error:
                if error.code == Code.BUDGET_SPENT:
                    break
                if not _concerns_one_request(error):
                    raise
                continue
            for number, answer in zip(some, given, strict=True):
                if answer is not None:
                    answers[number] = answer
                    await reading.answers.keep(key(questions[number]), answer)
        reading.unanswered |= {key(questions[number]) for number in todo if answers[number] is None}
        return answers


def _concerns_one_request(error: Rejected) -> bool:
    """Whether the others may be answered: what came was no answer, or a refusal of what was asked, not of who asks."""
    return error.code == Code.MODEL_ANSWER_UNUSABLE or "asked" in error.details


class _Reading:
    """One version's passages in groups, with the answers about them."""

    def __init__(
        self,
        work: Enrichment,
        text: EnrichmentText,
        answers: Answers,
        budget: Budget,
        meter: Meter,
        model: str,
    ) -> None:
        self.work = work
        self.answers = answers
        self.budget = budget
        self.meter = meter
        # Keys of the smaller questions to which there is none.
        self.unanswered: set[str] = set()
        self._model = model
        self.dated = text.dated
        self.said_at = text.reference_time
        self.groups = [
            PassageGroup(title=text.title, passages=tuple(passages), reference_time=text.reference_time)
            for passages in group_passages([
                Passage(ordinal=one.ordinal, text=one.text, heading_path=one.heading_path)
                for one in text.passages
            ])
        ]

    def key(self, group: PassageGroup) -> str:
        return group_key(self._model, group, dated=self.dated)
