"""E-mail addresses, URLs, and the ids of contracts and other documents: what its own form gives away."""

import re
from collections.abc import Iterator

from apex_mcp.ingestion.extraction.mentions import Kind, Mention

_LOCAL_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+'-]{0,62}[A-Za-z0-9_%+-])?$")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,18}(?![\w@])(?!\.\w)"
)
# "first last@x.org" at the head of a line: what joined the two words was lost on the way from a PDF.
_LOST_JOINT = re.compile(
    r"\n(?!e?-?mail|contact|write|ask|from|to|cc|or|and|via|at|by|user|call)[a-z]{2,20} $"
)
_URL = re.compile(r"(?:https?://|www\.(?<![\w./@]www\.))[^\s<>\"'`{}|\\^\x00]++")
_LONGEST_URL = 400
_BRACKETS = {")": "(", "]": "["}

# An id is found by its first digit; then the words before it are looked at.
_DIGITS = re.compile(r"[0-9](?<![a-zß-ÿ].)[A-Z0-9/._-]{0,30}(?![\w])")
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-/._"
_MARKS = frozenset(["#", "no", "number", "nr", "id", "nº", "n°", "№", "nummer"])
_WORDS: dict[str, Kind] = {
    word: kind
    for kind, group in (
        (Kind.CONTRACT, "contract agreement vertrag vertragsnummer contrato contrat"),
        (Kind.PRODUCT, "part model sku serial"),
        (
            Kind.DOCUMENT,
            "invoice rechnung facture factura order po ticket case policy license licence patent report",
        ),
    )
    for word in group.split()
}
# Without "No." only these, and only before something that has the shape of an id: INV-1234, 2024-117.
_UNMARKED = frozenset([
    "contract",
    "agreement",
    "vertrag",
    "invoice",
    "rechnung",
    "order",
    "ticket",
    "po",
    "sku",
    "model",
    "part",
])
_SHAPED = re.compile(
    r"[A-Z]{1,8}[-/]?\d[\dA-Z/-]*|\d{2,}[-/][\dA-Z/-]*\d|[A-Z]{1,8}(?:[-/][A-Z0-9]+)*[-/]\d[\dA-Z/-]*"
)
_WELL_KNOWN_STARTS = ("CVE-", "RFC", "ISO", "arXiv:", "DIN ", "JIS ", "10.", "ISBN")
_WELL_KNOWN = re.compile(
    r"(?:CVE-\d{4}-\d{4,7}|RFC[ -]?\d{3,5}|ISO(?:/IEC)?[ -]\d{3,5}(?:[:-]\d{1,4}){0,2}|arXiv:\d{4}\.\d{4,5}"
    r"|DIN (?:EN )?(?:ISO )?\d{3,5}|JIS [A-Z] ?\d{4}"
    r"|10\.\d{4,9}/[A-Za-z0-9][\w./()-]{2,80}|ISBN(?:-1[03])?:? ?[\d-]{10,17}X?)(?![\w])"
)


def find_values(text: str) -> Iterator[Mention]:
    """E-mail addresses and URLs."""
    at = text.find("@")
    while at >= 0:
        if mention := _email(text, at):
            yield mention
        at = text.find("@", at + 1)
    if "://" not in text and "www." not in text:
        return
    for match in _URL.finditer(text):
        if len(match.group()) > _LONGEST_URL or _is_cut(text, match):
            continue
        url = _trimmed(match.group())
        if len(url) > 10 and "." in url and not url.endswith("://"):
            yield Mention(
                start=match.start(),
                end=match.start() + len(url),
                kind=Kind.URL,
                name=url.rstrip("/"),
                surface=url,
            )


def find_ids(text: str) -> Iterator[Mention]:
    """Contract, invoice and product numbers, and ids of a well-known form (RFC, ISO, CVE, DOI, ISBN)."""
    for match in _DIGITS.finditer(text):
        if mention := _typed_id(text, match):
            yield mention
    if not any(start in text for start in _WELL_KNOWN_STARTS):
        return
    for match in _WELL_KNOWN.finditer(text):
        surface = match.group().rstrip("./)-(")
        end = match.start() + len(surface)
        yield Mention(start=match.start(), end=end, kind=Kind.DOCUMENT, name=surface, surface=surface)


def _typed_id(text: str, digits: re.Match[str]) -> Mention | None:
    before = text[max(0, digits.start() - 48) : digits.start()]
    stem = before.rstrip(_ID_LETTERS)
    if stem[-1:] not in ("#", ":", " ", "\n"):
        return None
    parts = stem.replace("#", " # ").split()
    marked = False
    while parts and parts[-1].lower().strip(".:") in _MARKS:
        parts.pop()
        marked = True
    keyword = parts[-1].strip(':(["*') if parts else ""
    kind = _WORDS.get(keyword.lower())
    value = (before[len(stem) :] + digits.group()).rstrip("./_-")
    if kind is None or len(value) < 3 or (not marked and keyword.lower() not in _UNMARKED):
        return None
    if not _SHAPED.fullmatch(value) and not (marked and value[0].isalnum()):
        return None
    start = text.rindex(keyword, 0, digits.start())
    end = digits.start() - (len(before) - len(stem)) + len(value)
    if end <= digits.start() or (start and text[start - 1].isalnum()):
        return None
    word = keyword.upper() if keyword.lower() in ("po", "sku") else keyword.capitalize()
    return Mention(
        start=start, end=end, kind=kind, name=f"{word} {value}", surface=" ".join(text[start:end].split())
    )


def _email(text: str, at: int) -> Mention | None:
    if not text[at - 1 : at].isascii() or not (
        text[at - 1 : at].isalnum() or text[at - 1 : at] in tuple("_%+-")
    ):
        return None
    local = _LOCAL_PART.search(text, max(0, at - 64), at)
    domain = _DOMAIN.match(text, at + 1)
    # A letter just before what we took, or a brace ("{ann,bob}@x.org"), means that we took a part only.
    if (
        not local
        or not domain
        or (local.start() and (text[local.start() - 1].isalnum() or text[local.start() - 1] in "}.@/:="))
    ):
        return None
    if _LOST_JOINT.search(text, max(0, local.start() - 30), local.start()):
        return None
    address = text[local.start() : domain.end()]
    return Mention(
        start=local.start(), end=domain.end(), kind=Kind.EMAIL, name=address.lower(), surface=address
    )


def _is_cut(text: str, url: re.Match[str]) -> bool:
    """Whether the URL was cut, or may go on in the next line: that goes on in lower case or with a digit."""
    end = url.end()
    following = text[end + 1 : end + 6]
    if (
        "(dot)" in url.group()
        or url.group().endswith(("...", "…"))
        or text.startswith((" ...", " …", " dot "), end)
    ):
        return True
    if text[end : end + 1] != "\n" or (
        following.startswith(("http", "www.")) and not url.group().endswith("/")
    ):
        return False
    line_start = text.rfind("\n", max(0, url.start() - 200), url.start()) + 1
    return end - line_start >= 60 and (
        following[:1].islower() or following[:1].isdigit() or following[:1] in tuple("/-_%.?=&")
    )


def _trimmed(url: str) -> str:
    """Without the punctuation that ends a sentence, a bracket or a Markdown link."""
    for position, char in enumerate(url):
        opening = _BRACKETS.get(char)
        if opening and url.count(opening, 0, position) <= url.count(char, 0, position):
            url = url[:position]
            break
    return url.rstrip(".,;:!?*_~…”’")
