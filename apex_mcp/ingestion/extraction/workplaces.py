"""Organisations that only a person's work tells of: "Jane Doe works at Initech", "joined Globex"."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.certainty import MARKUP
from apex_mcp.ingestion.extraction.dates import find_dates
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.organizations import NAME_ENDS
from apex_mcp.ingestion.extraction.person_names import TITLES, NameReader
from apex_mcp.ingestion.extraction.roles import AS_WORK, JOB
from apex_mcp.ingestion.extraction.words import UPPER, Words

_WORKS_AT = re.compile(
    rf" (?:who )?(?:(?P<joined>(?:has )?joined)"
    rf"|(?:(?:has )?worked at|(?:currently |now )?works at|(?:is|was) (?:currently |now )?employed at|(?:is )?an? {JOB} at"
    rf"|(?P<for_a_name>(?:currently |now )?works for)"
    rf"|(?P<perhaps_for_a_person>(?:has )?worked for|(?:is|was) employed (?:for|by)))(?: the)?) {MARKUP}(?=[{UPPER}])"
)
# "joined Schneider in the lobby", "joined Zoom" tell of no work.
_JOINED_TO_WORK = re.compile(
    rf" (?:(?P<work>{AS_WORK})|in [12]\d{{3}}\b|(?:in|on|as of) (?P<date>.{{1,40}}))"
)
# "worked for Meeran and the smugglers" may tell of a person.
_ENDS = re.compile(
    r"[.,;:)!\n\]*\"”]| ?\(|$| (?:as|since|from|until|in|on|last|this|when|where|after|before|and (?=[a-z]+s ))\b"
)
_END_OF_WORD = re.compile("[ ,]|$")
_BELIEFS = ("ism", "ity")
_STREETS = frozenset("street road avenue square lane station".split())
_MOST_WORDS = 4
_SHORTEST = 3
# Longer words in -s are plurals rather than surnames: Instruments, Robotics.
_LONGEST_IN_S = 7


def find_workplaces(
    words: Words, organizations: Sequence[Mention], people: Sequence[Mention]
) -> Iterator[Mention]:
    """What stands where one of `people` works or what one of them joined, and can be no person and no place.

    What begins the name of one of `organizations` is left to it: "Northwind" of "Northwind Traders, Inc."
    """
    reader = NameReader(words)
    people_end = {person.end for person in people}
    beginnings = {
        one.name[: mark.start()] for one in organizations for mark in _END_OF_WORD.finditer(one.name)
    }
    last_names = {person.name.split()[-1] for person in people}
    for match in _WORKS_AT.finditer(words.text):
        first = bisect_left(words.start, match.end())
        before = words.text[max(0, match.start() - 3) : match.start()]
        person_end = match.start() - len(before) + len(before.rstrip(",*_"))
        if person_end not in people_end or first == len(words) or words.start[first] != match.end():
            continue
        last = _last_word(reader, first)
        if last is None or not _ends(words, first, last, joined=bool(match["joined"])):
            continue
        surface = words.surface(first, last)
        if first == last and (match["perhaps_for_a_person"] or surface in last_names):
            continue
        if (match["for_a_name"] or match["perhaps_for_a_person"]) and _may_be_a_person(reader, first, last):
            continue
        if surface not in beginnings:
            yield Mention(
                start=words.start[first],
                end=words.end[last],
                kind=Kind.ORGANIZATION,
                name=surface,
                surface=surface,
            )


def _ends(words: Words, first: int, last: int, *, joined: bool) -> bool:
    """Whether the name ends with word `last`, and what was joined is work by what follows."""
    end = words.end[last]
    if not joined:
        return _ENDS.match(words.text, end) is not None
    follows = _JOINED_TO_WORK.match(words.text, end)
    if follows is None or follows["work"]:
        return follows is not None
    if words.low[last].endswith(_BELIEFS) or words.surface(first, last) in lexicon.entries("joined_by_users"):
        return False
    return not follows["date"] or any(date.start == 0 for date in find_dates(follows["date"]))


def _may_be_a_person(reader: NameReader, first: int, last: int) -> bool:
    """Whether two words may be a given name and a surname: "works for Barack Obama"."""
    low = reader.words.low[last]
    return (
        last == first + 1
        and all(reader.can_be_name(reader.words.word[k], reader.words.low[k]) for k in (first, last))
        and low not in reader.named_after | NAME_ENDS
        and low.removesuffix("s") not in reader.common_words
        and not (low.endswith("s") and len(low) > _LONGEST_IN_S)
    )


def _last_word(reader: NameReader, first: int) -> int | None:
    """The last word of the name that begins with word `first`; None where it may be none of an organisation."""
    words, last = reader.words, first
    while words.gap(last) == " " and words.low[last + 1] not in reader.function_words:
        last += 1
    if (
        words.joined_after(last)
        or last - first >= _MOST_WORDS
        or "\n" in words.text[words.start[first] : words.end[last]]
    ):
        return None
    begins, alone = words.low[first], first == last
    if begins in reader.given_names or begins in reader.function_words or words.word[first] in TITLES:
        return None
    if begins in words.lower_case or (alone and (begins in reader.common_words or len(begins) < _SHORTEST)):
        return None
    if all(word in reader.common_words for word in words.low[first : last + 1]):
        return None
    if not alone and words.low[last] in _STREETS:
        return None
    surface = words.surface(first, last)
    return (
        None if surface in lexicon.entries("places") or surface in lexicon.entries("no_workplaces") else last
    )
