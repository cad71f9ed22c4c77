"""Cuts a parsed document into passages of 120 to 400 tokens, along its structure.

Sections first, then paragraphs, sentences, lines, words. What fits the embedder's window stays whole; small sections
join a neighbour under the same parent; no passage takes part in two sections that could each stand alone.

A token here is up to eight ASCII letters, up to three digits, or one other character that is no space. That is
cheap and needs no model. Of the word pieces of all-MiniLM-L6-v2 it counts 0.9 to 1.02 in English, French, Russian
and Chinese texts, 0.6 in long German compounds, and half in Korean. That model reads 256 word pieces: passages aim
at `WINDOW`, and become longer only rather than leave a crumb beside them.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from apex_mcp.ingestion.detection import MediaType
from apex_mcp.models import Chunk, HeadingSpan, PageSpan, ParsedDocument, Place

MIN_TOKENS = 120
WINDOW = 240
MAX_TOKENS = 400
_MAX_PATH_CHARS = 1_000

_TOKEN = re.compile(r"[A-Za-z]{1,8}|[0-9]{1,3}|\S")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"\n\s*")
# An ending before a small letter is an abbreviation's; Chinese and Japanese put no space after theirs.
_SENTENCE = re.compile(r"(?:[.!?…]['\")\]’”»]*\s+|[。！？]['\")\]’”」』]*\s*)(?=[^a-z\s])")  # noqa: RUF001

# A slide, a sheet or a chapter is cited as itself, however few its words.
_PAGES_APART = frozenset({MediaType.PPTX, MediaType.XLSX, MediaType.EPUB})

# Passages are ranges of tokens, [first, last): they cover all that is no space exactly once by being adjacent.
_Range = tuple[int, int]


def count_tokens(text: str) -> int:
    """The number of tokens, as passages are measured."""
    return len(_TOKEN.findall(text))


def chunk_document(document: ParsedDocument) -> tuple[Chunk, ...]:
    """Cut a document into passages: in order, without overlap, none of its words left out."""
    text = _Text(document.text)
    outline = _Outline(text, document.headings)
    pages = _Pages(document.pages)
    chunks: list[Chunk] = []
    apart = document.pages if document.media_type in _PAGES_APART else ()
    for first, last in _cut(text, outline, apart):
        start, end = text.span(first, last)
        page_from, page_to = pages.at(start), pages.at(end - 1)
        place = Place(
            start=start,
            end=end,
            page_from=page_from,
            page_to=page_to,
            heading_path=outline.path(first, last),
        )
        chunks.append(
            Chunk(ordinal=len(chunks), text=document.text[start:end], place=place, tokens=last - first)
        )
    return tuple(chunks)


class _Text:
    """A text, its tokens, and where it may be cut (as indexes of the tokens that come after)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = array("I", (token.start() for token in _TOKEN.finditer(text)))

    def __len__(self) -> int:
        return len(self.starts)

    def token_at(self, position: int) -> int:
        """The first token that starts at or after a position."""
        return bisect_left(self.starts, position)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The characters of a range of tokens, without space around."""
        start = self.starts[first]
        end = self.starts[last] if last < len(self.starts) else len(self.text)
        return start, start + len(self.text[start:end].rstrip())

    @cached_property
    def kinds_of_cuts(self) -> tuple[list[int], ...]:
        """The places to cut at, the best kind first."""
        paragraphs, sentences, lines = (
            [self.token_at(found.end()) for found in pattern.finditer(self.text)]
            for pattern in (_PARAGRAPH, _SENTENCE, _LINE)
        )
        whole_lines = sorted(set(sentences) & set(lines))
        return paragraphs, whole_lines, sentences, lines

    def best_cut(self, low: int, high: int) -> int:
        """Where to cut between two tokens, both included: as late as the best kind allows."""
        for cuts in self.kinds_of_cuts:
            position = bisect_right(cuts, high) - 1
            if position >= 0 and cuts[position] >= low:
                return cuts[position]
        for token in range(high, low - 1, -1):
            if self.text[self.starts[token] - 1].isspace():
                return token
        for token in range(high, low, -1):
            # An accent stays with its letter.
            if not unicodedata.category(self.text[self.starts[token]]).startswith("M"):
                return token
        return low


@dataclass(frozen=True, slots=True)
class _Heading:
    first: int
    last: int
    level: int
    title: str
    parents: tuple[int, ...]


class _Outline:
    """The headings, by tokens, and the sections that they open."""

    def __init__(self, text: _Text, headings: Sequence[HeadingSpan]) -> None:
        self.headings: list[_Heading] = []
        above: list[int] = []
        for heading in sorted(headings, key=lambda one: one.start):
            first, last = text.token_at(heading.start), text.token_at(heading.end)
            if first == last or (self.headings and first < self.headings[-1].last):
                continue
            while above and self.headings[above[-1]].level >= heading.level:
                above.pop()
            above.append(len(self.headings))
            self.headings.append(_Heading(first, last, heading.level, heading.title, tuple(above)))
        self.firsts = [heading.first for heading in self.headings]

    def path(self, first: int, last: int) -> tuple[str, ...]:
        """Titles of the innermost section that holds all of a range but the headings it begins with.

        Where no section holds it all: of the one in which it starts. Of a path that is too long the innermost stay.
        """
        body = first
        index = bisect_left(self.firsts, first)
        while index < len(self.firsts) and self.firsts[index] == body and self.headings[index].last < last:
            body = self.headings[index].last
            index += 1
        common: list[str] = []
        for one, other in zip(self._section(body), self._section(last - 1), strict=False):
            if one != other:
                break
            common.append(self.headings[one].title)
        path = common or [self.headings[one].title for one in self._section(first)]
        while sum(map(len, path)) > _MAX_PATH_CHARS and len(path) > 1:
            del path[0]
        return tuple(path)

    def _section(self, token: int) -> tuple[int, ...]:
        index = bisect_right(self.firsts, token) - 1
        return self.headings[index].parents if index >= 0 else ()


class _Pages:
    def __init__(self, pages: Sequence[PageSpan]) -> None:
        self._pages = sorted(pages, key=lambda page: (page.start, page.number))
        self._starts = [page.start for page in self._pages]

    def at(self, position: int) -> int | None:
        index = bisect_right(self._starts, position) - 1
        return self._pages[index].number if index >= 0 else None


def _cut(text: _Text, outline: _Outline, pages_apart: Sequence[PageSpan]) -> list[_Range]:
    """Cut a text; no passage goes over from one of `pages_apart` to the next."""
    borders = sorted({0, len(text), *(text.token_at(page.start) for page in pages_apart)})
    return [
        piece
        for first, last in pairwise(borders)
        for piece in _cut_section(
            text, [one for one in outline.headings if first <= one.first < last], first, last
        )
    ]


def _cut_section(text: _Text, headings: Sequence[_Heading], first: int, last: int) -> list[_Range]:
    """Cut a range; `headings` are those in it."""
    if last - first <= WINDOW:
        return [(first, last)]
    inner = [heading for heading in headings if first < heading.first]
    if not inner:
        return _split(text, first, last)
    top = min(heading.level for heading in inner)
    borders = [first, *(heading.first for heading in inner if heading.level == top), last]
    sections: list[list[_Range]] = []
    position = 0
    for start, end in pairwise(borders):
        begin = position
        while position < len(inner) and inner[position].first < end:
            position += 1
        sections.append(_cut_section(text, inner[begin:position], start, end))
    return _join_small(sections)


def _join_small(sections: Sequence[list[_Range]]) -> list[_Range]:
    """Join sections that are too small to stand alone to a neighbour: to the next, or else to the one before."""
    joined: list[_Range] = []
    small = False  # whether the last of `joined` is all of a section, and still too small
    for section in sections:
        first, last = section[0]
        if small and last - joined[-1][0] > MAX_TOKENS:
            _join_back(joined)
            small = False
        alone = section[-1][1] - first < MIN_TOKENS
        if joined and (small or (alone and last - joined[-1][0] <= WINDOW)):
            joined[-1] = (joined[-1][0], last)
            joined += section[1:]
            small = len(section) == 1 and small and last - joined[-1][0] < MIN_TOKENS
        else:
            joined += section
            small = alone
    if small:
        _join_back(joined)
    return joined


def _join_back(joined: list[_Range]) -> None:
    if len(joined) > 1 and joined[-1][1] - joined[-2][0] <= MAX_TOKENS:
        _, last = joined.pop()
        joined[-1] = (joined[-1][0], last)


def _split(text: _Text, first: int, last: int) -> list[_Range]:
    """Cut a range without headings into pieces that fit the window, none of them small."""
    pieces: list[_Range] = []
    while last - first > WINDOW:
        cut = text.best_cut(first + MIN_TOKENS, min(first + WINDOW, last - MIN_TOKENS))
        pieces.append((first, cut))
        first = cut
    return [*pieces, (first, last)]
