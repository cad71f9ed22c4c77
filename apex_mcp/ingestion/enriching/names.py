"""What two names say about whether they can mean one thing."""

import re
import unicodedata
from collections.abc import Sequence
from textwrap import shorten

from apex_mcp.ids import TITLES, normalise_name

PERSON = "Person"
# Two values are equal or not; a likeness of their names says nothing.
VALUES = frozenset({"Amount", "Date", "Money", "Value", "Email", "Number", "Percentage"})
# Of these what says only the kind is said of many.
_CALLED_BY_KIND = frozenset({"Contract", "Organization", PERSON})
# The rules' word for what they could not type.
_ANYTHING = "Thing"
_ARTICLES = frozenset(
    "the a an its our your their his her this that der die das ein eine unser unsere le la les l el los las".split()
)
_KINDS = frozenset(
    "agency applicant association authority bank board borrower branch bureau buyer carrier chair chairman chairwoman "
    "church city client college commission committee company consortium contract contractor corporation council court customer "
    "department developer director distributor employee employer firm foundation fund government group guarantor holder hospital "
    "institute institution insurer investor issuer landlord lender lessee lessor licensee licensor manager manufacturer ministry "
    "operator organisation organization owner parent partner party plaintiff defendant president producer product project "
    "provider publisher purchaser recipient retailer school secretary seller shareholder society state subcontractor subsidiary "
    "supplier team tenant town trust trustee union university vendor agreement ceo cfo coo cto managing executive chief officer "
    "bezirk firma gesellschaft auftraggeber auftragnehmer käufer verkäufer mieter vermieter kunde lieferant "
    "société banque fournisseur acheteur vendeur client empresa banco proveedor cliente".split()
)
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_NUMBER = re.compile(r"\d+")
_OF_ITS_DOCUMENT = re.compile(r"(.+?) \(.+\)", re.DOTALL)
_LONGEST_TITLE = 60
# Signs that tell things apart ("C", "C++", "C#") are a part of the word; a dot within an abbreviation is none.
_SPELT = re.compile(r"[^\s.,;:()\[\]/\-\u2010-\u2015_]+")
_ABBREVIATING = re.compile(r"(?<=[^\W\d_])\.")
_SAY_NOTHING = frozenset("the a an of for".split())
# British and American.
_SPELLINGS = (
    (re.compile(r"our(?=s?$)"), "or"),
    (re.compile(r"tre(?=s?$)"), "ter"),
    (re.compile(r"is(?=(?:e|ed|er|es|ing|ation)s?$)"), "iz"),
)
_PLURAL = re.compile(r"(?<![su])s$")


def compatible(type_: str, other: str) -> bool:
    """Whether things of these types can be one."""
    return type_ == other or _ANYTHING in (type_, other)


def certain(name: str, type_: str, shared: str, other_type: str) -> bool:
    """Whether a name that two entities share makes them one, as the record links them: not a person's first name alone."""
    if not compatible(type_, other_type) or type_ in VALUES:
        return False
    return PERSON not in (type_, other_type) or min(len(person_words(name)), len(person_words(shared))) > 1


def can_be_one(name: str, type_: str, other: str, other_type: str) -> bool:
    """Whether it is worth asking: other numbers are other things, and a first name alone is anybody's."""
    if not compatible(type_, other_type) or type_ in VALUES or other_type in VALUES:
        return False
    if set(_NUMBER.findall(name)) != set(_NUMBER.findall(other)):
        return False
    if _is_of_its_document(name) and _is_of_its_document(other):
        return False
    if PERSON not in (type_, other_type):
        return True
    words, others = person_words(name), person_words(other)
    return bool(words) and bool(others) and words[-1] == others[-1]


def same_words(name: str, other: str) -> bool:
    """Whether two names are one but for spelling and the order of their words: no word that tells something is another."""
    return any(
        _telling_words(name, plurals=plurals) == _telling_words(other, plurals=plurals)
        for plurals in (True, False)
    )


def _telling_words(name: str, *, plurals: bool) -> list[str]:
    words = _SPELT.findall(_ABBREVIATING.sub("", unicodedata.normalize("NFKC", name)))
    said = ((word, normalise_name(word)) for word in words)
    return sorted(
        _spelt(key, singular=not plurals and word.islower()) for word, key in said if key not in _SAY_NOTHING
    )


def _spelt(word: str, *, singular: bool) -> str:
    if len(word) < 5:
        return word  # too short to tell a spelling from another word, and Roman numerals
    word = "".join(sign for sign in unicodedata.normalize("NFD", word) if not unicodedata.combining(sign))
    for pattern, spelling in _SPELLINGS:
        word = pattern.sub(spelling, word)
    return _PLURAL.sub("", word) if singular else word


def person_words(name: str) -> list[str]:
    """The words of a person's name, without titles; "Smith, John" as "John Smith"."""
    last, comma, first = normalise_name(name).partition(",")
    words = _WORD.findall(f"{first} {last}" if comma else last)
    return [word for word in words if word not in TITLES]


def says_only_what_kind(name: str) -> bool:
    """Whether others of its kind are called so too: "the Bank", "our company", "Supplier"."""
    words = _WORD.findall(name)
    has_article = bool(words) and words[0].casefold() in _ARTICLES
    return all(
        normalise_name(word) in _KINDS or (has_article and word.islower())
        for word in words[1 if has_article else 0 :]
    )


def within(title: str, name: str, type_: str, aliases: Sequence[str]) -> str:
    """The name that a thing has beyond its document: of one that says only its kind an alias, else with the document's title."""
    if type_ not in _CALLED_BY_KIND or not says_only_what_kind(name):
        return name
    if aliases:
        return aliases[0]
    short = shorten(title, _LONGEST_TITLE, placeholder="…").rstrip(" .")
    return f"{name} ({short})" if short else name


def _is_of_its_document(name: str) -> bool:
    """Whether it was made by `within`: two of them are of two documents."""
    found = _OF_ITS_DOCUMENT.fullmatch(name)
    return found is not None and says_only_what_kind(found[1])
