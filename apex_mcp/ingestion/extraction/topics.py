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
_EMPHASIS = re.compile(r"[*_`#]+|\[|\]\([^)]*\)")
_SENTENCE = re.compile(r"[.!?:;,]$|\s\d+$|[.!?] |[{}<>=|\\\x00]|https?:|www\.|\.{3}")
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
    title = _NUMBERING.sub("", title, count=1).strip(" -–—:.")
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", title)
    if not 2 <= len(words) <= _MOST_WORDS or len(title) > 80 or _SENTENCE.search(title):
        return None
    low = [word.lower() for word in words]
    if low[0] in _FILLER or any(word in ("i", "you", "we", "your", "our", "my") for word in low):
        return None
    if sum(char.isdigit() for char in title) > len(title) // 4:
        return None
    stop, common = lexicon.lowered("function_words"), lexicon.lowered("common_words")
    content = [word for word in low if word not in stop and len(word) > 2]
    # "Financial Performance" is about something although both words are common; "Key Findings" is in every report.
    if len(content) < 2 or all(word in _GENERIC for word in content):
        return None
    if all(word in common and word in _GENERIC for word in content[:-1]) and content[-1] in _GENERIC:
        return None
    return title


_GENERIC = frozenset(
    """abstract acknowledgements acknowledgments action actions additional address agenda aims analysis annex any appendix appendices approach attendees
    author authors background basic basics before bibliography brief business case chapter closing comments conclusion conclusions contact contents
    content continued data date dates decisions definition definitions description details discussion document documents entry example examples
    executive experiment experiments experimental external final findings first following further future general getting glossary goals guide heading help highlights home
    how important index info information instructions introduction issues item items key last limitations line link links list main material materials
    method methodology methods minutes miscellaneous more name navigation new news next note notes notice number objective objectives old open other
    others outline output overview page paragraph part participants point points preface present present previous problem purpose questions quick
    quick-start read readme recommendations reference references related remarks report resources response result results review sample scope second section
    see setup setting settings short sign simple slide sources special start started statement step steps study sub subject summary supplementary
    table tables terms test tests text third thank thanks this title todo tools topic topics total type types update updates usage use user using various
    version view work works year""".split()
)
