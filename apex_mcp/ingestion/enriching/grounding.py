"""Whether a text holds a name: what a model names that stands nowhere in what it read is not the text's."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from apex_mcp.ids import core_name, normalise_name
from apex_mcp.ingestion.enriching.names import PERSON, person_words

_WORD = re.compile(r"[^\W_]+")
_NUMBER_OR_WORD = re.compile(r"(?P<number>(?<!\d[.,])\d+(?:[.,]\d+)*)|[^\W\d_][^\W_]*")
_SMALL = frozenset(
    "a an the of and for in on at to by s de la le der die das und von für et du des el los y".split()
)
# Of shorter words an ending is too much of the word.
_INFLECTED = 5
_ENDING = 2
_QUANTITIES = (
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=\d):00(?!\d)"), ""),
    (re.compile(r"(?<=\d) ?%|\bper cent\b|\bpct\b"), " percent"),
    (re.compile(r"(?<=\d)(?:st|nd|rd|th)\b"), ""),
    (re.compile(r"(?<=\d) (?:of|de)\b"), ""),
    (re.compile(r"(?<=\d)(?=[^\W\d_])"), " "),
)
_UNITS = {
    spelling: spellings.split()[0]
    for spellings in (
        "kilogram kilograms kg",
        "kilometer kilometers kilometre kilometres km",
        "meter meters metre metres m",
        "mile miles mi",
        "hour hours h",
        "minute minutes min",
    )
    for spelling in spellings.split()
}
# A value's words stand beside each other, but for some small ones.
_MOST_BETWEEN = 3
# Scripts that write no spaces between words come behind these.
_FIRST_WITHOUT_SPACES = "\u0e00"


@dataclass(frozen=True, slots=True)
class _Term:
    """A number or word, with the words right before and right behind it; "" where something else stands there."""

    text: str
    is_number: bool
    before: str
    behind: str

    def stands_as(self, other: "_Term") -> bool:
        """Whether a value's term is the other, of a text."""
        if not self.is_number:
            return _is(self.text, other.text)
        beside = (other.before, other.behind)
        return self.text == other.text and (not self.behind or any(_is(self.behind, one) for one in beside))


class Grounding:
    """The words of passages, each with the title of their document.

    Args:
        texts: the passages.
        above: the document's title.
        known_names: names that earlier passages gave: these may be cut to their last word.
    """

    def __init__(self, texts: Sequence[str], *, above: str = "", known_names: Sequence[str] = ()) -> None:
        self._texts = [_folded(f"{above}\n{text}") for text in texts]
        self._words = [frozenset(_WORD.findall(text)) for text in self._texts]
        self._known = frozenset(map(normalise_name, known_names))

    def holds(self, name: str, type_: str) -> bool:
        """Whether one passage has all words of the name, in any order and inflected; of a person's, the last one."""
        words = _telling_words(core_name(name))
        if type_ == PERSON and len(person := person_words(name)) > 1:
            words = _WORD.findall(_folded(person[-1])) or words
        elif normalise_name(name) in self._known:
            words = words[-1:]
        return bool(words) and any(
            all(self._has(place, word) for word in words) for place in range(len(self._texts))
        )

    def says(self, value: str) -> bool:
        """Whether one passage has all words of a value near each other, in any order and inflected.

        Numbers stand there whole, each beside the word that the value has right behind it ("3 May", "May 3").
        """
        terms = _terms(_folded(value))
        terms = [term for term in terms if term.text not in _SMALL] or terms
        return bool(terms) and any(
            all(any(term.stands_as(other) for other in window) for term in terms)
            for text in self._terms
            for window in _windows(text, len(terms) + _MOST_BETWEEN)
        )

    @cached_property
    def _terms(self) -> list[list[_Term]]:
        return [_terms(text) for text in self._texts]

    def _has(self, place: int, word: str) -> bool:
        words = self._words[place]
        return word in words or any(_is(word, other) for other in words)


def _is(word: str, other: str) -> bool:
    """Whether a word of a name is one of a text, inflected or not."""
    if word == other:
        return True
    if max(word) >= _FIRST_WITHOUT_SPACES:
        return word in other
    if len(word) < _INFLECTED or not word.isalpha():
        return other == f"{word}s" or (len(word) > 2 and other == word.removesuffix("s"))
    return other.startswith(word[:-_ENDING]) and len(other) <= len(word) + _ENDING


def _telling_words(name: str) -> list[str]:
    words = _WORD.findall(_folded(name))
    return [word for word in words if word not in _SMALL] or words


def _terms(folded: str) -> list[_Term]:
    """Quantities in one spelling: "20%", "2,000", "3:00 PM"."""
    for pattern, spelling in _QUANTITIES:
        folded = pattern.sub(spelling, folded)
    found = list(_NUMBER_OR_WORD.finditer(folded))
    texts = [_UNITS.get(match.group(), match.group()) for match in found]
    beside = [folded[one.end() : other.start()] in (" ", "-") for one, other in pairwise(found)]
    words = [
        "" if match["number"] or text in _SMALL else text for match, text in zip(found, texts, strict=True)
    ]
    return [
        _Term(
            text=text,
            is_number=bool(found[at]["number"]),
            before=words[at - 1] if at and beside[at - 1] else "",
            behind=words[at + 1] if at < len(beside) and beside[at] else "",
        )
        for at, text in enumerate(texts)
    ]


def _windows(terms: list[_Term], width: int) -> Iterator[list[_Term]]:
    """All runs of `width` terms, or the whole where it is shorter."""
    for start in range(max(1, len(terms) - width + 1)):
        yield terms[start : start + width]


def _folded(text: str) -> str:
    """In small letters, without accents and quotes."""
    apart = unicodedata.normalize("NFKD", normalise_name(re.sub(r"['\u2019]s\b", "", text)))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
