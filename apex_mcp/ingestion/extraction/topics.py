"""Headings that name a subject. "Introduction" and "Chapter 3" don't."""

import re
from collections.abc import Iterator

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.models import HeadingSpan

_NUMBERING = re.compile(
    r"^(?:(?:chapter|section|part|article|appendix|annex|figure|table|step|slide|page|phase|module|unit|lesson|kapitel|abschnitt|chapitre|capítulo)"
    r"\s+[\dIVXLC]+(?:\.\d+)*|§?\s*\d+(?:\.\d+)*|[IVXLC]+(?=[.)]\s)|[A-Za-z](?=[.)]\s))\s*[.:)–—-]?\s*",
    re.IGNORECASE,
)
_GENERALLY = re.compile(r"\s*[-–—:]\s*(?:generally|in general|overview|introduction)$", re.IGNORECASE)
_EMPHASIS = re.compile(r"[*_`#]+|\[|\]\([^)]*\)")
_SENTENCE = re.compile(r"[.!?:;,]$|\s\d+$|\d{4}-\d\d-\d\d|[.!?] |[{}<>=|\\\x00]|https?:|www\.|\.{3}")
_FILLER = frozenset(
    "how what why when where who which that can do does is are was were will should your you we our us i my let".split()
)
_MOST_WORDS = 7


def find_topics(headings: tuple[HeadingSpan, ...]) -> Iterator[Mention]:
    """The headings worth an entity: two to seven words, not all of them generic, no sentence, no question."""
    for heading in headings:
        title = topic_of(heading.title)
        if title:
            yield Mention(start=heading.start, end=heading.end, kind=Kind.TOPIC, name=title, surface=title)


def topic_of(heading: str) -> str | None:
    """What a heading is about, without its number; None where it names no subject of its own."""
    title = " ".join(_EMPHASIS.sub("", heading).split())
    title = _GENERALLY.sub("", _NUMBERING.sub("", title, count=1)).strip(" -–—:.")
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", title)
    if not 2 <= len(words) <= _MOST_WORDS or len(title) > 80 or _SENTENCE.search(title):
        return None
    low = [word.lower() for word in words]
    if low[0] in _FILLER or any(word in ("i", "you", "we", "your", "our", "my") for word in low):
        return None
    if sum(char.isdigit() for char in title) > len(title) // 4:
        return None
    stop, generic = lexicon.lowered("function_words"), lexicon.lowered("generic_headings")
    content = [word for word in low if word not in stop and len(word) > 2]
    # "Financial Performance" is about something although both words are common; "Key Findings" is in every report.
    if len(content) < 2 or all(word in generic for word in content):
        return None
    return title
