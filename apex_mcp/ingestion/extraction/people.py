"""People: after a title, by a common given name, beside a role, in the lines of a document that list people."""

import re
from collections.abc import Iterator

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.organizations import FORM_WORDS
from apex_mcp.ingestion.extraction.roles import ROLE_PATTERN
from apex_mcp.ingestion.extraction.words import Words

# After these even a word that is otherwise common is a name ("Mr. Baker").
_FORMS_OF_ADDRESS = frozenset(
    "Mr Mrs Ms Miss Mx Dr Prof Professor Herr Herrn Frau Señor Señora Sra Srta Doña Monsieur Madame Mme Mlle Shri Smt".split()
)
# These stand before many other words too ("General Ledger"), and a single name alone is a person only with them.
_RANKS = frozenset(
    "Sir Dame Lord Lady Prince Princess Count Countess King Queen Emperor Empress Tsar Pope General Colonel Captain Major Lieutenant Senator "
    "President Chancellor Governor Judge Justice Rabbi Sheikh Congressman Congresswoman".split()
)
TITLES = _FORMS_OF_ADDRESS | _RANKS

# Common words as well: a surname must be one that the text never writes in lower case.
_WEAK_GIVEN_NAMES = frozenset(
    "amber ben bill bob crystal daisy dan dawn dean don drew earl frank gene grace guy hazel heather holly iris jack jay jean kelly kim lee "
    "mark marine mercedes miles morgan pat penny ray rex rob robin rose ross said sandy sky sora tal taylor thi tom wei max marshall "
    "nelson mitchell cameron blake crystal perry scott spencer stewart warren wayne franklin harrison harvey howard gordon florence salvador".split()
)
_NOT_AFTER = frozenset([
    "san",
    "santa",
    "são",
    "saint",
    "st",
    "ste",
    "fort",
    "port",
    "mount",
    "mt",
    "lake",
    "new",
    "cape",
    "los",
    "las",
    "point",
])
# A name right before these names something else: "Nelson Mandela Bay", "Robert Koch Prize".
_THINGS_NAMED_AFTER = frozenset(
    "street road avenue boulevard lane square bridge island islands river lake park university college school hospital airport station stadium "
    "county city hall building tower center centre house award prize foundation institute museum bay beach drive way court place fund trust "
    "memorial library press group bank act lecture medal cup league church cathedral".split()
)
_PARTICLE = re.compile(
    r" (?:de|da|do|dos|das|del|della|di|du|van|von|zu|den|ter|ten|la|bin|ibn|al|af|av)(?: (?:la|las|los|der|den|de))? $"
)
_CAPITAL_PARTICLES = frozenset([
    "van",
    "von",
    "de",
    "del",
    "di",
    "la",
    "le",
    "du",
    "el",
    "al",
    "mac",
    "ben",
    "bin",
    "st",
])
_SUFFIXES = frozenset(["jr", "sr", "ii", "iii", "iv"])
_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_INITIAL = re.compile(r"(?:[^\W\d_]\.){1,3}|[A-Z](?![\w])")
_MOST_WORDS = 5

_LINE = re.compile(
    r"^[ \t*_>#|-]{0,8}(?P<label>From|To|Cc|CC|Bcc|Reply-To|Sender|Von|An|De|À|Para|Attendees|Present|In attendance|Participants|Apologies|Absent"
    r"|Authors?|Written by|Prepared by|Reviewed by|Approved by|Signed by|Contact|Contact person|Chair|Chaired by|Minutes taken by|Minutes by|Note[- ]taker|Owner|Assignee"
    r"|Reporter|Teilnehmer|Anwesend|Autoren|Autor|Participantes|Asistentes|Présents|Auteurs?|Name)\*{0,2}[ \t]{0,3}:\*{0,2}[ \t]*(?P<people>[^\n]{1,2000})",
    re.MULTILINE,
)
_SIGN_OFF = re.compile(
    r"^[ \t]{0,8}(?:(?:With )?(?:[Kk]ind(?:est)? |[Bb]est |[Ww]arm(?:est)? )?[Rr]egards|Best(?: wishes)?|(?:Yours )?[Ss]incerely(?: yours)?|Yours (?:faithfully|truly)|Cheers"
    r"|(?:Many )?[Tt]hanks|Thank you|Mit freundlichen Grüßen|Viele Grüße|Cordialement|Saludos(?: cordiales)?|Atentamente|Un saludo),?[ \t]*\n{1,3}"
    r"[ \t]{0,8}(?P<name>[^\n|,]{2,40}?)[ \t]*(?=\n|$|,)",
    re.MULTILINE | re.IGNORECASE,
)
_ROLE_BEFORE = frozenset([
    "CEO",
    "CFO",
    "CTO",
    "COO",
    "CIO",
    "CMO",
    "CISO",
    "Chairman",
    "Chairwoman",
    "Chairperson",
    "Co-founder",
    "Cofounder",
])
_SEPARATORS = re.compile(r"[,;|]| and | und | et | y | & ")


def find_people(words: Words) -> Iterator[Mention]:
    """All people that the rules are sure of; they may overlap."""
    finder = _People(words)
    yield from finder.by_name()
    yield from finder.by_role()
    yield from finder.in_lines()


class _People:
    def __init__(self, words: Words) -> None:
        self._words = words
        self._stop = lexicon.lowered("function_words")
        self._common = lexicon.lowered("common_words")
        self._given = lexicon.lowered("given_names")
        self._place_words = (
            lexicon.by_first_word("places").keys() | lexicon.by_first_word("organizations").keys()
        )

    def by_name(self) -> Iterator[Mention]:
        words, done = self._words, -1
        for i, word in enumerate(words.word):
            if i <= done:
                continue
            if word in TITLES:
                found = self._after_title(i)
                if found is None and words.gap(i) in (" ", ". "):
                    # What follows a title that leads nowhere is no name on its own: "Queen Elizabeth Hall".
                    done = i + 1
            elif words.low[i] in self._given and self._may_begin(i):
                last = self._full_name(i)
                found = self._mention(i, i, last) if last is not None else None
            else:
                continue
            if found:
                done = found[1]
                yield found[0]

    def by_role(self) -> Iterator[Mention]:
        """Names that no list holds, beside a role: "Xu Li, president of ...", "CEO Xu Li said"."""
        words, text = self._words, self._words.text
        for i, word in enumerate(words.word):
            if word in _ROLE_BEFORE and words.gap(i) in (" ", ", "):
                found = self._strict_run(i + 1)
                if found and (words.gap(i) == " " or text.startswith(",", words.end[found[1]])):
                    yield self._mention(found[0], *found)[0]
            elif (
                text.startswith(", ", words.end[i])
                and not words.joined_before(i - 1)
                and words.gap(i - 1) == " "
            ):
                role = ROLE_PATTERN.match(text, words.end[i] + 2)
                followed_by_name = role and re.match(r" [A-Z]", text[role.end() : role.end() + 2])
                if role and not followed_by_name and self._strict_run(i - 1) == (i - 1, i):
                    yield self._mention(i - 1, i - 1, i)[0]

    def in_lines(self) -> Iterator[Mention]:
        """People of "From:", "Attendees:" and such lines, and under the closing of a letter."""
        text = self._words.text
        for match in _LINE.finditer(text):
            position = match.start("people")
            for part in _SEPARATORS.split(match["people"]):
                start = text.index(part, position)
                position = start + len(part)
                if found := self._listed_name(part, start, at_least=2):
                    yield found
        for match in _SIGN_OFF.finditer(text):
            if found := self._listed_name(match["name"], match.start("name"), at_least=1):
                yield found

    def _listed_name(self, part: str, start: int, at_least: int) -> Mention | None:
        """The name that is the whole of a list's part but for a bracket, quotes or an address behind it."""
        match = re.match(r"[\s\"'*_]*([^(<\[\x00:–—]*?)[\s\"'*_.]*(?=$|[(<\[\x00:–—])", part)
        if not match:
            return None
        parts = match[1].split()
        if not at_least <= len(parts) <= 4:
            return None
        if parts[0].rstrip(".") in TITLES and len(parts) > at_least:
            parts = parts[1:]
        for number, name in enumerate(parts):
            low = name.lower().strip(".")
            inner = 0 < number < len(parts) - 1
            if inner and (_INITIAL.fullmatch(name) or low in _CAPITAL_PARTICLES):
                continue
            if not name[:1].isupper() or not _LETTERS.fullmatch(name) or len(name) < 2 or low in FORM_WORDS:
                return None
            if low in self._stop or low in self._common or (name.isupper() and len(parts) == 1):
                return None
            if name in self._place_words and low not in self._given:
                return None
        if (
            len(parts) == 1
            and parts[0].lower() not in self._given
            and parts[0].lower() in self._words.lower_case
        ):
            return None
        offset = start + match.start(1)
        surface = " ".join(match[1].split())
        title = (
            surface.split()[0]
            if surface.split()[0].rstrip(".") in TITLES and len(surface.split()) > 1
            else ""
        )
        return Mention(
            start=offset,
            end=offset + len(match[1]),
            kind=Kind.PERSON,
            name=" ".join(parts),
            surface=surface,
            title=title.rstrip("."),
        )

    def _after_title(self, i: int) -> tuple[Mention, int] | None:
        words, first = self._words, i
        # "Main Dr. Boston": a street, not a doctor.
        if (
            words.joined_before(i)
            and words.low[i - 1] not in self._stop
            and (words.low[i - 1] not in self._common or words.word[i] == "Dr")
            and words.word[i - 1] not in TITLES
        ):
            return None
        while (
            first + 1 < len(words) and words.word[first] in TITLES and words.gap(first) in (" ", ". ", ", ")
        ):
            if words.gap(first) == ", ":
                return None
            first += 1
        if first == i or words.word[first] in TITLES:
            return None
        ranks_only = all(words.word[k] in _RANKS for k in range(i, first))
        low = words.low[first]
        if _INITIAL.fullmatch(words.word[first]) or low in self._given:
            last = self._full_name(first, common_is_fine=not ranks_only)
            if last is not None:
                is_a_thing = ranks_only and words.low[last] in _THINGS_NAMED_AFTER
                return None if is_a_thing else self._mention(i, first, last)
            if low not in self._given or (
                words.joined_after(first) and words.low[first + 1] not in self._stop
            ):
                return None
        if not self._is_name_word(first, common_is_fine=not ranks_only):
            return None
        if ranks_only and not self._in_running_text(i, first):
            return None
        last = self._extend(first)
        if last is None:
            return None
        return self._mention(i, first, last)

    def _in_running_text(self, i: int, name: int) -> bool:
        """For a rank and a name that no list holds: the words around are no heading, and the name is no word of this text."""
        words, text = self._words, self._words.text
        before = text[max(0, words.start[i] - 2) : words.start[i]].strip()
        return (before[-1:].islower() or before[-1:] in (",", "“", '"')) and words.low[
            name
        ] not in words.lower_case

    def _may_begin(self, i: int) -> bool:
        words, text = self._words, self._words.text
        if words.low[i] in self._stop or words.low[i] in self._common:
            return False
        if words.start[i] and text[words.start[i] - 1] in "-/@_.\\#=$&":
            return False
        if words.gap(i - 1) in (" & ",):
            return False
        if words.gap(i - 1) not in (" ", ". "):
            return True
        before = words.low[i - 1]
        if before in _NOT_AFTER or (words.gap(i - 1) == ". " and before in ("st", "mt", "ft")):
            return False
        return (
            words.gap(i - 1) == ". "
            or before in self._stop
            or before in self._common
            or words.word[i - 1] in TITLES
        )

    def _full_name(self, i: int, *, common_is_fine: bool = False) -> int | None:
        """The last word of the full name whose given name (or initial) is word `i`."""
        words, k = self._words, i
        while k + 1 < len(words) and k - i < 3:
            gap = words.gap(k)
            if gap == " " and _INITIAL.fullmatch(words.word[k + 1]):
                k += 1
            else:
                break
        surname = k + 1
        if surname >= len(words) or not (
            words.gap(k) == " "
            or _PARTICLE.match(words.gap(k))
            or (_INITIAL.fullmatch(words.word[k]) and words.gap(k) in (" ", ". "))
        ):
            return None
        while (
            words.low[surname] in _CAPITAL_PARTICLES
            and words.gap(surname) == " "
            and surname + 1 < len(words)
        ):
            surname += 1
        if (
            not self._is_name_word(surname, common_is_fine=common_is_fine)
            or words.word[surname].isupper() != words.word[i].isupper()
            and not _INITIAL.fullmatch(words.word[i])
        ):
            return None
        if words.low[i] in _WEAK_GIVEN_NAMES and words.low[surname] in words.lower_case:
            return None
        if words.low[i] in words.lower_case and words.low[surname] in words.lower_case:
            return None
        return self._extend(surname, first=i)

    def _extend(self, last: int, first: int | None = None) -> int | None:
        """Takes in further surnames; None where the end of the name is not certain."""
        words = self._words
        begin = last if first is None else first
        while last + 1 < len(words) and last - begin < _MOST_WORDS:
            following, gap = last + 1, words.gap(last)
            low = words.low[following]
            if gap in (" ", ", ") and low in _SUFFIXES:
                return following
            if gap != " " and not _PARTICLE.match(gap):
                break
            if gap == " " and low in _THINGS_NAMED_AFTER:
                return None
            if _INITIAL.fullmatch(words.word[following]) and gap == " " and words.gap(following) == " ":
                following += 1
            if not self._is_name_word(following) or words.low[following] in words.lower_case:
                break
            starts_another = (
                words.low[following] in self._given
                and words.gap(following) == " "
                and following + 1 < len(words)
                and self._is_name_word(following + 1)
            )
            if starts_another and words.low[last] not in self._given:
                break
            last = following
        else:
            if last - begin >= _MOST_WORDS:
                return None
        if last + 1 < len(words) and words.gap(last) == " " and words.low[last + 1] in FORM_WORDS:
            return None
        return last

    def _is_name_word(self, i: int, *, common_is_fine: bool = False) -> bool:
        words = self._words
        if i >= len(words):
            return False
        word, low = words.word[i], words.low[i]
        if len(word) < 2 or not _LETTERS.fullmatch(word) or low in self._stop or low in FORM_WORDS:
            return False
        if low in self._common and (not common_is_fine or low in words.lower_case):
            return False
        if "-" in word and any(part[:1].islower() or part in self._common for part in word.split("-")[1:]):
            return False
        if word in self._place_words and low not in self._given:
            return False
        capitals = sum(char.isupper() for char in word)
        return (
            capitals == 1
            or word.isupper()
            or "-" in word
            or word[:2] in ("Mc", "De", "Di", "Le", "La", "O'", "O’", "D'", "D’")
            or word[:3] == "Mac"
        )

    def _strict_run(self, first: int) -> tuple[int, int] | None:
        """Exactly two words that can only be a name, alone."""
        words = self._words
        last = first + 1
        if (
            last >= len(words)
            or words.gap(first) != " "
            or words.joined_after(last)
            or "\n" in words.text[words.start[first] : words.end[last]]
        ):
            return None
        for k in (first, last):
            if not self._is_name_word(k) or words.low[k] in words.lower_case or words.word[k].isupper():
                return None
        return first, last

    def _mention(self, start: int, first: int, last: int) -> tuple[Mention, int]:
        words = self._words
        name = words.surface(first, last)
        end = words.end[last]
        if words.low[last] in ("jr", "sr") and words.text[end : end + 1] == ".":
            end += 1
            name += "."
        title = " ".join(words.word[start:first])
        surface = " ".join(words.text[words.start[start] : end].split())
        return (
            Mention(
                start=words.start[start], end=end, kind=Kind.PERSON, name=name, surface=surface, title=title
            ),
            last,
        )
