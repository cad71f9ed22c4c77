"""Organisations that only a person's work tells of: "Jane Doe works at Initech", "joined Globex"."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.dates import find_dates
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.person_names import TITLES, NameReader
from apex_mcp.ingestion.extraction.words import UPPER, Words

_WORKS_AT = re.compile(
    rf" (?:(?P<joined>(?:has )?joined)"
    rf"|(?:(?:has )?worked at|works (?:at|for)|(?:is|was) employed at"
    rf"|(?P<perhaps_for_a_person>(?:has )?worked for|(?:is|was) employed (?:for|by)))(?: the)?) (?=[{UPPER}])"
)
# "joined Schneider in the lobby", "joined Zoom" tell of no work.
_JOINED_TO_WORK = re.compile(r" (?:as |in [12]\d{3}\b|(?:in|on) (?P<date>.{1,40}))")
# "worked for Meeran and the smugglers" may tell of a person.
_ENDS = re.compile(r"[.,;:)!\n]|$| (?:as|since|from|until|in|on|last|this|when|where|after|before)\b")
_MOST_WORDS = 4
_SHORTEST = 3


def find_workplaces(
    words: Words, organizations: Sequence[Mention], people: Sequence[Mention]
) -> Iterator[Mention]:
    """What stands where one of `people` works or what one of them joined, and can be no person and no place.

    What begins the name of one of `organizations` is left to it: "Northwind" of "Northwind Traders, Inc."
    """
    reader = NameReader(words)
    people_end = {person.end for person in people}
    last_names = {person.name.split()[-1] for person in people}
    for match in _WORKS_AT.finditer(words.text):
        first = bisect_left(words.start, match.end())
        if match.start() not in people_end or first == len(words) or words.start[first] != match.end():
            continue
        last = _last_word(reader, first)
        if last is None or not _ends(words, last, joined=bool(match["joined"])):
            continue
        surface = words.surface(first, last)
        if first == last and (match["perhaps_for_a_person"] or surface in last_names):
            continue
        if not any(f"{one.name} ".startswith((f"{surface} ", f"{surface},")) for one in organizations):
            yield Mention(
                start=words.start[first],
                end=words.end[last],
                kind=Kind.ORGANIZATION,
                name=surface,
                surface=surface,
            )


def _ends(words: Words, last: int, *, joined: bool) -> bool:
    """Whether the name ends with word `last`, and what was joined is work by what follows."""
    end = words.end[last]
    if not joined:
        return _ENDS.match(words.text, end) is not None
    follows = _JOINED_TO_WORK.match(words.text, end)
    return follows is not None and (
        not follows["date"] or any(date.start == 0 for date in find_dates(follows["date"]))
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
    return None if words.surface(first, last) in lexicon.entries("places") else last
