"""Whether a text holds a name: what a model names that stands nowhere in what it read is not the text's."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

from apex_mcp.ids import core_name, normalise_name
from apex_mcp.ingestion.enriching.names import PERSON, person_words
from apex_mcp.ingestion.enriching.terms import SMALL, Term, is_word, telling, terms_of

# The words of a value or of a description stand beside each other, but for some.
_MOST_BETWEEN = 3
_MOST_COORDINATED = 6
_AND = frozenset("and or und oder et ou y o e".split())
# "First name: Jane", and in the next line "Last name: Doe"
_LABELS = frozenset(
    "first last given family name surname vorname nachname nom prenom nombre apellido apellidos".split()
)


class Grounding:
    """The words of passages, each with the title of their document and its headings.

    Args:
        texts: each passage, and what stands above it.
        known_names: names that earlier passages gave: these may be cut to their last word.
    """

    def __init__(self, texts: Sequence[tuple[str, str]], *, known_names: Sequence[str] = ()) -> None:
        self._given = texts
        self._known = frozenset(map(normalise_name, known_names))

    def holds(self, name: str, type_: str) -> bool:
        """Whether one passage names it, in any order and inflected; what stands above may give a part of the name.

        Of a person the last name is enough, but for a given name that the passage has elsewhere only.
        """
        words = telling(terms_of(core_name(name)))
        if normalise_name(name) in self._known:
            return any(text.places_of(word) for word in words[-1:] for pair in self._texts for text in pair)
        if type_ == PERSON and len(person := person_words(name)) > 1:
            # A first word such as "A" or "De" tells something here.
            return self._holds_person(terms_of(person[0]), telling(terms_of(person[-1])))
        written = telling(terms_of(name))
        most = 0 if all(term.is_capital or term.readings for term in written) else _MOST_BETWEEN
        return any(
            above.has_run(spelled, most) or body.has_run(spelled, most, above.runs(spelled, most))
            for spelled in (words, written)
            for above, body in self._texts
        )

    def says(self, value: str) -> bool:
        """Whether one passage has all words of a value near each other, in any order and inflected.

        Numbers stand there whole, each beside the word that the value has right behind it ("3 May", "May 3").
        """
        terms = telling(terms_of(value))
        return bool(terms) and any(text.has_near(terms) for pair in self._texts for text in pair)

    def _holds_person(self, given: Sequence[Term], last: Sequence[Term]) -> bool:
        for above, body in self._texts:
            for text in (above, body):
                if not all(text.places_of(term) for term in last):
                    continue
                if text.is_beside_no_other(given[:1]) or text.has_run([*given, *last], 0, is_person=True):
                    return True
        return False

    @cached_property
    def _texts(self) -> list[tuple["_Text", "_Text"]]:
        above = {above: _Text(above) for above, _ in self._given}
        return [(above[over], _Text(text)) for over, text in self._given]


class _Text:
    def __init__(self, text: str) -> None:
        self._terms = terms_of(text)
        self._words: dict[str, list[int]] = defaultdict(list)
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for at, term in enumerate(self._terms):
            if not term.readings:
                self._words[term.text].append(at)
            for reading in term.readings:
                self._numbers[reading.value].append(at)
        self._found: dict[Term, list[int]] = {}

    def places_of(self, term: Term) -> list[int]:
        """Where a term of a name or a value stands."""
        if term not in self._found:
            self._found[term] = self._numbered(term) if term.readings else self._worded(term.text)
        return self._found[term]

    def is_beside_no_other(self, given: Sequence[Term]) -> bool:
        """Whether a given name stands nowhere with a last name: "Jane, our CFO", not "Jane Smith"."""
        return not any(self._has_last_name(at) for term in given for at in self.places_of(term))

    def has_near(self, terms: Sequence[Term]) -> bool:
        """Whether all terms stand within a few words more than they are."""
        marks = self._marks(terms)
        if len({which for _, which in marks}) < len(terms):
            return False
        last: dict[int, int] = {}
        for at, which in marks:
            last[which] = at
            if len(last) == len(terms) and at - min(last.values()) < len(terms) + _MOST_BETWEEN:
                return True
        return False

    def has_run(
        self,
        terms: Sequence[Term],
        most: int,
        elsewhere: Sequence[frozenset[int]] = (),
        *,
        is_person: bool = False,
    ) -> bool:
        """Whether all terms stand together, but for those that one run elsewhere has."""
        missing = [frozenset(range(len(terms))) - run for run in (frozenset[int](), *elsewhere)]
        return bool(terms) and any(
            one <= run for run in self.runs(terms, most, is_person=is_person) for one in missing
        )

    def runs(self, terms: Sequence[Term], most: int, *, is_person: bool = False) -> list[frozenset[int]]:
        """Which terms stand together, for each place where some do."""
        return list(dict.fromkeys(self._runs(terms, most, is_person)))

    def _runs(self, terms: Sequence[Term], most: int, is_person: bool) -> Iterator[frozenset[int]]:
        run: set[int] = set()
        before = None
        for mark in self._marks(terms):
            if before and not self._joined(before, mark, terms, most, is_person):
                yield frozenset(run)
                run = set()
            run.add(mark[1])
            before = mark
        if run:
            yield frozenset(run)

    def _joined(
        self,
        first: tuple[int, int],
        second: tuple[int, int],
        terms: Sequence[Term],
        most: int,
        is_person: bool,
    ) -> bool:
        """Whether two words of a name stand in the text as words of one name."""
        (start, one), (end, other) = first, second
        between = self._terms[start + 1 : min(end, start + 2 + _MOST_COORDINATED)]
        if len(between) > _MOST_COORDINATED:
            return False
        passed_over = _LABELS if is_person else _AND
        foreign = [
            term
            for term in between
            if term.text not in SMALL and term.text not in _AND and term.text not in passed_over
        ]
        if most and not (terms[one].readings or terms[other].readings):
            return len(foreign) <= most
        gaps = [term.gap for term in self._terms[start + 1 : end + 1]]
        if any(self._ends_sentence(at) for at in range(start + 1, end + 1)):
            return False
        # "Bob Lee. Jane left." has no name in another order.
        if one > other and gaps[-1].startswith("."):
            return False
        has_and = any(term.text in _AND for term in between) or any(gap.strip() in ("&", "/") for gap in gaps)
        if not has_and and not any("," in gap for gap in gaps):
            # "Johann Sebastian Bach" is a Johann Bach.
            names = [term for term in foreign if len(term.text) > 1]
            return not foreign or (is_person and len(names) <= 1 and all(term.is_capital for term in foreign))
        if one > other:
            return is_person and not between
        if not foreign:
            return True
        # "Ada and Jonas Lindqvist", "Contracts 117 and 118"
        behind_first = between[0].text in _AND or gaps[0].strip() in (",", "&", "/")
        before_second = between[-1].text in _AND or gaps[-1].strip() in ("&", "/")
        return has_and and (behind_first or (before_second and bool(terms[other].readings)))

    def _has_last_name(self, at: int) -> bool:
        behind = self._terms[at + 1 : at + 2]
        if behind and behind[0].is_capital and behind[0].gap.strip() in ("", "-", ".", "|"):
            return True
        return at > 0 and self._terms[at].gap == ", " and self._terms[at - 1].is_capital

    def _ends_sentence(self, at: int) -> bool:
        """Whether a sentence ends before a term: a dot behind three letters may belong to an abbreviation."""
        term, before = self._terms[at], self._terms[at - 1]
        return term.is_capital and term.gap[:1] in tuple(".!?;") and len(before.text) > 3

    def _marks(self, terms: Sequence[Term]) -> list[tuple[int, int]]:
        """Where the terms stand and which they are, in order."""
        return sorted((at, which) for which, term in enumerate(terms) for at in self.places_of(term))

    def _worded(self, word: str) -> list[int]:
        return [at for other, places in self._words.items() if is_word(word, other) for at in places]

    def _numbered(self, term: Term) -> list[int]:
        return [
            at
            for reading in term.readings
            for at in self._numbers.get(reading.value, ())
            if any(reading.stands_as(other) for other in self._terms[at].readings)
        ]
