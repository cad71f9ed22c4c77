"""How a person's name reads: titles, given names, initials, particles and surnames."""

import re

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.organizations import FORM_WORDS
from apex_mcp.ingestion.extraction.words import Words

# After these even a word that is otherwise common is a name ("Mr. Baker").
_FORMS_OF_ADDRESS = frozenset(
    "Mr Mrs Ms Miss Mx Dr Prof Professor Herr Herrn Frau Señor Señora Sra Srta Doña Monsieur Madame Mme Mlle Shri Smt".split()
)
ABBREVIATED_TITLES = frozenset("Mr Mrs Ms Mx Dr Prof Sra Srta Mme Mlle Smt".split())
# These stand before many other words too ("General Ledger").
RANKS = frozenset(
    "Sir Dame Lord Lady Prince Princess Count Countess King Queen Emperor Empress Tsar Pope General Colonel Captain Major "
    "Lieutenant Senator President Chancellor Governor Judge Justice Rabbi Sheikh Congressman Congresswoman".split()
)
TITLES = _FORMS_OF_ADDRESS | RANKS
# These are surnames too ("Martin Luther King"); the other titles begin another name.
_TITLES_AS_SURNAMES = frozenset(["King", "Major", "Judge", "Pope", "Justice"])

_DOTTED_TITLES = frozenset(["Mr", "Mrs", "Ms", "Dr", "Prof"])
_ADDRESS = re.compile(rf"(?<!\w)((?:(?:{'|'.join(sorted(TITLES))})\.? ){{1,4}})(\w+)")

_PARTICLE = re.compile(
    r" (?:de|da|do|dos|das|del|della|di|du|van|von|zu|den|ter|ten|la|bin|ibn|al|af|av)(?: (?:la|las|los|der|den|de))? $"
)
CAPITAL_PARTICLES = frozenset("van von de del di la le du el al mac ben bin st".split())
_GENERATIONS = frozenset(["jr", "sr", "ii", "iii", "iv"])
LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
INITIAL = re.compile(r"(?:[^\W\d_]\.){1,3}|[A-Z](?!\w)")
# Surnames with a capital inside begin so: McDonald, LeCun, O'Brien.
_TWO_CAPITALS = ("Mc", "Mac", "De", "Di", "Le", "La", "Des", "Fitz", "O'", "O’", "D'", "D’")
_MOST_INITIALS = 3
_MOST_WORDS = 5


def titled(title: str, name: str) -> str:
    """What somebody of whom only a surname is known is called: by the title too, which tells two apart ("Mr. Smith")."""
    return f"{title}{'.' if title in _DOTTED_TITLES else ''} {name}".strip()


def titles_before(surname: str, text: str) -> set[str]:
    """The titles that stand before a surname in a text, without dots."""
    return {
        " ".join(title.replace(".", "").split()) for title, name in _ADDRESS.findall(text) if name == surname
    }


class NameReader:
    """Reads names among the capitalised words of a text."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.function_words = lexicon.lowered("function_words")
        self.common_words = lexicon.lowered("common_words")
        self.given_names = lexicon.lowered("given_names")
        self.named_after = lexicon.lowered("named_after")
        self._makes_it_a_thing = self.named_after | FORM_WORDS
        self._weak_given_names = lexicon.lowered("weak_given_names")
        self._listed = frozenset((*lexicon.entries("places"), *lexicon.entries("organizations")))

    def full_name(self, first: int, *, common_is_fine: bool = False) -> int | None:
        """The last word of the full name whose given name (or initial) is word `first`; None where there is none."""
        words, last = self.words, first
        while (
            last - first < _MOST_INITIALS
            and words.gap(last) == " "
            and INITIAL.fullmatch(words.word[last + 1])
        ):
            last += 1
        gap = words.gap(last)
        after_initial = gap == ". " and INITIAL.fullmatch(words.word[last])
        if not (gap == " " or after_initial or _PARTICLE.match(gap)):
            return None
        surname = last + 1
        if words.low[surname] in CAPITAL_PARTICLES and words.gap(surname) == " ":
            surname += 1
        if not self.is_name_word(surname, common_is_fine=common_is_fine):
            return None
        if words.word[surname].isupper() != words.word[first].isupper() and not INITIAL.fullmatch(
            words.word[first]
        ):
            return None
        given, low = words.low[first], words.low[surname]
        if low in words.lower_case and (given in self._weak_given_names or given in words.lower_case):
            return None
        return self.with_further_surnames(first, surname)

    def with_further_surnames(self, first: int, last: int) -> int | None:
        """The last word of the name whose certain part is `first` to `last`; None where it may be another thing's name."""
        words = self.words
        while last - first < _MOST_WORDS and last + 1 < len(words):
            gap, following = words.gap(last), last + 1
            if gap in (" ", ", ") and words.low[following] in _GENERATIONS:
                return following
            if gap != " " and not _PARTICLE.match(gap):
                return last
            if gap == " " and words.low[following] in self._makes_it_a_thing:
                return None
            if INITIAL.fullmatch(words.word[following]) and gap == words.gap(following) == " ":
                following += 1
            if not self._goes_on(last, following):
                return last
            if words.wraps_after(last):
                # The next line may go on with the name, or begin with another.
                return None
            last = following
        return last if last - first < _MOST_WORDS else None

    def _goes_on(self, last: int, following: int) -> bool:
        words = self.words
        if not self.is_name_word(following) or words.low[following] in words.lower_case:
            return False
        if words.word[following].isupper() and not words.word[last].isupper():
            return False
        another = (
            words.low[following] in self.given_names
            and words.gap(following) == " "
            and self.is_name_word(following + 1)
        )
        return not another or words.low[last] in self.given_names

    def is_name_word(self, i: int, *, common_is_fine: bool = False) -> bool:
        """Whether word `i` can be a surname (after "Mr." also a common word that this text never writes in lower case)."""
        words = self.words
        if i >= len(words):
            return False
        word, low = words.word[i], words.low[i]
        if low in self.common_words and common_is_fine and low not in words.lower_case:
            return len(word) > 1
        return (
            self.can_be_name(word, low)
            and (word not in TITLES or word in _TITLES_AS_SURNAMES)
            and _capitals_fit(word)
        )

    def can_be_name(self, word: str, low: str) -> bool:
        """Whether nothing known speaks against this capitalised word as a part of a name."""
        if len(word) < 2 or not LETTERS.fullmatch(word):
            return False
        if low in self.function_words or low in self.common_words or low in FORM_WORDS:
            return False
        if len(low) > 7 and low.endswith("s") and low[:-1] in self.common_words:
            # A plural; short ones are surnames as well: Waters, Banks.
            return False
        if "-" in word and any(
            part[0].islower() or part.lower() in self.common_words for part in word.split("-")[1:]
        ):
            # "Aide-de-camp", "Knight-Commander"; but Wen-tau and Garcia-Olano.
            return False
        return word not in self._listed or low in self.given_names

    def mention(self, start: int, first: int, last: int) -> Mention:
        """The person named by the words `first` to `last`, with the title that begins at word `start`."""
        words = self.words
        name, end = words.surface(first, last), words.end[last]
        if words.low[last] in ("jr", "sr") and words.text[end : end + 1] == ".":
            end += 1
            name += "."
        return Mention(
            start=words.start[start],
            end=end,
            kind=Kind.PERSON,
            name=name,
            surface=" ".join(words.text[words.start[start] : end].split()),
            title=" ".join(words.word[start:first]),
        )


def _capitals_fit(word: str) -> bool:
    return (
        "-" in word
        or word.isupper()
        or word.startswith(_TWO_CAPITALS)
        or sum(char.isupper() for char in word) == 1
    )
