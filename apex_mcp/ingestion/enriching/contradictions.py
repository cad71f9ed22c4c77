"""Which older facts a version's facts may have ended, and which of its own a newer one that is known, so that a model is asked.

Texts come in any order. Predicates that hold one object at a time need no word: readers derive where such a fact ends. Of the
others only facts about the same subject are asked about, where the predicate is the same or the sentence speaks of an end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apex_mcp.ids import core_name, normalise_name
from apex_mcp.ingestion.enriching.protocol import Clash
from apex_mcp.models import Exclusive, ExtractedFact, Extraction
from apex_mcp.stores.record.enrichments import EnrichmentStore, KnownFact
from apex_mcp.stores.record.graph_rows import fact_id

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
    """A question, the fact that may have ended others, and these: which, and when they would end; each with all its ids."""

    clash: Clash
    fact_ids: frozenset[UUID]
    older: tuple[tuple[frozenset[UUID], datetime], ...]


async def find_contradictions(
    extraction: Extraction,
    store: EnrichmentStore,
    namespace: str,
    *,
    said_at: datetime | None,
    dated: bool,
    exclusive: Exclusive,
) -> list[Contradiction]:
    """The questions that are worth asking, in the order of the facts.

    Args:
        extraction: what the version says.
        store: knows the other facts.
        namespace: where.
        said_at: the version's own date, else when it was accepted.
        dated: whether it has one of its own.
        exclusive: predicates of which readers derive the ends.
    """
    of_subject: dict[str, list[KnownFact]] = {}
    found: list[Contradiction] = []
    more: list[Contradiction] = []
    for fact in extraction.facts:
        subject = normalise_name(fact.subject)
        if subject not in of_subject:
            of_subject[subject] = await store.facts_of_subject(namespace, fact.subject)
        ours = _as_known(namespace, fact, said_at, dated=dated)
        questions = _questions(fact, ours, of_subject[subject], said_at, exclusive)
        # Where not all can be asked, one about each fact comes first.
        found += questions[:1]
        more += questions[1:]
        if len(found) >= _MAX_CLASHES:
            break
    return [*found, *more][:_MAX_CLASHES]


def _questions(
    fact: ExtractedFact,
    ours: KnownFact,
    known: Sequence[KnownFact],
    said_at: datetime | None,
    exclusive: Exclusive,
) -> list[Contradiction]:
    """What the fact may have ended, then those that may have ended it, as they would have been asked about in turn."""
    older = [
        (one, ends_at)
        for one in known
        if _may_end(ours, one, exclusive)
        and (ends_at := _ends_at(fact, one, said_at)) is not None
        and _tells_more(ours, one, ends_at)
    ][:_MAX_OLDER]
    found = [_contradiction(ours, fact.valid_at, older)] if older else []
    newer = [
        (one.begins, one)
        for one in known
        if one.begins is not None
        and ours.begins is not None
        and ours.begins < one.begins
        and fact.invalid_at is None
        and _may_end(one, ours, exclusive)
    ]
    newer.sort(key=lambda pair: (not _same_object(ours, pair[1]), pair[0], pair[1].id))
    found += [_contradiction(one, one.known_since, [(ours, begins)]) for begins, one in newer[:_MAX_OLDER]]
    return found


def _contradiction(
    by: KnownFact, valid_at: datetime | None, older: Sequence[tuple[KnownFact, datetime]]
) -> Contradiction:
    return Contradiction(
        clash=Clash(sentence=by.sentence, valid_at=valid_at, older=tuple(_words(one) for one, _ in older)),
        fact_ids=by.ids,
        older=tuple((one.ids, ends_at) for one, ends_at in older),
    )


def _as_known(namespace: str, fact: ExtractedFact, said_at: datetime | None, *, dated: bool) -> KnownFact:
    id_ = fact_id(namespace, fact)
    return KnownFact(
        id=id_,
        ids=frozenset([id_]),
        subject=fact.subject,
        predicate=fact.predicate,
        object=fact.object,
        sentence=fact.sentence,
        begins=fact.valid_at or said_at,
        known_since=fact.valid_at or (said_at if dated else None),
    )


def _may_end(fact: KnownFact, older: KnownFact, exclusive: Exclusive) -> bool:
    if older.sentence == fact.sentence or fact.ids & older.ids:
        return False
    same_object = normalise_name(older.object) == normalise_name(fact.object)
    if older.predicate == fact.predicate:
        return not same_object and fact.predicate not in exclusive.objects
    return _SPEAKS_OF_AN_END.search(fact.sentence) is not None


def _tells_more(fact: KnownFact, older: KnownFact, ends_at: datetime) -> bool:
    """Whether an end at this time would be news: an earlier one, or of what is left by name where that only gave way so far.

    An end that this fact made already is its own, whoever states it again.
    """
    if fact.id in older.told_by:
        return False
    if older.invalid_at is None or ends_at < older.invalid_at:
        return True
    return older.predicate != fact.predicate and _same_object(fact, older)


def _same_object(one: KnownFact, other: KnownFact) -> bool:
    return core_name(one.object) == core_name(other.object)


def _ends_at(fact: ExtractedFact, older: KnownFact, said_at: datetime | None) -> datetime | None:
    """When the older one would end: as the new one begins, else as it was said; None where it began only after both."""
    for time, since in ((fact.valid_at, older.known_since), (said_at, older.begins)):
        if time is not None and (since is None or since < time):
            return time
    return None


def _words(fact: KnownFact) -> str:
    since = f" (since {fact.known_since.date().isoformat()})" if fact.known_since is not None else ""
    return f"{fact.sentence}{since}"
