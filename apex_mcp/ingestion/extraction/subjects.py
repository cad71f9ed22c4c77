"""Facts whose subject only their own sentence shows: the product of a price, the document that is effective from a date."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.certainty import belongs_to_another
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.words import UPPER

_WINDOW = 120
_NO_PRODUCTS = frozenset("hotel restaurant flight room villa museum train apartment house".split())
_PRODUCT = rf"(?P<product>[{UPPER}][\w&+-]{{1,30}}(?: (?:[{UPPER}][\w&+-]{{0,30}}|\d[\w.]{{0,6}})){{0,4}})"
_IS = r"(?:is|is now|was set (?:at|to)|has been set (?:at|to)|rises to|increases to|increased to|drops to|changes to|changed to)"
_PRICE = re.compile(rf"(?P<price>[Pp]rice) (?:of|for) (?:the |our |an? )?{_PRODUCT} {_IS} $")
_COSTS = re.compile(
    rf"(?:^|[\n.!?*-] ?|[Tt]he )(?:[Tt]he )?(?P<price>{_PRODUCT})"
    r" (?:(?:now )?costs|is (?:now )?priced at|sells for|retails for) $"
)
_THIS_IS_EFFECTIVE = re.compile(
    r"(?P<this>[Tt]his (?:[A-Z]\w+ )?(?:Agreement|Contract|Lease|Policy|Amendment|License|Licence|policy|agreement|contract))"
    r"(?: is| shall be| becomes| takes effect|,)?(?: made)?(?: and)?,? (?:effective )?(?:as of|from|on|effective) (?:the )?$"
)
_EFFECTIVE_LINE = re.compile(
    r"(?:^|\n)[ \t*]{0,6}(?P<this>Effective (?:Date|from|as of))\*{0,2}:?\*{0,2}[ \t]*$"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A fact that shows its subject."""

    subject: Mention
    predicate: str
    object: Mention


def find_shown(text: str, title: str, mentions: Sequence[Mention]) -> Iterator[Shown]:
    """Prices ("the price of X is $5", "X costs $5"), and from when the document called `title` is effective."""
    for mention in mentions:
        if mention.kind is Kind.AMOUNT:
            if product := _product_before(text, mention.start):
                yield Shown(product, "priced_at", mention)
        elif mention.kind is Kind.DATE and mention.since and title.strip():
            if this := _this_document(text, title, mention.start):
                yield Shown(this, "effective_from", mention)


def _product_before(text: str, position: int) -> Mention | None:
    at = max(0, position - _WINDOW)
    window = text[at:position]
    found = _PRICE.search(window) or _COSTS.search(window)
    if not found or belongs_to_another(text, at + found.start("price"), " costs"):
        return None
    name, function_words = found["product"], lexicon.lowered("function_words")
    known = lexicon.lowered("common_words") | function_words
    parts = name.lower().split()
    if (
        parts[0] in function_words
        or parts[0].endswith("ing")
        or parts[0] in _NO_PRODUCTS
        or all(part in known or part.isdigit() for part in parts)
    ):
        return None
    start = at + found.start("product")
    return Mention(start=start, end=start + len(name), kind=Kind.PRODUCT, name=name, surface=name)


def _this_document(text: str, title: str, position: int) -> Mention | None:
    at = max(0, position - _WINDOW)
    window = text[at:position]
    if "ffective" not in window and "takes effect" not in window:
        return None
    found = _THIS_IS_EFFECTIVE.search(window) or _EFFECTIVE_LINE.search(window)
    if not found or "ffect" not in found.group():
        return None
    name = " ".join(title.split())
    start, end = at + found.start("this"), at + found.end("this")
    return Mention(start=start, end=end, kind=Kind.DOCUMENT, name=name, surface=name)
