"""A model behind an OpenAI-compatible endpoint, asked with graphiti-core's prompt for entities and facts."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version

from apex_mcp.ingestion.enriching.chat import ChatEndpoint, Question
from apex_mcp.ingestion.enriching.instructions import ended_question, extraction_question, same_question
from apex_mcp.ingestion.enriching.ontology import Ontology
from apex_mcp.ingestion.enriching.protocol import (
    UNMETERED,
    Clash,
    Doubt,
    Meter,
    Passage,
    PassageGroup,
    Usage,
)
from apex_mcp.ingestion.enriching.reading import read_ended, read_extraction, read_same
from apex_mcp.models import Extraction


class GraphitiExtractor:
    """Satisfies `Extractor`.

    Args:
        endpoint: where the models are; closed with the extractor.
        model: reads passages.
        small_model: answers small questions.
        ontology: entity types and predicates that answers are put into.
    """

    def __init__(self, *, endpoint: ChatEndpoint, model: str, small_model: str, ontology: Ontology) -> None:
        self._endpoint = endpoint
        self._model = model
        self._small_model = small_model
        self._ontology = ontology
        self._name = f"openai:{model}+{small_model}@{endpoint.place}#{_fingerprint(ontology)}"

    @property
    def name(self) -> str:
        return self._name

    def tokens_to_ask(self, group: PassageGroup) -> int:
        question = extraction_question(group, self._ontology)
        return self._endpoint.estimate(self._model, question).tokens_in

    async def extract(self, group: PassageGroup, meter: Meter = UNMETERED) -> tuple[Extraction, Usage]:
        if not group.passages:
            return Extraction(), Usage()
        answer, usage = await self._endpoint.ask(
            self._model, extraction_question(group, self._ontology), meter
        )
        # A long answer takes a while to read, and others are waiting for the loop.
        found = await asyncio.to_thread(read_extraction, answer, group, self._ontology)
        return found, usage

    async def same(
        self, doubts: Sequence[Doubt], meter: Meter = UNMETERED
    ) -> tuple[list[bool | None], Usage]:
        if not doubts:
            return [], Usage()
        answer, usage = await self._endpoint.ask(self._small_model, same_question(doubts), meter)
        return read_same(answer, len(doubts)), usage

    async def ended(
        self, clashes: Sequence[Clash], meter: Meter = UNMETERED
    ) -> tuple[list[tuple[int, ...] | None], Usage]:
        if not clashes:
            return [], Usage()
        answer, usage = await self._endpoint.ask(self._small_model, ended_question(clashes), meter)
        return read_ended(answer, [len(clash.older) for clash in clashes]), usage

    async def close(self) -> None:
        await self._endpoint.close()


def _fingerprint(ontology: Ontology) -> str:
    """What the same question would be answered by: instructions, forms of answers, ontology, graphiti-core's version."""
    questions: list[Question] = [
        extraction_question(
            PassageGroup(title="", passages=(Passage(ordinal=0, text=""),), known_names=("x",)), ontology
        ),
        same_question(()),
        ended_question(()),
    ]
    asked = [
        [question.system, question.user, json.dumps(question.answer_schema, sort_keys=True)]
        for question in questions
    ]
    told = json.dumps([version("graphiti-core"), asked, ontology.model_dump_json()])
    return hashlib.sha256(told.encode("utf-8")).hexdigest()[:12]
