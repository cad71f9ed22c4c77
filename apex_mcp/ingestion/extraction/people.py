"""People: after a title, by a common given name, beside a role or what only people do, in the lines that list people."""

import re
from bisect import bisect_left
from collections.abc import Iterator

from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.person_names import (
    ABBREVIATED_TITLES,
    CAPITAL_PARTICLES,
    INITIAL,
    LETTERS,
    RANKS,
    TITLES,
    NameReader,
)
from apex_mcp.ingestion.extraction.roles import ROLE_PATTERN
from apex_mcp.ingestion.extraction.words import UPPER, Words

_MOST_TITLES = 4
_STREET = re.compile(r"(?:place|rue|avenue|boulevard|calle|plaza|via|straße|allée|quai) $")
_NOT_AFTER = frozenset("san santa são saint st ste fort port mount mt ft lake new cape los las point".split())
_SAINTS = frozenset(["st", "mt", "ft"])
_ROLE_BEFORE = frozenset(
    "CEO CFO CTO COO CIO CMO CISO Chairman Chairwoman Chairperson Co-founder Cofounder".split()
)
_ONLY_PEOPLE_DO = re.compile(
    rf" (?:works|worked|has worked|is employed|was employed) (?:at|for) (?:(?:the|an?) )?(?=[{UPPER}])"
)

_LABELS = (
    "From|To|Cc|CC|Bcc|Reply-To|Sender|Von|An|De|À|Para|Attendees|Present|In attendance|Participants|Apologies|Absent"
    "|Excused|Assigned to|Authors?|Written by|Prepared by|Reviewed by|Approved by|Signed by|Contact|Contact person|Chair"
    "|Chaired by|Minutes taken by|Minutes by|Note[- ]taker|Owner|Assignee|Reporter|Teilnehmer|Anwesend|Autoren|Autor"
    "|Participantes|Asistentes|Présents|Auteurs?|Name"
)
_LINE = re.compile(
    rf"^[ \t*_>#|-]{{0,8}}(?:{_LABELS})\*{{0,2}}[ \t]{{0,3}}:\*{{0,2}}[ \t]*(?P<people>[^\n]{{1,2000}})",
    re.MULTILINE,
)
_CLOSINGS = (
    "(?:with )?(?:kind(?:est)? |best |warm(?:est)? )?regards|best(?: wishes)?|(?:yours )?sincerely(?: yours)?|yours truly"
    "|yours faithfully|cheers|(?:many )?thanks|thank you|mit freundlichen Grüßen|viele Grüße|cordialement|atentamente"
    "|saludos(?: cordiales)?|un saludo"
)
_SIGN_OFF = re.compile(
    rf"^[ \t>]{{0,8}}(?:{_CLOSINGS}),?[ \t]*\n{{1,3}}[ \t>]{{0,8}}(?P<name>[^\n|,]{{2,40}}?)[ \t]*(?=\n|$|,)",
    re.MULTILINE | re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[,;|]| and | und | et | y | & ")
_BEFORE_BRACKET = re.compile(r"[^(<\[\x00:–—]*")
_LONGEST_NAME = 60


def find_people(words: Words) -> Iterator[Mention]:
    """All people that the rules are sure of; they may overlap."""
    reader = NameReader(words)
    yield from _by_name(reader)
    yield from _by_role(reader)
    yield from _by_deed(reader)
    yield from _in_lines(reader)


def _by_name(reader: NameReader) -> Iterator[Mention]:
    words, done = reader.words, 0
    for i, word in enumerate(words.word):
        if i < done:
            continue
        if word in TITLES:
            mention, done = _after_title(reader, i)
        elif words.low[i] in reader.given_names and _may_begin(reader, i):
            last = reader.full_name(i)
            if last is None:
                continue
            mention, done = reader.mention(i, i, last), last + 1
        else:
            continue
        if mention:
            yield mention


def _after_title(reader: NameReader, i: int) -> tuple[Mention | None, int]:
    """The person whose title begins at word `i`, if any, and the word to go on from."""
    words, first = reader.words, i
    while first - i < _MOST_TITLES and words.word[first] in TITLES:
        gap = words.gap(first)
        if gap != " " and not (gap == ". " and words.word[first] in ABBREVIATED_TITLES):
            return None, i + 1
        first += 1
    last = (
        None if _is_street(reader, i) or words.word[first] in TITLES else _name_after_title(reader, i, first)
    )
    # What follows a title that leads nowhere is no name on its own: "Queen Elizabeth Hall".
    return (None, first + 1) if last is None else (reader.mention(i, first, last), last + 1)


def _is_street(reader: NameReader, title: int) -> bool:
    """Whether "Dr" ends the name of a street ("45 Main Dr. Boston"), or the title that of another thing."""
    words = reader.words
    if not words.joined_before(title) or words.starts_line(title):
        return False
    before = words.low[title - 1]
    if before in reader.function_words or words.word[title - 1] in TITLES:
        return False
    return before not in reader.common_words or words.word[title] == "Dr"


def _name_after_title(reader: NameReader, title: int, first: int) -> int | None:
    words, low = reader.words, reader.words.low[first]
    only_ranks = all(word in RANKS for word in words.word[title:first])
    if INITIAL.fullmatch(words.word[first]) or low in reader.given_names:
        last = reader.full_name(first, common_is_fine=not only_ranks)
        if last is not None:
            return None if only_ranks and words.low[last] in reader.named_after else last
        more_follows = words.joined_after(first) and words.low[first + 1] not in reader.function_words
        if low not in reader.given_names or more_follows:
            return None
    if words.word[first].isupper() or not reader.is_name_word(first, common_is_fine=not only_ranks):
        return None
    if only_ranks:
        # A rank and a name that no list holds: no heading may be around, and the name be no word of this text.
        before = words.text[max(0, words.start[title] - 2) : words.start[title]].strip()
        if not before.endswith((",", "“", '"')) and not before[-1:].islower():
            return None
        if low in words.lower_case or low in reader.named_after:
            return None
    return reader.with_further_surnames(first, first)


def _may_begin(reader: NameReader, i: int) -> bool:
    """Whether a name may begin with the given name that is word `i`."""
    words, text, start = reader.words, reader.words.text, reader.words.start[i]
    if words.low[i] in reader.function_words or words.low[i] in reader.common_words:
        return False
    if (start and text[start - 1] in "-/@_.\\#=$&") or _STREET.search(text, max(0, start - 11), start):
        return False
    gap = words.gap(i - 1)
    if gap == ". ":
        return words.low[i - 1] not in _SAINTS
    if gap != " ":
        return gap != " & "
    before = words.low[i - 1]
    return before not in _NOT_AFTER and (before in reader.function_words or before in reader.common_words)


def _by_role(reader: NameReader) -> Iterator[Mention]:
    """Names that no list holds, beside a role: "Xu Li, president of ...", "CEO Xu Li said"."""
    words, text = reader.words, reader.words.text
    for i, word in enumerate(words.word):
        end = words.end[i]
        if word in _ROLE_BEFORE and words.gap(i) in (" ", ", "):
            alone = words.gap(i) == ", "
            if _is_certain(reader, i + 1) and (not alone or text.startswith(",", words.end[i + 2])):
                yield reader.mention(i + 1, i + 1, i + 2)
        elif text.startswith(", ", end) and words.gap(i - 1) == " " and not words.joined_before(i - 1):
            role = ROLE_PATTERN.match(text, end + 2)
            # "At Foo Bar, CEO Ann Lee said" tells of Ann Lee.
            another_follows = role and text[role.end() : role.end() + 2].strip()[:1].isupper()
            if role and not another_follows and _is_certain(reader, i - 1):
                yield reader.mention(i - 1, i - 1, i)


def _by_deed(reader: NameReader) -> Iterator[Mention]:
    """Names that no list holds, before what only people do: "Xu Li works at ..."."""
    words = reader.words
    for match in _ONLY_PEOPLE_DO.finditer(words.text):
        last = bisect_left(words.end, match.start())
        if last < len(words) and words.end[last] == match.start() and not words.joined_before(last - 1):
            if last and _is_certain(reader, last - 1):
                yield reader.mention(last - 1, last - 1, last)


def _is_certain(reader: NameReader, first: int) -> bool:
    """Whether the two words from `first`, and no more, can only be a name."""
    words, last = reader.words, first + 1
    if (
        words.gap(first) != " "
        or words.joined_after(last)
        or "\n" in words.text[words.start[first] : words.end[last]]
    ):
        return False
    return all(
        reader.is_name_word(k)
        and words.low[k] not in words.lower_case
        and words.low[k].removesuffix("s") not in reader.common_words
        and not words.word[k].isupper()
        for k in (first, last)
    )


def _in_lines(reader: NameReader) -> Iterator[Mention]:
    """People of "From:", "Attendees:" and such lines, and under the closing of a letter."""
    text = reader.words.text
    for match in _LINE.finditer(text):
        position = match.start("people")
        for part in _SEPARATORS.split(match["people"]):
            start = text.index(part, position)
            position = start + len(part)
            if mention := _listed(reader, part, start, at_least=2):
                yield mention
    for match in _SIGN_OFF.finditer(text):
        if mention := _listed(reader, match["name"], match.start("name"), at_least=1):
            yield mention


def _listed(reader: NameReader, part: str, start: int, at_least: int) -> Mention | None:
    """The name that is the whole of a list's part, but for a bracket or an address behind it."""
    plain = part.lstrip(" \t\"'*_")
    head = _BEFORE_BRACKET.match(plain)
    surface = head.group().rstrip(" \t\"'*_.") if head else ""
    if not surface or len(surface) > _LONGEST_NAME:
        return None
    parts = surface.split()
    titles = 0
    while titles < len(parts) - at_least and parts[titles].rstrip(".") in TITLES:
        titles += 1
    names = parts[titles:]
    if not at_least <= len(names) <= 4 or not _are_names(reader, names):
        return None
    offset = start + len(part) - len(plain)
    return Mention(
        start=offset,
        end=offset + len(surface),
        kind=Kind.PERSON,
        name=" ".join(names),
        surface=" ".join(parts),
        title=" ".join(title.rstrip(".") for title in parts[:titles]),
    )


def _are_names(reader: NameReader, names: list[str]) -> bool:
    for number, name in enumerate(names):
        low = name.lower().strip(".")
        if number < len(names) - 1 and (INITIAL.fullmatch(name) or (number and low in CAPITAL_PARTICLES)):
            continue
        if not name[0].isupper() or not LETTERS.fullmatch(name) or not reader.can_be_name(name, low):
            return False
    alone = names[0] if len(names) == 1 else ""
    # A single name under a letter: one that is no word of the text, not "TEAM".
    return not alone or not (alone.isupper() or (alone.lower() in reader.words.lower_case))
