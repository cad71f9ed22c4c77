"""Organisations: by legal form, by what they are called (University of ..., ... Bank), and a list of well-known ones."""

import re
from bisect import bisect_left
from collections.abc import Iterator

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.gazetteer import find_listed
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.words import Words

# Legal forms by their letters without dots -> what their spellings share.
_FORMS = {
    form: form
    for form in (
        "inc corp ltd llc llp lp plc gmbh ag sa se nv bv oy oyj ab as sarl sas sl spa srl kg kgaa co pty pvt bhd kk ug ohg fc"
    ).split()
} | {"incorporated": "inc", "corporation": "corp", "limited": "ltd", "company": "co", "afc": "fc"}
# Written like other words or abbreviations: only in exactly these ways.
_EXACT = {
    "ag": ("AG",), "sa": ("S.A.", "SA"), "se": ("SE",), "ab": ("AB",), "as": ("AS", "A.S."), "sas": ("SAS", "S.A.S."),
    "sl": ("S.L.",), "spa": ("SpA", "S.p.A."), "srl": ("Srl", "S.r.l.", "S.R.L."), "kg": ("KG",), "kk": ("K.K.",),
    "co": ("Co", "Company", "CO", "COMPANY"), "lp": ("LP", "L.P."), "nv": ("NV", "N.V."), "bv": ("BV", "B.V."),
    "oy": ("Oy", "OY"), "ug": ("UG",), "ohg": ("OHG",), "fc": ("FC", "F.C.", "AFC", "A.F.C."),
    "ltd": ("Ltd", "LTD", "Limited", "LIMITED"),
}  # fmt: skip
_AFTER_COMMA = frozenset(["inc", "ltd", "llc", "llp", "lp", "corp", "plc", "sa", "gmbh", "co"])
_BEFORE_ANOTHER = frozenset(["co", "pty", "pvt", "gmbh", "ag"])
_ABBREVIATED = frozenset(["inc", "corp", "ltd", "co"])
_SMALL_FORM = re.compile(r" (?:plc|e\.V\.|s\.r\.o\.|a\.s\.|d\.o\.o\.)(?!\w)")
FORM_WORDS = frozenset(_FORMS)

_ROMANCE_UNIVERSITIES = frozenset(["universität", "université", "universidad", "università"])
_MINISTRIES = frozenset(["ministry", "department", "ministerio", "ministère"])
_INSTITUTES = frozenset(["institute", "institut"])
_HEADS = (
    _ROMANCE_UNIVERSITIES
    | _MINISTRIES
    | _INSTITUTES
    | frozenset("university bank bureau college academy universidade ministerium museum court".split())
)
_OF = re.compile(r" (?:(?:of|for)(?: the)?|de(?: la| los)?|d['’]|di|da|do|du|des|für) ?$| de l['’]$")
_TAILS = frozenset(
    (
        "university college institute bank technologies foundation laboratories laboratory airlines pharmaceuticals industries "
        "hospital universität polytechnic airways motors holdings council museum"
    ).split()
)
_TOWNS = frozenset("city town village county district borough parish research".split())
_EXTENDED_TAILS = frozenset(["institute", "college", "foundation", "laboratory"])
# Common words that begin a name as well as a heading.
_FIRST_WORDS = frozenset("national royal federal european american free technical imperial".split())
_BEFORE_HEAD = frozenset(["U.S.", "US", "UK", "U.K.", "Federal", "National", "European", "Royal"])
# Never the first word of an organisation's name, though capitalised in front of many.
_LEADING = frozenset(
    (
        "president ceo cfo cto coo chairman director directors manager founder former professor senior executive chief vice "
        "minister secretary partner client customer supplier vendor buyer seller contractor employer company parent subsidiary "
        "board shareholders subject visit join inside exclusive contact founded located dba mr mrs ms dr verein firma familie "
        "compañía empresa groupe"
    ).split()
)
# These begin a place's name, and don't end one: New South Wales.
_COMPASS = frozenset("new north south east west northern southern eastern western central".split())
_MOST_WORDS = 6
# Alone before a legal form they are the end of a longer name that a line break cut.
NAME_ENDS = frozenset(
    (
        "associates holdings holding group partners services solutions systems technologies international industries "
        "enterprises consulting ventures capital management gaming labs company companies public private limited"
    ).split()
)
# Function words that names begin with or hold: "Delta Four Consulting", "First Solar".
_NUMBERS = frozenset("one two three four five six seven eight nine ten first second third".split())
_ROMANCE_OF = frozenset([
    " de ",
    " del ",
    " de la ",
    " della ",
    " di ",
    " do ",
    " da ",
    " dos ",
    " du ",
    " des ",
])
_ORDINAL = re.compile(r"\d(?:st|nd|rd|th) $")
_BRACKET = re.compile(
    r" ?\((?:the |hereinafter |formerly )?[\"“”'‘]?([A-Z][\w&-]{1,15}(?: [A-Z][\w&-]{1,15}){0,2})[\"“”'’]?\)"
)


def find_organizations(words: Words) -> Iterator[Mention]:
    """All organisations that the rules are sure of; they may overlap."""
    yield from find_listed(words, "organizations", Kind.ORGANIZATION)
    finder = _Organizations(words)
    for i, low in enumerate(words.low):
        span = None
        if low in _FORMS:
            span = finder.by_legal_form(i)
        elif low in _HEADS:
            span = finder.by_head(i)
        if span is None and low in _TAILS:
            span = finder.by_tail(i)
        if span:
            yield _mention(words, words.start[span[0]], words.end[span[1]])
    for match in _SMALL_FORM.finditer(words.text):
        last = bisect_left(words.end, match.start())
        if last < len(words) and words.end[last] == match.start():
            first = finder.base_before(last + 1)
            if first is not None:
                yield _mention(words, words.start[first], match.end())


def base_and_form(name: str) -> tuple[str, str]:
    """A name without its legal form, and the form: "ACME Corp." -> ("ACME", "corp")."""
    parts = name.replace(",", " ").split()
    forms: list[str] = []
    while len(parts) > 1 and (form := _FORMS.get(parts[-1].lower().replace(".", ""))):
        forms.append(form)
        parts.pop()
        if len(parts) > 1 and parts[-1] == "&":
            parts.pop()
    return " ".join(parts), " ".join(reversed(forms))


class _Organizations:
    """Spans of words, as (first, last)."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._stop = lexicon.lowered("function_words")
        self._common = lexicon.lowered("common_words")
        self._before_form = self._stop - _NUMBERS
        self._ends_head = self._stop | _HEADS
        self._ends_name = self._ends_head | _TAILS
        self._ends_tail = self._stop | FORM_WORDS

    def by_legal_form(self, i: int) -> tuple[int, int] | None:
        words, form = self._words, _FORMS[self._words.low[i]]
        exact = _EXACT.get(form)
        gap = words.gap(i - 1)
        if (exact and words.word[i] not in exact) or gap not in (" ", ", ", " & "):
            return None
        if (gap == ", " and form not in _AFTER_COMMA) or (gap == " & " and form not in ("co", "kg")):
            return None
        first = self.base_before(i)
        if first is None:
            return None
        base = words.low[first:i]
        # "Holding Company", "Time Limited" and "Nevada Corporation" name no one; a form that is no word does.
        a_word = words.low[i] in ("company", "limited", "corporation", "co") or (
            exact and form not in ("ltd", "lp")
        )
        if a_word and (
            all(part in self._common or part in _NUMBERS for part in base)
            or words.surface(first, i - 1) in lexicon.entries("places")
        ):
            return None
        if a_word and len(base) > 3 and words.surface(first, i).isupper():
            return None
        last = i
        for _ in range(2):
            another = words.low[last] in _BEFORE_ANOTHER and words.gap(last).strip(" .") in ("", ",", "&")
            if another and words.gap(last) and words.low[last + 1] in _FORMS:
                last += 1
        return first, last

    def base_before(self, i: int) -> int | None:
        """First word of the name that ends right before word `i`, a legal form."""
        words, first = self._words, i - 1
        if words.low[first] in self._before_form:
            return None
        while i - first <= _MOST_WORDS and self._goes_on_before(first):
            first -= 1
        if i - first > _MOST_WORDS:
            return None
        first = self._without_leading(first, i, self._before_form)
        base = words.low[first:i]
        if not base or all(part in FORM_WORDS for part in base) or self._cut_off(first):
            return None
        if len(base) == 1 and (base[0] in NAME_ENDS or len(base[0]) == 1):
            return None
        return first

    def by_head(self, i: int) -> tuple[int, int] | None:
        """University of ..., Ministry of ... and ..., Institute for the Study of ..."""
        words, low = self._words, self._words.low[i]
        if not (_OF.match(words.gap(i)) or (low in _ROMANCE_UNIVERSITIES and words.gap(i) == " ")):
            return None
        last = i + 1
        if words.low[last] in self._ends_head or len(words.low[last]) < 2:
            return None
        most = 4 if low in _MINISTRIES | _INSTITUTES else 3
        while last - i < most and self._goes_on_after(last, low):
            last += 1
        if words.gap(last) == " " and words.low[last + 1] not in self._ends_name:
            return None
        if low in ("court", "bank", "bureau") and words.low[last] in self._common:
            return None
        first = i
        country = words.word[i - 1] in _BEFORE_HEAD
        if words.gap(i - 1) == " " and (country or words.low[i - 1] not in self._stop):
            if country or (low == "university" and words.low[i - 1] not in _LEADING):
                # "U.S. Department of ...", "Technical University of ...".
                first -= 1
            elif low in _TAILS:
                # "Massachusetts Institute of Technology" is for the rule of tails.
                return None
        return (
            (first, last)
            if first == i or words.gap(first - 1) != " " or words.low[first - 1] in self._stop
            else None
        )

    def by_tail(self, i: int) -> tuple[int, int] | None:
        """... University, ... Bank, ... Institute of Technology."""
        words, first = self._words, i
        while i - first < 4 and words.gap(first - 1) in (" ", "-") and words.low[first - 1] not in self._stop:
            first -= 1
        first = self._without_leading(first, i, self._stop)
        base = words.low[first:i]
        if not base or all(part in self._common for part in base):
            return None
        if words.low[i] == "council" and base[-1] not in _TOWNS:
            return None
        if base[0] in self._common and base[0] not in _FIRST_WORDS:
            return None
        if self._cut_off(first) or (
            words.gap(first - 1) in (" ", "-")
            and words.low[first - 1] not in self._stop
            and words.low[first - 1] not in _LEADING
        ):
            return None
        if any(word.isupper() and len(word) > 5 for word in words.word[first:i]):
            return None
        if (
            words.low[i] in _EXTENDED_TAILS
            and words.gap(i) in (" of ", " for ")
            and words.low[i + 1] not in self._stop
        ):
            two = words.gap(i + 1) == " " and words.low[i + 2] not in self._ends_head
            return first, i + 2 if two else i + 1
        # Of "Harvard University Press" or "Deutsche Bank Park" the longer name is another thing.
        if words.gap(i) in (" ", " of ") and words.low[i + 1] not in self._ends_tail:
            return None
        return first, i

    def _goes_on_before(self, first: int) -> bool:
        words, gap = self._words, self._words.gap(first - 1)
        if gap in (" ", " & "):
            return words.low[first - 1] not in self._before_form
        # "Aceros del Norte S.A.", but not "Director de ACME S.A.".
        if (
            gap in _ROMANCE_OF
            and words.low[first - 1] not in self._common
            and words.low[first - 1] not in _LEADING
        ):
            return words.low[first - 1] not in self._before_form
        return False

    def _goes_on_after(self, last: int, head: str) -> bool:
        words, following = self._words, last + 1
        if following >= len(words) or words.low[following] in self._ends_name:
            return False
        gap = words.gap(last)
        if gap != " ":
            return (gap in (" and ", " & ") and head in _MINISTRIES) or (
                gap == " of " and head in _INSTITUTES
            )
        return head in _MINISTRIES or words.low[last] in _COMPASS or words.low[following] not in self._common

    def _without_leading(self, first: int, end: int, stop: frozenset[str]) -> int:
        words = self._words
        while first < end and (words.low[first] in _LEADING or words.low[first] in stop):
            first += 1
        return first

    def _cut_off(self, first: int) -> bool:
        """Whether the name seems to begin before its first capitalised word ("21st Century", "x & Y", "e-Bay")."""
        start = self._words.start[first]
        before = self._words.text[max(0, start - 5) : start]
        return before[-1:] in tuple("-/@_.\\") or before[-2:] == "& " or _ORDINAL.search(before) is not None


def _mention(words: Words, start: int, end: int) -> Mention:
    text = words.text
    last = text[max(0, end - 5) : end].split()[-1].lower()
    if text[end : end + 1] == "." and last in _ABBREVIATED:
        # The dot is the abbreviation's own, also where it ends the sentence as well.
        end += 1
    surface = " ".join(text[start:end].split())
    bracket = _BRACKET.match(text, end)
    extra = (bracket[1],) if bracket and _is_short_form(bracket[1], surface) else ()
    return Mention(
        start=start, end=end, kind=Kind.ORGANIZATION, name=surface, surface=surface, extra_names=extra
    )


def _is_short_form(short: str, name: str) -> bool:
    """Whether `short` is made of the name: of its first letters or of its words; never a word such as "Company"."""
    if any(part.lower() in lexicon.lowered("common_words") for part in short.split()):
        return False
    parts = [part for part in re.split(r"[\s,.&-]+", name) if part]
    letters = re.sub(r"\W", "", short).lower()
    initials = "".join(part[0] for part in parts).lower()
    capitals = "".join(char for part in parts for char in part if char.isupper()).lower()
    if len(letters) >= 2 and (initials.startswith(letters) or capitals.startswith(letters)):
        return True
    lowered = {part.lower() for part in parts}
    return all(part.lower() in lowered for part in short.split())
