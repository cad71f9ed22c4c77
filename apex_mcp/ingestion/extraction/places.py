"""Places, only where certain: a list of countries, regions and cities, and United States addresses."""

import re
from collections.abc import Iterator
from itertools import pairwise

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.gazetteer import find_listed
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.words import UPPER, Words

_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI"
    "|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
_STATE_AND_CODE = re.compile(rf",[ \xa0](?:{_STATES})[ \xa0]{{1,2}}\d{{5}}(?!\d)")
_CITY = re.compile(rf"(?:[{UPPER}][a-zß-ÿ]{{1,20}}\.?[ \xa0]){{0,2}}[{UPPER}][a-zß-ÿ]{{1,20}}$")

# A listed name is a place where one of its mentions stands as places do: the name may be a language's, a ship's or a word's.
_BEFORE_PLACE = re.compile(
    r"(?:(?<!\w)(?:[Ii]n|[Aa]t|[Ff]rom|[Tt]o|of|[Nn]ear|[Ii]nto|[Aa]cross|[Tt]hrough|[Tt]hroughout|[Oo]utside|[Bb]etween"
    r"|[Aa]round|[Aa]gainst|[Tt]owards?|[Ll]eft|[Vv]isit(?:ed|s)?|[Rr]eached|[Ii]nvaded?|[Ee]vacuated?|[Ee]n|à|au|aux|[Nn]ach"
    r"|[Aa]us|bei|em|na|nel|via|a)(?: the)?|[A-Z]\w+,)\s$"
)
_BEHIND_PLACE = re.compile(
    r",\s[A-Z]\w|\s(?:offices?|headquarters|plant|airport|area|region)\b"
    r"|\s(?:has|have|had|is|was|will|would|can|could|must|seeks?|sought|said|says|agreed|announced)\b"
)
_JOINS_PLACES = re.compile(r"(?:\s(?:and|or|et|und|e|y)|,)\s(?:the\s)?")
# In quotes, or its football club and the like: another thing of that name.
_ANOTHER_THING = re.compile(
    r"[\"”]|\s(?:Wednesday|fans?|supporters?|managers?|strikers?|midfielders?|defenders?|goalkeepers?|first team|squad"
    r"|side|reach|beat|won|drew|interbank|battalion|regiment|brigade|style)\b"
)


def find_places(words: Words) -> Iterator[Mention]:
    """Places of the list, and the city of an address ("Doylestown, PA 18901")."""
    text = words.text
    listed = [
        mention for mention in find_listed(words, "places", Kind.PLACE) if not _is_another(text, mention)
    ]
    certain = {mention.name for mention in listed if _stands_as_place(text, mention)}
    for first, second in pairwise(listed):
        if _JOINS_PLACES.fullmatch(text, first.end, second.start):
            certain.update((first.name, second.name))
    yield from (mention for mention in listed if mention.name in certain)
    yield from _in_addresses(text)


def _is_another(text: str, mention: Mention) -> bool:
    return _ANOTHER_THING.match(text, mention.end) is not None


def _stands_as_place(text: str, mention: Mention) -> bool:
    before = _BEFORE_PLACE.search(text, max(0, mention.start - 24), mention.start)
    return before is not None or _BEHIND_PLACE.match(text, mention.end) is not None


def _in_addresses(text: str) -> Iterator[Mention]:
    common = lexicon.lowered("common_words")
    for match in _STATE_AND_CODE.finditer(text):
        city = _CITY.search(text, max(0, match.start() - 45), match.start())
        if not city:
            continue
        start, end = city.start(), match.start() + len(", PA")
        # Of "12 Main Street Springfield, IL 62701" the street is no part of the city.
        for word in re.finditer(r"\S+", city.group()):
            if word.group().lower().strip(".") in common:
                start = city.start() + word.end() + 1
        if start < match.start():
            surface = " ".join(text[start:end].split())
            yield Mention(start=start, end=end, kind=Kind.PLACE, name=surface, surface=surface)
