"""Which older facts a version's facts may have ended, so that a model is asked.

Predicates that hold one object at a time need no word: readers derive where such a fact ends. Of the others only facts about the
same subject are asked about, where the predicate is the same or the sentence speaks of an end.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.enriching.protocol import Clash
from apex_mcp.models import ExtractedFact, Extraction
from apex_mcp.stores.record.enrichments import EnrichmentStore, KnownFact

# Of one fact and of one document: what goes beyond is not worth the money.
_MAX_OLDER = 8
_MAX_CLASHES = 60
_SPEAKS_OF_AN_END = re.compile(
    r"\b(no longer|not any ?more|any ?longer|until|former(ly)?|previously|ex-|used to|left|leaves|leaving|resign\w*|retire[ds]?"
    r"|step(ped|s) down|quit|fired|dismissed|replac\w+|succeed\w*|instead of|end(ed|s)|terminat\w+|expire[ds]?|cancel\w*"
    r"|discontinu\w+|stopp?(ed|s)|ceas\w+|revoked|withdr\w+|divest\w*|sold|closed|dissolved|superseded|moved|changed"
    r"|divorced|died|since then|as of now|nicht mehr|ehemalig\w*|früher\w*|bis zum|beendet\w*|gekündigt|ausgeschieden"
    r"|ancien(ne)?|n.est plus|quitt\w+|démissionn\w+|ya no|anteriormente|dejó|dimit\w+)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A question, and the older facts that its answer is about: which, and when they would end."""

    clash: Clash
    fact: ExtractedFact
    older: tuple[tuple[UUID, datetime], ...]


async def find_contradictions(
    extraction: Extraction,
    store: EnrichmentStore,
    namespace: str,
    *,
    said_at: datetime | None,
    exclusive: Collection[str],
) -> list[Contradiction]:
    """The questions that are worth asking, in the order of the facts.

    Args:
        extraction: what the version says.
        store: knows the older facts.
        namespace: where.
        said_at: the version's own date, else when it was accepted.
        exclusive: predicates that hold one object at a time.
    """
    of_subject: dict[str, list[KnownFact]] = {}
    found: list[Contradiction] = []
    for fact in extraction.facts:
        subject = normalise_name(fact.subject)
        if subject not in of_subject:
            of_subject[subject] = await store.facts_of_subject(namespace, fact.subject)
        older = [
            (one, ends_at)
            for one in of_subject[subject]
            if _may_end(fact, one, exclusive) and (ends_at := _ends_at(fact, one, said_at)) is not None
        ][:_MAX_OLDER]
        if older:
            sentences = tuple(_words(one) for one, _ in older)
            found.append(
                Contradiction(
                    clash=Clash(sentence=fact.sentence, valid_at=fact.valid_at, older=sentences),
                    fact=fact,
                    older=tuple((one.id, ends_at) for one, ends_at in older),
                )
            )
        if len(found) == _MAX_CLASHES:
            break
    return found


def _may_end(fact: ExtractedFact, older: KnownFact, exclusive: Collection[str]) -> bool:
    if older.sentence == fact.sentence:
        return False
    same_object = normalise_name(older.object) == normalise_name(fact.object)
    if older.predicate == fact.predicate:
        return not same_object and fact.predicate not in exclusive
    return _SPEAKS_OF_AN_END.search(fact.sentence) is not None


def _ends_at(fact: ExtractedFact, older: KnownFact, said_at: datetime | None) -> datetime | None:
    """When the older one would end: as the new one begins, else as it was said; None where it began only after both."""
    for time in (fact.valid_at, said_at):
        if time is not None and (older.begins is None or older.begins < time):
            return time
    return None


def _words(fact: KnownFact) -> str:
    since = f" (since {fact.begins.date().isoformat()})" if fact.begins is not None else ""
    return f"{fact.sentence}{since}"
