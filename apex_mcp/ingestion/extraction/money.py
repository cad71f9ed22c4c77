"""Amounts of money: a number beside a currency."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from apex_mcp.ingestion.extraction.mentions import Kind, Mention

# What is certainly one currency shares a mark; "$" and "¥" alone stay as they are written.
_MARKS = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€", "EUR": "€", "GBP": "£", "INR": "₹"}
_CODES = "USD|EUR|GBP|CHF|JPY|CAD|AUD|INR|CNY|SEK|NOK|DKK|PLN|BRL|KRW|ILS|MXN|SGD|HKD|NZD|ZAR|CZK"
_DOLLARS = {
    "US": "USD",
    "CA": "CAD",
    "C": "CAD",
    "AU": "AUD",
    "A": "AUD",
    "NZ": "NZD",
    "HK": "HKD",
    "S": "SGD",
    "R": "BRL",
}
_DOLLAR_PREFIX = re.compile(r"(?<!\w)(?:US|CA|C|AU|A|NZ|HK|S|R)$")
_POINT_GROUPS_THOUSANDS = frozenset(["€", "CHF", "BRL", "DKK", "SEK", "NOK", "PLN"])

_POWERS = {
    "thousand": 3, "k": 3, "lakh": 5, "lakhs": 5, "million": 6, "millions": 6, "millones": 6, "m": 6, "mn": 6, "mio": 6, "mm": 6,
    "crore": 7, "crores": 7, "billion": 9, "billions": 9, "bn": 9, "b": 9, "mrd": 9, "milliards": 9,
    "trillion": 12, "trillions": 12,
    "tn": 12,
}  # fmt: skip
_NUMBER = r"(?P<number>[0-9]{1,15}(?:[.,'’\u202f\xa0][0-9]{2,3}(?![0-9])){0,5}(?:[.,][0-9]{1,4})?)"
_SCALE_WORD = r"(?:thousand|lakhs?|millions?|millones|mn|crores?|billions?|bn|milliards|trillions?|tn)(?!\w)|(?:Mio|Mrd)\b\.?"
_SCALE = rf"(?:[ \xa0\n-]?(?P<word>{_SCALE_WORD})|(?P<letter>MM|[kKmMbB])(?!\w))?"

_SYMBOL = re.compile(r"[$€£¥₹₩₪]")
_CODE = re.compile(rf"(?:{_CODES})(?=[ \xa0]?[0-9])")
_BEHIND_CURRENCY = re.compile(rf"[ \xa0]?{_NUMBER}(?!\w*[0-9]){_SCALE}(?![\w%])")
_BEFORE_CURRENCY = re.compile(
    r"[0-9](?<![\w.,'’$€£¥₹-].)(?P<number>[0-9]{0,14}(?:[.,'’\u202f\xa0][0-9]{2,3}(?![0-9])){0,5}(?:[.,][0-9]{1,4})?)"
    rf"{_SCALE}(?:[ \xa0\n-]|[ \xa0]de[ \xa0]|[ \xa0]d['’])?(?P<currency>€|(?:{_CODES}|[Ee]uros?|dollars?)(?!\w))"
)
_RANGE_GOES_ON = re.compile(rf"[ \xa0]?(?:[-–—/]|to|bis|à)[ \xa0]?(?P<symbol>[$€£¥₹₩₪])?{_NUMBER}{_SCALE}")
_THOUSANDS_BEFORE = re.compile(r"(?<![\w.,])[0-9]{1,3} (?:[0-9]{3} )*$")
_RANGE_BEFORE = re.compile(r"[0-9%][ \xa0]?(?:[-–—/]|to|bis|à)[ \xa0]?$")
_IN_THOUSANDS = re.compile(r"\b[Ii][Nn] (?:thousands|millions|billions|THOUSANDS|MILLIONS)\b")
_UNITS = ((Decimal(10) ** 12, "trillion"), (Decimal(10) ** 9, "billion"), (Decimal(10) ** 6, "million"))


@dataclass(frozen=True, slots=True)
class _Amount:
    start: int
    end: int
    number: str
    power: int
    currency: str


def find_money(text: str) -> Iterator[Mention]:
    """Amounts with their currency, under a name that all spellings share: "$5.2M" is "$5.2 million"."""
    scaled_tables = _IN_THOUSANDS.search(text) is not None
    for amount in _amounts(text):
        # In a table "in thousands" the figure isn't the amount.
        if scaled_tables and not amount.power and _in_table(text, amount.start):
            continue
        value = _value(amount.number, amount.currency)
        if value is None:
            continue
        name = _name(amount.currency, value.scaleb(amount.power))
        surface = re.sub(r"^([$€£¥₹₩₪]) ", r"\1", " ".join(text[amount.start : amount.end].split()))
        yield Mention(start=amount.start, end=amount.end, kind=Kind.AMOUNT, name=name, surface=surface)


def _amounts(text: str) -> Iterator[_Amount]:
    for symbol in _SYMBOL.finditer(text):
        start, mark = symbol.start(), symbol.group()
        if mark == "$" and (prefix := _DOLLAR_PREFIX.search(text, max(0, start - 2), start)):
            start, mark = prefix.start(), _DOLLARS[prefix.group()]
        elif start and (text[start - 1].isalnum() or text[start - 1] in "$\\"):
            continue
        yield from _behind(text, start, symbol.end(), mark)
    for code in _CODE.finditer(text):
        if not code.start() or not (text[code.start() - 1].isalnum() or text[code.start() - 1] == "_"):
            yield from _behind(text, code.start(), code.end(), _MARKS.get(code.group(), code.group()))
    for match in _BEFORE_CURRENCY.finditer(text):
        if not _RANGE_BEFORE.search(text, max(0, match.start() - 6), match.start()):
            start, number = _with_thousands(text, match.start(), text[match.start() : match.end("number")])
            word = match["currency"]
            currency = _MARKS.get(word.lower(), _MARKS.get(word, word))
            yield _Amount(start, match.end(), number, _power(match), currency)


def _with_thousands(text: str, start: int, number: str) -> tuple[int, str]:
    """The start and the whole of a number whose thousands stand apart, as in French: "12 000 €"."""
    if len(number) < 3 or not number[:3].isdigit() or number[3:4].isdigit():
        return start, number
    before = _THOUSANDS_BEFORE.search(text, max(0, start - 13), start)
    return (before.start(), before.group().replace(" ", "") + number) if before else (start, number)


def _behind(text: str, start: int, currency_end: int, currency: str) -> Iterator[_Amount]:
    match = _BEHIND_CURRENCY.match(text, currency_end)
    if match is None:
        return
    # Of "$5 to 10 million" and "$5 to $10 million" the first number alone is no amount; of "$5 to $10" it is.
    range_end = _RANGE_GOES_ON.match(text, match.end())
    whole = match["word"] or match["letter"] or (range_end and range_end["symbol"] and not _power(range_end))
    if whole or not range_end:
        yield _Amount(start, match.end(), match["number"], _power(match), currency)


def _power(match: re.Match[str]) -> int:
    return _POWERS.get((match["word"] or match["letter"] or "").lower().rstrip("."), 0)


def _in_table(text: str, position: int) -> bool:
    line_start = text.rfind("\n", max(0, position - 400), position) + 1
    line_end = text.find("\n", position, position + 400)
    line = text[line_start : line_end if line_end >= 0 else position + 400]
    return (
        "|" in line or "\t" in line or "  " in line.strip() or not any(char.islower() for char in line[-30:])
    )


def _value(number: str, currency: str) -> Decimal | None:
    """The number, its marks read as the currency's countries write them; None where they could mean two things."""
    plain = re.sub(r"['’\u202f\xa0]", "", number)
    marks = [char for char in plain if char in ".,"]
    digits = plain.replace(".", "").replace(",", "")
    if not marks:
        return Decimal(digits)
    decimals = len(plain) - 1 - max(plain.rfind("."), plain.rfind(","))
    if len(marks) > 1 and len(set(marks)) == 1:
        return Decimal(digits) if decimals == 3 else None
    if len(set(marks)) == 1 and decimals == 3 and not plain.startswith("0"):
        if marks[0] == "," or currency in _POINT_GROUPS_THOUSANDS:
            return Decimal(digits)
    return Decimal(digits).scaleb(-decimals)


def _name(currency: str, value: Decimal) -> str:
    mark = currency if len(currency) == 1 else f"{currency} "
    for unit, word in _UNITS:
        if value >= unit:
            scaled = f"{value / unit:f}"
            scaled = scaled.rstrip("0").rstrip(".") if "." in scaled else scaled
            if len(scaled.partition(".")[2]) <= 3:
                return f"{mark}{scaled} {word}"
            break
    if value == int(value):
        return f"{mark}{int(value):,}"
    # At least two decimals, as prices have them: $1,120.50, but $0.001.
    return f"{mark}{value:,.2f}" if value == value.quantize(Decimal("0.01")) else f"{mark}{value:,f}"
