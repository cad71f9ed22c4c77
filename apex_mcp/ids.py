"""Deterministic ids: the same thing gets the same UUIDv5 however often a step is repeated."""

import re
import unicodedata
from uuid import UUID, uuid5

APEX = UUID("6f1d7a52-8d0e-5c53-9d36-0b1c4b1f3a77")


def document_id(namespace: str, key: str) -> UUID:
    """Id of the document that `key` names in `namespace`."""
    return uuid5(APEX, f"document\x1f{namespace}\x1f{key}")


def version_id(document: UUID, ingestion: UUID, claim: UUID) -> UUID:
    """Id of the version that one run of an ingestion makes of a document.

    A later run gets another id, so that what a paused earlier run still writes can be told apart and removed.
    """
    return uuid5(document, f"version\x1f{ingestion}\x1f{claim}")


def chunk_id(version: UUID, ordinal: int) -> UUID:
    """Id of a version's chunk by its position (0-based)."""
    return uuid5(version, f"chunk\x1f{ordinal}")


def entity_id(namespace: str, name: str, disambiguator: str = "") -> UUID:
    """Id of the entity with this name; the type is an attribute, not part of the identity."""
    return uuid5(APEX, f"entity\x1f{namespace}\x1f{normalise_name(name)}\x1f{disambiguator}")


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
