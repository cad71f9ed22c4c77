"""Places, only where certain: a list of countries, regions and cities, and United States addresses."""

import re
from collections.abc import Iterator

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.gazetteer import find_listed
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.words import UPPER, Words

_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN"
    "|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
_STATE_AND_CODE = re.compile(rf",[ \xa0](?:{_STATES})[ \xa0]{{1,2}}\d{{5}}(?!\d)")
_CITY = re.compile(rf"(?:[{UPPER}][a-zß-ÿ]{{1,20}}\.?[ \xa0]){{0,2}}[{UPPER}][a-zß-ÿ]{{1,20}}$")


def find_places(words: Words) -> Iterator[Mention]:
    """Places of the list that stand alone, and the city of an address ("Doylestown, PA 18901")."""
    yield from find_listed(words, "places", Kind.PLACE)
    text = words.text
    for match in _STATE_AND_CODE.finditer(text):
        city = _CITY.search(text, max(0, match.start() - 45), match.start())
        if not city:
            continue
        start, end = city.start(), match.start() + len(", PA")
        # Of "12 Main Street Springfield, IL 62701" the street is no part of the city.
        for word in re.finditer(r"\S+", city.group()):
            if word.group().lower().strip(".") in lexicon.lowered("common_words"):
                start = city.start() + word.end() + 1
        if start < match.start():
            surface = " ".join(text[start:end].split())
            yield Mention(start=start, end=end, kind=Kind.PLACE, name=surface, surface=surface)
