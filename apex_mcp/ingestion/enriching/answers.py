"""What a model answered, as the record keeps it: under what was asked, so that whoever asks the same again finds it.

An answer belongs to the version that it was asked for. A later version of the document, or another document of the
namespace, that asks the same takes a copy: it costs nothing, and goes with its own version.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from apex_mcp.ingestion.enriching.protocol import Clash, Doubt, Passage, PassageGroup
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction
from apex_mcp.stores.record.enrichments import Enrichment, EnrichmentStore


class Answers:
    """The answers that one version has a part in.

    Args:
        store: where they are kept.
        work: the version that is enriched.
    """

    def __init__(self, store: EnrichmentStore, work: Enrichment) -> None:
        self._store = store
        self._version_id = work.version_id
        self._namespace = work.namespace

    async def find(self, key: str) -> Any | None:
        """The answer to this, whoever asked it."""
        kept = await self._store.answer(self._namespace, key)
        if kept is None:
            return None
        if kept["asked_by"] != str(self._version_id):
            await self._store.keep_answer(self._version_id, key, kept)
        return kept["content"]

    async def keep(self, key: str, content: Any) -> None:
        """Keep an answer before anything is made of it."""
        answer = {"content": content, "asked_by": str(self._version_id)}
        await self._store.keep_answer(self._version_id, key, answer)


def group_key(model: str, group: PassageGroup, *, dated: bool) -> str:
    """What a group is asked under: its text and, where the document has a date of its own, that.

    Not where its passages stand, nor the names of other groups: an edit elsewhere in the document asks nothing again.
    """
    passages = [[passage.text, *passage.heading_path] for passage in group.passages]
    time = group.reference_time.isoformat() if group.reference_time is not None and dated else ""
    return _key(model, "extract", [group.title, time, passages])


def doubt_key(model: str, doubt: Doubt) -> str:
    """What a pair of names is asked under, once for a namespace: not what is said of them, which grows."""
    pair = sorted([[doubt.name, doubt.type], [doubt.other_name, doubt.other_type]])
    return _key(model, "same", pair)


def clash_key(model: str, clash: Clash) -> str:
    """What a new fact beside older ones is asked under."""
    time = clash.valid_at.isoformat() if clash.valid_at is not None else ""
    return _key(model, "ended", [clash.sentence, time, *clash.older])


def _key(model: str, question: str, asked: list[Any]) -> str:
    body = json.dumps([model, question, asked], ensure_ascii=True)
    return hashlib.sha256(body.encode()).hexdigest()


def to_answer(extraction: Extraction, passages: Sequence[Passage]) -> dict[str, Any]:
    """An extraction as plain data; passages by their position in the group, not in the document."""
    positions = {passage.ordinal: position for position, passage in enumerate(passages)}
    return {
        "ungrounded": extraction.ungrounded,
        "entities": [
            {
                "name": entity.name,
                "type": entity.type,
                "aliases": list(entity.aliases),
                "passages": [positions[ordinal] for ordinal in entity.chunks],
            }
            for entity in extraction.entities
        ],
        "facts": [
            {
                "subject": fact.subject,
                "predicate": fact.predicate,
                "object": fact.object,
                "sentence": fact.sentence,
                "passage": positions[fact.chunk],
                "object_is_entity": fact.object_is_entity,
                "valid_at": _iso(fact.valid_at),
                "invalid_at": _iso(fact.invalid_at),
            }
            for fact in extraction.facts
        ],
    }


def from_answer(answer: dict[str, Any], passages: Sequence[Passage]) -> Extraction:
    """The extraction, in the passages of this group."""

    def ordinal(position: int) -> int:
        return passages[position].ordinal

    return Extraction(
        ungrounded=answer["ungrounded"],
        entities=tuple(
            ExtractedEntity(
                name=entity["name"],
                type=entity["type"],
                aliases=tuple(entity["aliases"]),
                chunks=tuple(map(ordinal, entity["passages"])),
            )
            for entity in answer["entities"]
        ),
        facts=tuple(
            ExtractedFact(
                subject=fact["subject"],
                predicate=fact["predicate"],
                object=fact["object"],
                sentence=fact["sentence"],
                chunk=ordinal(fact["passage"]),
                object_is_entity=fact["object_is_entity"],
                valid_at=_time(fact["valid_at"]),
                invalid_at=_time(fact["invalid_at"]),
            )
            for fact in answer["facts"]
        ),
    )


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
