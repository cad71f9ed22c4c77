"""The words and numbers of a text, a quantity in one spelling: "1.5m users" says what "1,500,000 users" says."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

SMALL = frozenset(
    "a an the of and for in on at to per by no nr number s de la le der die das und von van für et du des el los y".split()
)
# Of shorter words an ending is too much of the word.
_INFLECTED = 5
_ENDING = 2
# Scripts that write no spaces between words come behind these.
_FIRST_WITHOUT_SPACES = "\u0e00"
# Longer numbers are told apart as they are written.
_LONGEST_NUMBER = 24

_POWERS = {
    "thousand": 3, "million": 6, "millions": 6, "mio": 6, "mn": 6, "billion": 9, "billions": 9, "bn": 9, "mrd": 9,
    "trillion": 12, "trillions": 12, "tn": 12, "k": 3, "m": 6, "b": 9,
}  # fmt: skip
_LETTERS = ("k", "m", "b")
_CURRENCIES = {
    "usd": "$", "dollar": "$", "dollars": "$", "eur": "€", "euro": "€", "euros": "€", "gbp": "£", "inr": "₹", "jpy": "¥",
}  # fmt: skip
_UNITS = {
    spelling: spellings.split()[0]
    for spellings in (
        "kg kilogram kilograms",
        "km kilometer kilometers kilometre kilometres",
        "m meter meters metre metres",
        "mi mile miles",
        "h hour hours",
        "min minute minutes",
        "day days",
        "week weeks",
        "month months",
        "year years",
    )
    for spelling in spellings.split()
}
_WORD_CURRENCY = "usd|eur|gbp|inr|jpy|chf|cad|aud|cny"
_TERM = re.compile(
    rf"""
    (?:(?<![^\s(\[])(?P<minus>[-\u2212]))?
    (?:(?P<currency>[$€£¥₹₩₪]|(?<![^\W\d_])(?:{_WORD_CURRENCY}))[ ]?)?
    (?P<number>(?<!\d[.,])(?:\d{{1,3}}[/\u2044]\d{{1,3}}(?![\d/\u2044])|\d{{1,3}}(?:(?:[ ]\d{{3}}){{2,4}}|[ ]\d00)(?![.,]?\d)
        |\d+(?:[.,:]\d+)*))
    (?:[ -]?(?P<power>thousand|millions?|mio|mn|billions?|bn|mrd|trillions?|tn)(?![^\W_])\.?
        |(?=(?P<letter>[kmb])(?![^\W_])))?
    (?:[ ]?(?P<percent>%|per[ ]?cent\b|pct\b)
        |[ -]?(?P<behind>€|(?:{_WORD_CURRENCY}|euros?|dollars?)(?![^\W_]))|(?:st|nd|rd|th)\b)?
    |(?P<word>[^\W\d_][^\W_]*)
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a number may mean, and the words beside it that say of what.

    Attributes:
        value: with its sign, currency or "%".
        behind: the word right behind, or its unit; "" where there is none.
        beside: the words that it may be a number of.
        is_part: whether it is nothing without its unit.
    """

    value: str
    behind: str
    beside: tuple[str, ...]
    is_part: bool = False

    def stands_as(self, other: "Reading") -> bool:
        """Whether a value's number is the other, of a text."""
        if self.value != other.value:
            return False
        return any(is_word(self.behind, one) for one in other.beside) if self.behind else not other.is_part


@dataclass(frozen=True, slots=True)
class Term:
    """A number or word, folded; `gap` is what stands between it and the one before."""

    text: str
    gap: str
    is_capital: bool
    readings: tuple[Reading, ...] = ()


def is_word(word: str, other: str) -> bool:
    """Whether a word of a name is one of a text, inflected or not."""
    if word == other:
        return True
    if not word or not other:
        return False
    if max(word) >= _FIRST_WITHOUT_SPACES:
        return word in other
    if len(word) < _INFLECTED or not word.isalpha():
        return other == f"{word}s" or (len(word) > 2 and other == word.removesuffix("s"))
    return other.startswith(word[:-_ENDING]) and len(other) <= len(word) + _ENDING


def terms_of(text: str) -> list[Term]:
    """All terms of a text, in order."""
    plain = _plain(text)
    found = list(_TERM.finditer(plain))
    words = ["" if match["number"] else _unit(match.group().casefold()) for match in found]
    gaps = [plain[found[at - 1].end() if at else 0 : match.start()] for at, match in enumerate(found)]
    return [
        Term(
            text=words[at] or match.group().casefold(),
            gap=gaps[at],
            is_capital=match.group()[0].isupper(),
            readings=_readings(match, at, words, gaps) if match["number"] else (),
        )
        for at, match in enumerate(found)
    ]


def telling(terms: Sequence[Term]) -> list[Term]:
    """The terms that a text must have to say what these say."""
    # The letter of "5m" is a part of its number.
    whole = [
        term
        for at, term in enumerate(terms)
        if not (at and terms[at - 1].readings and not term.gap and term.text in _LETTERS)
    ]
    return [term for term in whole if term.text not in SMALL] or whole


def _readings(
    match: re.Match[str], at: int, words: Sequence[str], gaps: Sequence[str]
) -> tuple[Reading, ...]:
    before = words[at - 1] if at and gaps[at] in (" ", "-") else ""
    before = "" if before in SMALL else before
    next_ = _next(at, words, gaps)
    behind, further = (words[one] if one else "" for one in (next_, _next(next_, words, gaps)))
    if behind in _UNITS:
        further, rate = "", _rate(next_, words, gaps)
        behind = f"{behind}/{rate}" if rate else behind
    letter = (match["letter"] or "").casefold()
    power = _POWERS[(match["power"] or "").casefold()] if match["power"] else 0
    usual = Reading(
        _value(match, power), behind, tuple(filter(None, (before, behind, further))), is_part=bool(letter)
    )
    if not letter:
        return (usual,)
    of = _next(next_, words, gaps)
    beside = (words[of],) if of else ()
    scaled = Reading(_value(match, _POWERS[letter]), "".join(beside), beside)
    return (scaled,) if match["currency"] or match["behind"] else (usual, scaled)


def _next(at: int, words: Sequence[str], gaps: Sequence[str]) -> int:
    """Where the word right behind stands ("7 of May": the month); 0 where there is none."""
    for place in range(at + 1, min(at + 3, len(words))):
        if gaps[place] not in ("", " ", "-"):
            break
        if words[place] not in SMALL:
            return place if words[place] else 0
        if words[place] not in ("of", "de"):
            break
    return 0


def _rate(at: int, words: Sequence[str], gaps: Sequence[str]) -> str:
    """Per what a unit is: the hour of "km/h" and "km per hour"."""
    if at + 1 < len(words) and gaps[at + 1] == "/":
        return words[at + 1]
    return words[at + 2] if at + 2 < len(words) and words[at + 1] == "per" else ""


def _value(match: re.Match[str], power: int) -> str:
    written = (match["currency"] or match["behind"] or "").casefold()
    currency, percent = _CURRENCIES.get(written, written), "%" if match["percent"] else ""
    return f"{'-' if match['minus'] else ''}{currency}{_number(match['number'], power)}{percent}"


def _number(written: str, power: int) -> str:
    """A number in one spelling: "1.500.000", "1,500,000" and "1 500 000" are one, and so are "1.80" and "1,8"."""
    number = written.replace(" ", "").removesuffix(":00")
    parts = re.split(r"[.,]", number)
    marks = re.findall(r"[.,]", number)
    if len(number) > _LONGEST_NUMBER or not all(part.isdecimal() for part in parts):
        return number
    groups = all(len(part) == 3 for part in parts[1:])
    if len(set(marks)) == 1 and groups and (len(marks) > 1 or (marks[0] == "," and parts[0] != "0")):
        whole = "".join(parts)
    elif len(marks) == 1 or (len(set(marks)) == 2 and marks.count(marks[-1]) == 1):
        whole = f"{''.join(parts[:-1])}.{parts[-1]}"
    elif marks:
        return number
    else:
        whole = number
    return f"{Decimal(whole).scaleb(power).normalize():f}"


def _unit(word: str) -> str:
    return _UNITS.get(word, word)


def _plain(text: str) -> str:
    """Without accents and quotes, in single spaces."""
    bare = re.sub(
        r"['\u2019]s\b|[\"'`\u00b4\u2018\u2019\u201c\u201d]", "", unicodedata.normalize("NFKC", text)
    )
    apart = unicodedata.normalize("NFKD", " ".join(bare.split()))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
