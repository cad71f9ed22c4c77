"""Which times passages can give a fact: what a model writes besides, it made up or copied from the document's own."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil, floor

from apex_mcp.ingestion.extraction.dates import months_in

# "Last May" and "in ten months" are as far from the document's own time.
_NEAR = timedelta(days=400)
_DAY = timedelta(days=1)
# By so much a day begins earlier in UTC where it begins first.
_EARLIER_DAY = timedelta(hours=14)
_YEAR = re.compile(r"(?<!\d)(?P<year>\d{3,4})(?:[-/\u2013](?P<short>\d\d))?(?!\d)")
_SHORT_YEAR = re.compile(
    r"['\u2019](\d\d)(?!\d)|\bthe (\d0)s\b|\bFY ?(\d\d)(?!\d)|(?<![\d./-])\d{1,2}[./-]\d{1,2}[./-](\d\d)(?!\d)",
    re.IGNORECASE,
)
_NUMERIC_MONTH = re.compile(
    r"[12]\d{3}[-./年] ?(\d{1,2})(?!\d)|(?<![\d./-])(\d{1,2})[/.-](\d{1,2})(?:[/.-]\d{2,4}|(?<=/\d)|(?<=/\d\d)|\.(?=\s|$))"
    r"|(\d{1,2})[月월]"
)
_DAY_WORD_YEAR = re.compile(r"(?<![\d.,])(\d{1,2})\.? (?:\w{1,3} )?[^\W\d_]+,? (\d{4})(?!\d)")
_MONTH_WORD_YEAR = re.compile(r"(?<![^\W_])([^\W\d_]+)\.? (?:of |de )?\d{4}(?!\d)")
_NUMBERS = {
    word: number
    for words in (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
        "nineteen twenty",
        "einem zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "un deux trois quatre cinq six sept huit neuf dix onze douze",
        "un dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "один два три четыре пять шесть семь восемь девять десять",
    )
    for number, word in enumerate(words.split(), 1)
}
# How many years one is, for units that are counted.
_UNITS = {
    "decade": 10, "jahrzehnt": 10, "centur": 100, "year": 1, "jahr": 1, "année": 1, "ans": 1, "an": 1, "años": 1, "año": 1,
    "год": 1, "лет": 1, "month": 1 / 12, "monat": 1 / 12, "mois": 1 / 12, "meses": 1 / 12, "week": 7 / 365, "day": 1 / 365,
}  # fmt: skip
_SPAN = re.compile(
    rf"(?<![^\W_])(?P<number>\d{{1,3}}|an?|{'|'.join(_NUMBERS)})"
    rf"(?:\)?[ -](?:(?!\d|(?:{'|'.join(_NUMBERS)})\b)\w+ )?(?P<unit>{'|'.join(_UNITS)})|年[前後后間间])",
    re.IGNORECASE,
)
_OTHER_YEAR = re.compile(
    r"\byears? (?:before|after|earlier|later)|\b(?:last|past|next|following|previous|preceding) (?:fiscal )?"
    r"(?:year|spring|summer|autumn|fall|winter)|\b(?:letzt|vorig|nächst|vergangen)\w* "
    r"(?:jahr|frühjahr|frühling|sommer|herbst|winter)"
    r"|\b(?:année|an) (?:derni|prochain)|\baño (?:pasado|próximo)|去年|明年|昨年|来年"
    # One that begins in the year before.
    r"|\bFY ?\d\d|\b(?:fiscal|financial)\b",
    re.IGNORECASE,
)
_NOW = (
    r"\b(?:today|tonight|now|immediately|hereby|currently|this (?:morning|afternoon|evening|day)|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:tues?|wed|thurs?|fri)\b|weekend|at (?:the moment|present|noon)|"
    r"(?:hours?|minutes?) ago|in \w+ (?:hours?|minutes?)\b|\d ?[ap]\.?m\b|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch|"
    r"lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|lunes|martes|miércoles|jueves|viernes|sábado|domingo|"
    r"heute|jetzt|sofort|aujourd|maintenant|hoy|ahora)"
)
# Letters of scripts whose months and days are not known by word.
_OTHER_SCRIPT = r"[\u0370-\u1dff\u3040-\ud7ff]"
_AT_PRESENT = re.compile(rf"{_NOW}|{_OTHER_SCRIPT}", re.IGNORECASE)
_RELATIVE = re.compile(
    rf"{_NOW}|{_OTHER_SCRIPT}|\b(?:yesterday|tomorrow|recently|ago|last|next|since|previous(?:ly)?|following|later|earlier|"
    r"coming|upcoming|(?:days?|weeks?|months?|years?|quarters?|half|spring|summer|autumn|fall|winter|early|mid|late|end|q[1-4]|h[12]|fortnight|fiscal|"
    r"christmas|easter|holidays|weihnachten|ostern|noël|navidad)\b|fy ?\d|"
    r"gestern|morgen|seit|letzt\w*|nächst\w*|vorig\w*|kommend\w*|tage?n?\b|woche|monat|quartal|halbjahr|jahr|frühjahr|sommer|"
    r"herbst|anfang|mitte|ende\b|hier\b|demain|depuis|derni[eè]re?|prochaine?|semaine|mois|ans\b|trimestre|année|printemps|été\b|automne|"
    r"hiver|début|fin\b|ayer|mañana|desde|pasad[oa]|próxim[oa]|semana|mes\b|año|primavera|verano|otoño|invierno)",
    re.IGNORECASE,
)


class SaidTimes:
    """The years, months and other words of time in passages.

    Args:
        texts: the passages, with their title and headings.
        own: the document's own time, against which "last May" is resolved.
    """

    def __init__(self, texts: Sequence[str], own: datetime | None) -> None:
        text = " ".join("\n".join(texts).split())
        self._own = own
        self._years = _years(text, own)
        # Not everybody writes a month with a capital.
        before_years = " ".join(word.capitalize() for word in _MONTH_WORD_YEAR.findall(text))
        self._months = months_in(f"{text} {before_years}") | {
            int(one) for found in _NUMERIC_MONTH.findall(text) for one in found if one and int(one) <= 12
        }
        self._days = {(int(day), int(year)) for day, year in _DAY_WORD_YEAR.findall(text)}
        self._numbers = {int(number) for number in re.findall(r"(?<!\d)\d{1,2}(?!\d)", text)}
        self._is_relative = _RELATIVE.search(text) is not None
        self._is_present = _AT_PRESENT.search(text) is not None

    def hold(self, at: datetime) -> bool:
        """Whether the passages say a time, or say something from which it follows; the end of a day, month or year too."""
        if self._own and at.date() == self._own.date():
            # A model that has no time likes to give this one.
            return self._is_present or (at.month in self._months and at.day in self._numbers)
        return self._say(at) or self._say(at - _DAY) or self._say(at + _EARLIER_DAY)

    def _say(self, at: datetime) -> bool:
        if at.year in self._years and (
            (at.month, at.day) in ((1, 1), (12, 31)) or (at.day, at.year) in self._days
        ):
            return True
        is_near = self._own is not None and abs(at - self._own) <= _NEAR
        return (is_near or at.year in self._years) and (at.month in self._months or self._is_relative)


def _years(text: str, own: datetime | None) -> set[int]:
    """Years that stand in a text, and those that it counts from them or from its own ("three years ago")."""
    years: set[int] = set()
    for match in _YEAR.finditer(text):
        years.add(int(match["year"]))
        if match["short"]:
            years.add(int(match["year"]) // 100 * 100 + int(match["short"]))
    for found in _SHORT_YEAR.findall(text):
        short = int("".join(found))
        years |= {1900 + short, 2000 + short}
    anchors = {*years, own.year} if own else years
    spans = {1} if _OTHER_YEAR.search(text) else set[int]()
    for match in _SPAN.finditer(text):
        spans |= _span(match["number"].lower(), (match["unit"] or "year").lower())
    return years | {anchor + sign * span for anchor in anchors for span in spans for sign in (-1, 1)}


def _span(number: str, unit: str) -> set[int]:
    """How many years that may be: 18 months are one or two."""
    years = (int(number) if number.isdecimal() else _NUMBERS.get(number, 1)) * _UNITS[unit]
    return {floor(years), ceil(years)}
