"""From places in the text to the chunks that hold them, and to the sentences around them."""

import re
from bisect import bisect_right
from collections.abc import Sequence

from apex_mcp.models import Chunk

_LONGEST_SENTENCE = 400
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Inc|Corp|Ltd|Co|No|Nr|vs|etc|approx|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct"
    r"|Nov|Dec)|\b[A-Z]\.[A-Z])$"
)
_BOUNDARY = re.compile(
    r"[.!?…]['\"”’)\]]{0,2}(?=\s)|\n[ \t]*\n|\n(?=[ \t]{0,8}(?:[-*•#|>]|\d{1,3}[.)] ))|[。！？]"
)


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
        if not _is_abbreviation(text, match):
            sentence_start = match.end()
    high = min(len(text), end + _LONGEST_SENTENCE)
    sentence_end = high
    for match in _BOUNDARY.finditer(text, end, high):
        if not _is_abbreviation(text, match):
            sentence_end = match.end()
            break
    while sentence_start < start and text[sentence_start].isspace():
        sentence_start += 1
    return sentence_start, sentence_end


def _is_abbreviation(text: str, boundary: re.Match[str]) -> bool:
    if text[boundary.start()] != ".":
        return False
    before = text[max(0, boundary.start() - 8) : boundary.start()]
    # "Inc." and the like end a sentence when a capitalised word does not follow in the same line at once.
    return bool(_ABBREVIATION.search(before))
