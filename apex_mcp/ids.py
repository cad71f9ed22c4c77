"""Deterministic ids: the same thing gets the same UUIDv5 however often a step is repeated."""

import re
import unicodedata
from datetime import datetime
from uuid import UUID, uuid5

# Legal forms of organisations, by their letters without dots.
_LEGAL_FORMS = frozenset(
    (
        "inc incorporated corp corporation co company ltd limited llc llp lp plc pllc lllp "
        "gmbh mbh ggmbh ag kg kgaa ug ohg gbr ev eg se "
        "sa sas sarl sasu snc eurl sl slu sau sc scs srl spa sapa sprl bvba "
        "bv nv cv vof ab hb asa as aps is oy oyj abp ehf hf "
        "sro doo dd jsc ojsc pjsc ooo oao zao pao "
        "kft zrt nyrt spzoo spj eood ood ead sia uab oü ou "
        "pty pte pvt pt tbk bhd sdn kk gk yk ltda eireli cia cv tas ik "
        "ао ооо оао зао пао ип"  # noqa: RUF001  (Cyrillic)
    ).split()
)
# Words of ordinary names too, as forms only where they are written so.
_WRITTEN_SO = {
    "as": ("AS", "A.S.", "A/S", "a.s.", "A.Ş."), "is": ("I/S",), "co": ("Co", "Co.", "CO", "co"), "dd": ("d.d.", "DD"),
    "spa": ("SpA", "S.p.A.", "S.P.A."), "ou": ("OU", "OÜ"), "ik": ("IK",), "pt": ("PT",), "cia": ("Cia", "Cia."),
    "ev": ("e.V.", "e. V.", "eV"), "eg": ("eG", "e.G."), "ug": ("UG",), "sc": ("S.C.", "SC"), "tas": ("TAS", "T.A.S."),
}  # fmt: skip
_AND = frozenset(["and", "und", "et", "y", "e"])
# What is written for one form; a company that is nothing more exact may be any corporation.
_ONE_FORM = {
    "incorporated": "inc", "corp": "inc", "corporation": "inc", "company": "inc", "co": "inc", "limited": "ltd",
    "ооо": "ooo", "ао": "ao", "зао": "zao", "пао": "pao",  # noqa: RUF001  (Cyrillic)
}  # fmt: skip
_COMPANY = frozenset(["co", "company"])
_LEADING_FORMS = frozenset("pt ooo oao zao pao ао ооо оао зао пао".split())  # noqa: RUF001  (Cyrillic)

# Before a person's name, in small letters.
TITLES = frozenset(
    "mr mrs ms miss dr prof professor sir madam herr frau dipl ing monsieur madame mme mlle m señor señora sr sra".split()
)

APEX = UUID("6f1d7a52-8d0e-5c53-9d36-0b1c4b1f3a77")

_TEXT = "text:"


def text_key(digest: str, said_at: datetime | None) -> str:
    """Key of a text that was given none: what it says and, where that is given, when it was said (in UTC)."""
    return f"{_TEXT}{digest[:32]}{f'@{said_at.isoformat()}' if said_at else ''}"


def is_text_key(key: str) -> bool:
    """Whether it was made of a text, so that it says nothing to a reader."""
    return key.startswith(_TEXT)


def document_id(namespace: str, key: str) -> UUID:
    """Id of the document that `key` names in `namespace`."""
    return uuid5(APEX, f"document\x1f{namespace}\x1f{key}")


def version_id(document: UUID, ingestion: UUID, claim: UUID) -> UUID:
    """Id of the version that one run of an ingestion makes of a document.

    A later run gets another id, so that what a paused earlier run still writes can be told apart and removed.
    """
    return uuid5(document, f"version\x1f{ingestion}\x1f{claim}")


def imported_ingestion_id(document: UUID, archived_version: UUID) -> UUID:
    """Id of the ingestion that stands for a version's way out of an archive; importing it again gives the same."""
    return uuid5(document, f"imported\x1f{archived_version}")


def chunk_id(version: UUID, ordinal: int) -> UUID:
    """Id of a version's chunk by its position (0-based)."""
    return uuid5(version, f"chunk\x1f{ordinal}")


def entity_id(namespace: str, name: str) -> UUID:
    """Id of the entity with this name; the type is an attribute, not part of the identity."""
    return entity_id_of(namespace, normalise_name(name))


def entity_id_of(namespace: str, normalised: str) -> UUID:
    """Id of the entity whose name is normalised to this."""
    return uuid5(APEX, f"entity\x1f{namespace}\x1f{normalised}\x1f")


def fact_id(namespace: str, subject: UUID, predicate: str, object_key: str, valid_at: str) -> UUID:
    """Id of a fact: the same statement from two sources is one fact with two sources."""
    return uuid5(APEX, f"fact\x1f{namespace}\x1f{subject}\x1f{predicate}\x1f{object_key}\x1f{valid_at}")


def normalise_type(type_: str) -> str:
    """One spelling of an entity's type: a capital first, single spaces, American spelling ("Organization")."""
    words = re.sub(r"\s+", " ", type_.replace("_", " ")).strip()
    return re.sub(r"(?i)organisation", "Organization", words[:1].upper() + words[1:])


def normalise_name(name: str) -> str:
    """Casefolded, NFKC, single spaces, no quotes and no closing dot: what two spellings of one name share."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    folded = re.sub(r"[\"'`\u00b4\u2018\u2019\u201c\u201d]", "", folded)
    return re.sub(r"\s+", " ", folded).strip(" .,;:")


def core_name(name: str) -> str:
    """What spellings of an organisation's name share: without legal forms and punctuation ("ACME, Inc." -> "acme").

    Meant for organisations only: of other names it may take away too much.
    """
    written = re.split(r"[\s,;()]+", unicodedata.normalize("NFKC", name).replace("&", " & "))
    words = [(word, letters) for word in written if (letters := _letters(word))]
    if len(words) > 1 and words[0][1] == "the":
        del words[0]
    while len(words) > 1 and _is_form(*words[-1]):
        words.pop()
        while len(words) > 1 and words[-1][1] in _AND:
            words.pop()
    if len(words) > 1 and words[0][1] in _LEADING_FORMS and _is_form(*words[0]):
        del words[0]
    return re.sub(r"[\W_]+", " ", " ".join(letters for _, letters in words)).strip() or normalise_name(name)


def legal_form(normalised: str, core: str) -> frozenset[str]:
    """The legal form in an organisation's normalised name, as all who write it share it ("corp." and "inc."); empty without.

    What its core lacks was taken for one.
    """
    words = [letters for word in re.split(r"[\s,;()]+", normalised) if (letters := _letters(word))]
    forms: set[str] = set()

    def more() -> bool:
        return len(words) > 1 and re.sub(r"[\W_]+", " ", " ".join(words)).strip() != core

    if more() and words[0] == "the":
        del words[0]
    while more() and (words[-1] in _LEGAL_FORMS or words[-1] in _WRITTEN_SO or words[-1] in _AND):
        forms.add(words.pop())
    if more() and words[0] in _LEADING_FORMS:
        forms.add(words[0])
    forms -= _AND
    return frozenset(_ONE_FORM.get(form, form) for form in (forms - _COMPANY or forms))


def differ_in_form(name: str, core: str, other: str, other_core: str) -> bool:
    """Whether two normalised names share their core, and each has a legal form, but not the same ("acme gmbh", "acme inc")."""
    if core != other_core:
        return False
    form, other_form = legal_form(name, core), legal_form(other, core)
    return bool(form) and bool(other_form) and form != other_form


def _letters(word: str) -> str:
    folded = "and" if word == "&" else word.casefold()
    return re.sub(r"[./:\"'`\u00b4\u2018\u2019\u201c\u201d]", "", folded)


def _is_form(word: str, letters: str) -> bool:
    exact = _WRITTEN_SO.get(letters)
    return letters in _LEGAL_FORMS if exact is None else word in exact
