"""Dates with a year, in the ways that documents write them. Each is anchored at its year, so the pass is linear."""

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from apex_mcp.ingestion.extraction.mentions import Kind, Mention

_MONTH_NAMES = (
    "January Jan Januar Jänner enero janvier gennaio janeiro januari",
    "February Feb Februar febrero février febbraio fevereiro februari",
    "March Mar März marzo mars março maart",
    "April Apr abril avril aprile",
    "May Mai mayo mai maggio maio mei",
    "June Jun Juni junio juin giugno junho",
    "July Jul Juli julio juillet luglio julho",
    "August Aug agosto août augustus",
    "September Sep Sept septiembre septembre settembre setembro",
    "October Oct Oktober octubre octobre ottobre outubro oktober",
    "November Nov noviembre novembre",
    "December Dec Dezember diciembre décembre dicembre dezembro december",
)
_MONTHS = {
    spelling: number
    for number, names in enumerate(_MONTH_NAMES, 1)
    for name in names.split()
    for spelling in ({name, name.upper()} if name[0].isupper() else {name})
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_SPACE = r"(?:[ \t\xa0]{1,2}\n?[ \xa0]{0,2}|\n[ \xa0]{0,2})"

_YEAR = re.compile(r"[12](?<!\d.)\d{3}(?!\d)(?!,\d{3})(?!\.\d)")
_BEFORE_YEAR = re.compile(
    rf"(?:(?<![\d.,:/-])(?P<day_first>\d{{1,2}})(?:st|nd|rd|th|er|º|\.)?{_SPACE}(?:(?:of|de){_SPACE})?|(?<![^\W_]))"
    rf"(?P<month>{_MONTH})(?:(?:\.?{_SPACE}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?)?\.?,?{_SPACE}?|{_SPACE}(?:of|de){_SPACE})$"
)
_NUMERIC_BEFORE = re.compile(r"(?<![\d.,:/v-])(?P<first>\d{1,2})(?P<mark>[./])(?P<second>\d{1,2})(?P=mark)$")
_PERIOD_BEFORE = re.compile(
    rf"(?<![^\W_])(?:Q(?P<q>[1-4])(?:{_SPACE}(?:of{_SPACE})?|[/-])?(?:FY)?"
    rf"|(?P<word>[Ff]irst|[Ss]econd|[Tt]hird|[Ff]ourth)[ -]quarter"
    rf"(?:{_SPACE}of)?{_SPACE}|(?P<fiscal>FY ?|[Ff]iscal (?:[Yy]ear )?|[Ff]inancial [Yy]ear ))$"
)
_AFTER_YEAR = re.compile(
    r"-(?P<m>\d\d)-(?P<d>\d\d)(?![\d-])|/(?P<m2>\d\d)/(?P<d2>\d\d)(?![\d/])|[-/ ]Q(?P<q>[1-4])(?!\w)"
    r"|[年년] ?(?P<m3>\d{1,2})[月월](?: ?(?P<d3>\d{1,2})[日일])?"
)
_ORDINAL = r"(?:st|nd|rd|th|er|º|\.)?"
# Neither "May 7, 2019", "7 de mayo de 2019" nor "May 1,500".
_NO_YEAR = r"(?![\w'’]|[.,]?\d|,? ['’]?\d|[.,]?(?: (?:of|del?))? ['’]?\d{4}(?!\d))"
# "April Jones" and "August Strindberg" are no months, nor is "last May" certainly this year's.
_IN_MONTH = (
    r"(?:\b(?i:in|during|im|en|au mois de|late|early|mid|end of)[ -]"
    r"|\b(?i:of|by|since|until|till|from|through|seit|bis|ab|depuis|desde|hasta) (?=\w++(?! [A-Z][a-z])))"
)
_OTHER = r"(?:last|next|previous|following|prior|preceding|letzt\w*|nächst\w*|vorig\w*|derni[eè]re?|prochaine?|pasado|próximo)"
_OTHER_YEAR = re.compile(
    rf"\b{_OTHER} (?:fiscal )?(?:year|jahr\w*)|\b(?:year|année|año) (?:before|after|earlier|later|ago|{_OTHER})",
    re.IGNORECASE,
)
_SENTENCE_ENDS = re.compile(r"(?:(?<=[^\W\d_]{2}[.!?])|(?<=\d{4}[.!?]))\s+(?=[A-Z])|\n\s*\n")
_QUARTER_WORDS = {"first": 1, "second": 2, "third": 3, "fourth": 4}
_WINDOW = 34


def find_dates(text: str) -> Iterator[Mention]:
    """Dates, months, quarters and fiscal years; a bare year is none."""
    undecided: list[tuple[int, int, int, int, int]] = []
    day_first = month_first = False
    taken = 0
    for match in _YEAR.finditer(text):
        start, end, year = match.start(), match.end(), int(match.group())
        if start < taken or year > 2199:
            continue
        mention = (
            _year_first(text, match) or _written(text, start, end, year) or _period(text, start, end, year)
        )
        if mention:
            taken = mention.end
            yield mention
            continue
        numeric = _NUMERIC_BEFORE.search(text, max(0, start - 7), start)
        if not numeric or (text[end : end + 1].isalnum() or text[end : end + 1] in ("/", "-")):
            continue
        first, second = int(numeric["first"]), int(numeric["second"])
        if numeric["mark"] == "." or (first > 12 >= second):
            day_first |= numeric["mark"] == "/"
            mention = _day(text, numeric.start(), end, year, second, first)
        elif second > 12 >= first or first == second:
            month_first |= first != second
            mention = _day(text, numeric.start(), end, year, first, second)
        else:
            undecided.append((numeric.start(), end, year, first, second))
        if mention:
            yield mention
    # 03/04/2024 is readable only where the other dates of the document agree on an order.
    if day_first != month_first:
        for start, end, year, first, second in undecided:
            month, day = (second, first) if day_first else (first, second)
            if mention := _day(text, start, end, year, month, day):
                yield mention


def says_without_year(text: str, name: str, own_year: int | None) -> bool:
    """Whether a text has a date, named as `find_dates` does, without its year ("May 7", "7. Mai").

    The year is the one that its sentence names elsewhere ("from 3 May to 4 June 2023"), else the document's own.
    """
    year, part, day = int(name[:4]), *name[5:].partition("-")[::2]
    dated = re.compile(rf"(?<!\w)(?<!\d[.,])(?P<said>{_spelled(part, day)}){_NO_YEAR}(?! {_OTHER}\b)")
    other = re.compile(rf"\b{_OTHER} $", re.IGNORECASE)
    for sentence in _SENTENCE_ENDS.split(text):
        plain = " ".join(sentence.split())
        if not any(
            not other.search(plain[max(0, said.start() - 12) : said.start()])
            for said in dated.finditer(plain)
        ):
            continue
        years = {int(one.group()) for one in _YEAR.finditer(plain) if one.group() < "2200"}
        if years <= {year} and (years or year == own_year) and not _OTHER_YEAR.search(plain):
            return True
    return False


def months_in(text: str) -> set[int]:
    """The months that a text names by word."""
    return {_MONTHS[month] for month in re.findall(rf"(?<![^\W\d_])(?:{_MONTH})(?![^\W_])", text)}


def _spelled(part: str, day: str) -> str:
    """How a day, a month or a quarter is written without its year."""
    if part.startswith("Q"):
        return part
    months = [month for month, number in _MONTHS.items() if number == int(part)]
    if day:
        month = "|".join(months)
        return rf"(?:{month})\.? {int(day)}{_ORDINAL}|{int(day)}{_ORDINAL}(?: (?:of|de))? (?:{month})"
    month = "|".join(month for month in months if month[0].isupper())
    return (
        rf"{_IN_MONTH}(?:{month})|(?:{month})\.? \d{{1,2}}{_ORDINAL}|\d{{1,2}}{_ORDINAL} (?:of )?(?:{month})"
    )


def _year_first(text: str, match: re.Match[str]) -> Mention | None:
    start, year = match.start(), int(match.group())
    after = _AFTER_YEAR.match(text, match.end())
    if not after or (start and text[start - 1] in "-/.\\_="):
        return None
    if after["q"]:
        return _quarter(text, start, after.end(), year, int(after["q"]))
    month, day = after["m"] or after["m2"] or after["m3"], after["d"] or after["d2"] or after["d3"]
    if day:
        return _day(text, start, after.end(), year, int(month), int(day))
    return _month(text, start, after.end(), year, int(month))


def _written(text: str, start: int, end: int, year: int) -> Mention | None:
    before = _BEFORE_YEAR.search(text, max(0, start - _WINDOW), start)
    if not before:
        return None
    month, day = _MONTHS[before["month"]], before["day"] or before["day_first"]
    if day:
        at = before.start() if before["day_first"] and not before["day"] else before.start("month")
        return _day(text, at, end, year, month, int(day))
    # "mars 2024" may be anything; a capital makes it a month.
    return _month(text, before.start(), end, year, month) if before["month"][0].isupper() else None


def _period(text: str, start: int, end: int, year: int) -> Mention | None:
    before = _PERIOD_BEFORE.search(text, max(0, start - _WINDOW), start)
    if not before:
        return None
    if before["fiscal"]:
        # When a fiscal year begins differs, so it gives no time.
        return _mention(text, before.start(), end, f"FY{year}", None, None)
    quarter = int(before["q"]) if before["q"] else _QUARTER_WORDS[before["word"].lower()]
    return _quarter(text, before.start(), end, year, quarter)


def _day(text: str, start: int, end: int, year: int, month: int, day: int) -> Mention | None:
    try:
        at = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
    return _mention(text, start, end, date(year, month, day).isoformat(), at, at + timedelta(days=1))


def _month(text: str, start: int, end: int, year: int, month: int) -> Mention | None:
    if not 1 <= month <= 12:
        return None
    at = datetime(year, month, 1, tzinfo=UTC)
    return _mention(
        text, start, end, f"{year}-{month:02}", at, at + timedelta(days=monthrange(year, month)[1])
    )


def _quarter(text: str, start: int, end: int, year: int, quarter: int) -> Mention:
    at = datetime(year, quarter * 3 - 2, 1, tzinfo=UTC)
    until = datetime(year + quarter // 4, quarter * 3 % 12 + 1, 1, tzinfo=UTC)
    return _mention(text, start, end, f"{year}-Q{quarter}", at, until)


def _mention(
    text: str, start: int, end: int, name: str, since: datetime | None, until: datetime | None
) -> Mention:
    surface = " ".join(text[start:end].split())
    return Mention(start=start, end=end, kind=Kind.DATE, name=name, surface=surface, since=since, until=until)
