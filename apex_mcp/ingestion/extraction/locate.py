"""From places in the text to the chunks that hold them, and to the sentences around them."""

import re
from bisect import bisect_right
from collections.abc import Sequence

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.models import Chunk

_LONGEST_SENTENCE = 400
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|No|Nr|vs|etc|approx|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct"
    r"|Nov|Dec)|\b[A-Z]\.[A-Z])$"
)
_BOUNDARY = re.compile(r"[.!?…]['\"”’)\]]{0,2}(?:\[\d{1,3}\]){0,4}(?=\s)|\n(?:[ \t]*\n)?|[。！？]")
_NEXT_WORD = re.compile(r"\s{1,3}([^\W\d_]+)")
# These end a sentence only where the next word begins one: "Acme Inc. It ...".
_LEGAL_FORMS = ("Inc", "Corp", "Ltd", "Co")
_LIST_ITEM = re.compile(r"[ \t]{0,8}(?:[-*•#|>]|\d{1,3}[.)] )")
_SHORTEST_WRAPPED_LINE = 40


class ChunkLocator:
    """Finds the chunks of a version by character offset. Chunks may overlap, and need not cover the whole text."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = sorted(chunks, key=lambda chunk: (chunk.place.start, chunk.ordinal))
        self._starts = [chunk.place.start for chunk in self._chunks]
        self._reach: list[int] = []
        furthest = 0
        for chunk in self._chunks:
            furthest = max(furthest, chunk.place.end)
            self._reach.append(furthest)

    def ordinals(self, start: int, end: int) -> list[int]:
        """Ordinals of the chunks that hold the start of this span; where none does, the next one (or the last)."""
        if not self._chunks:
            return []
        found: list[int] = []
        i = bisect_right(self._starts, start) - 1
        while i >= 0 and self._reach[i] > start:
            if self._chunks[i].place.end > start:
                found.append(self._chunks[i].ordinal)
            i -= 1
        if found:
            return sorted(found)
        following = min(bisect_right(self._starts, start), len(self._chunks) - 1)
        return [self._chunks[following].ordinal]


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Offsets of the sentence that holds this span, cut at a bounded distance."""
    low = max(0, start - _LONGEST_SENTENCE)
    sentence_start = low
    for match in _BOUNDARY.finditer(text, low, start):
        if _ends_sentence(text, match):
            sentence_start = match.end()
    if sentence_start == low > 0:
        sentence_start = max(text.find(" ", low, start), text.find("\n", low, start), low)
    high = min(len(text), end + _LONGEST_SENTENCE)
    # The last dot of "Beta Ltd." may end the sentence too.
    first = end - 1 if text[end - 1 : end] == "." else end
    ends = (match.end() for match in _BOUNDARY.finditer(text, first, high) if _ends_sentence(text, match))
    return sentence_start, next(ends, high)


def _ends_sentence(text: str, boundary: re.Match[str]) -> bool:
    mark = text[boundary.start()]
    if mark == ".":
        following = _NEXT_WORD.match(text, boundary.end())
        if following and following[1][0].islower():
            return False
        before = text[max(0, boundary.start() - 8) : boundary.start()]
        if following and before.endswith(_LEGAL_FORMS):
            return following[1].lower() in lexicon.lowered("function_words")
        return not _ABBREVIATION.search(before)
    if boundary.group() == "\n" and not _LIST_ITEM.match(text, boundary.end()):
        # A line break ends a short line, as of a list, a header or a cell; running text goes on.
        line_start = text.rfind("\n", max(0, boundary.start() - 200), boundary.start()) + 1
        return boundary.start() - line_start < _SHORTEST_WRAPPED_LINE
    return True
