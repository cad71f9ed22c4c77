"""Capitalised words of a text and what stands between them: the one pass that all rules about names share."""

import re
from functools import cached_property

UPPER = "A-ZÀ-ÖØ-ÞŠŽČŁŚŻŹĆĐŐŰİŞĞŘŤŇĽĎŮĚŒŸŃĄĘ"

# Every quantifier is possessive or bounded, so that no text makes it slow. A pattern that begins with a character class is
# found by the engine's fast scan; what stands before is checked behind it.
_CAPITALISED = re.compile(
    rf"[{UPPER}](?<![^\W_].)(?:\.(?:[{UPPER}pr]\.){{0,4}}+[{UPPER}]?(?!\w)|[^\W_]*+(?:['’&-][^\W_]++)*+)"
)
_LOWER_CASE = re.compile(r"(?<![\w/.@-])[a-zß-öø-ÿ]{2,40}+(?![\w/@-])")

# A mark behind a name, as in lists of authors.
_FOOTNOTE = re.compile(r"((?:[^\W\d_]|['’-](?=[^\W\d_])){3,})\d{1,2}$")

_LABEL = re.compile(r"[^\n:.]{1,30}:")

_LONGEST_GAP = 14
_SHORTEST_WRAPPED_LINE = 40
_SAMPLE_CHARS = 200_000


class Words:
    """The capitalised words of `text` as parallel lists; `low` is lower case without dots.

    A possessive ending, a French article and the number of a footnote are not part of the word.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.word: list[str] = []
        self.low: list[str] = []
        self.start: list[int] = []
        self.end: list[int] = []
        for match in _CAPITALISED.finditer(text):
            word, start, end = match.group(), match.start(), match.end()
            if word.endswith(("'s", "’s")):
                word, end = word[:-2], end - 2
            if word[:2] in ("L'", "L’") and len(word) > 2:
                word, start = word[2:], start + 2
            if word[-1].isdigit() and (footnote := _FOOTNOTE.match(word)):
                end -= len(word) - footnote.end(1)
                word = footnote[1]
            self.word.append(word)
            self.low.append(word.lower().replace(".", ""))
            self.start.append(start)
            self.end.append(end)

    def __len__(self) -> int:
        return len(self.word)

    def gap(self, i: int) -> str:
        """Text between word `i` and the next; a line that was wrapped counts as a space; "" when far apart or none."""
        if i < 0 or i + 1 >= len(self.word):
            return ""
        start, end = self.end[i], self.start[i + 1]
        if end - start > _LONGEST_GAP:
            return ""
        gap = self.text[start:end]
        if "\n" not in gap:
            return gap
        # A label begins a line of its own.
        if gap.count("\n") > 1 or not self._line_is_wrapped(start) or _LABEL.match(self.text, end):
            return "\n"
        return re.sub(r" ?\n *", " ", gap)

    def _line_is_wrapped(self, position: int) -> bool:
        """Whether the line that ends after `position` is long enough to be running text, not a heading or a cell."""
        line_start = self.text.rfind("\n", max(0, position - 200), position) + 1
        return position - line_start >= _SHORTEST_WRAPPED_LINE and "|" not in self.text[line_start:position]

    def wraps_after(self, i: int) -> bool:
        """Whether a line ends between word `i` and the next."""
        return i + 1 < len(self.word) and "\n" in self.text[self.end[i] : self.start[i + 1]]

    def starts_line(self, i: int) -> bool:
        """Whether word `i` is the first of its line."""
        return self.text[max(0, self.start[i] - 1) : self.start[i]] in ("", "\n")

    def surface(self, first: int, last: int) -> str:
        """The text from word `first` to word `last`, in single spaces."""
        return " ".join(self.text[self.start[first] : self.end[last]].split())

    def joined_before(self, i: int) -> bool:
        """Whether another capitalised word stands right before word `i`."""
        return self.gap(i - 1) in (" ", "-", " & ", "/")

    def joined_after(self, i: int) -> bool:
        """Whether another capitalised word stands right after word `i`."""
        return self.gap(i) in (" ", "-", " & ", "/")

    @cached_property
    def lower_case(self) -> frozenset[str]:
        """Words that the text (a sample of a long one) also writes in lower case: they are no names here."""
        return frozenset(_LOWER_CASE.findall(self.text[:_SAMPLE_CHARS]))
