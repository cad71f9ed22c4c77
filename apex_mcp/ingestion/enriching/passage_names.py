"""Which passage names what."""

import re
from collections.abc import Sequence

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.enriching.protocol import Passage
from apex_mcp.ingestion.extraction.dates import find_dates
from apex_mcp.ingestion.extraction.money import find_money

_NUMBER_GOES_ON = re.compile(r"(?<=\d[.,])(?=\d)|(?<=\d)(?=[.,]\d)")


class PassageNames:
    """The names, amounts and dates of passages, and of their document's title."""

    def __init__(self, title: str, passages: Sequence[Passage]) -> None:
        self._ordinals = [passage.ordinal for passage in passages]
        self._texts = [
            normalise_name(f"{' '.join(passage.heading_path)}\n{passage.text}") for passage in passages
        ]
        self._words = [frozenset(re.findall(r"\w+", text)) for text in self._texts]
        self._values = [_values("\n".join((*passage.heading_path, passage.text))) for passage in passages]
        self._all_values = _values(title).union(*self._values)
        self._found: dict[str, frozenset[int]] = {}

    @property
    def first(self) -> tuple[int, ...]:
        return tuple(self._ordinals[:1])

    def naming(self, *names: str) -> set[int]:
        """Ordinals of the passages that hold one of the names."""
        return {self._ordinals[position] for name in names for position in self._positions(name)}

    def has_value(self, name: str) -> bool:
        """Whether an amount of money or a date stands there, under the name that all its spellings share."""
        return normalise_name(name) in self._all_values

    def of_fact(
        self, sentence: str, subject: Sequence[str], target: Sequence[str], indices: Sequence[int]
    ) -> int:
        """The passage that states a fact: that names most of it; of equals the one that the model gave, then the first."""
        words = set(re.findall(r"\w+", normalise_name(sentence)))
        sides = [frozenset[int]().union(*map(self._positions, names)) for names in (subject, target)]

        def fit(position: int) -> tuple[int, int, int, int]:
            named = sum(position in side for side in sides)
            said = int(position in indices)
            # The model's own word weighs as much as a name, for it may have read "she" rightly.
            return named + said, named, len(words & self._words[position]), -position

        return self._ordinals[max(range(len(self._ordinals)), key=fit)]

    def _positions(self, name: str) -> frozenset[int]:
        """The positions of the passages that hold a name, spelled in any way."""
        if name not in self._found:
            spelled = normalise_name(name)
            self._found[name] = frozenset(
                position
                for position, text in enumerate(self._texts)
                if spelled in self._values[position] or _stands_in(text, spelled)
            )
        return self._found[name]


def _stands_in(text: str, name: str) -> bool:
    """Whether a text holds a name as whole words and numbers."""
    start = text.find(name) if name else -1
    while start >= 0:
        end = start + len(name)
        cut = text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()
        if not (cut or _NUMBER_GOES_ON.match(text, start) or _NUMBER_GOES_ON.match(text, end)):
            return True
        start = text.find(name, start + 1)
    return False


def _values(text: str) -> frozenset[str]:
    """The amounts and dates of a text; of a day its month too, and of certain dollars that they are dollars."""
    names = {one.name for one in find_money(text)}
    names |= {f"${name[4:]}" for name in names if name.startswith("USD ")}
    for one in find_dates(text):
        names |= {one.name, one.name[:7]}
    return frozenset(map(normalise_name, names))
