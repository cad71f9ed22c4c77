"""From what a caller asks to a request that the record can keep: everything that can be refused at the door is refused here."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from apex_mcp import ids
from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.decoding import clean_text, says_nothing
from apex_mcp.ingestion.detection import MediaType
from apex_mcp.ingestion.enriching.ontology import Ontology
from apex_mcp.ingestion.sources.local import LocalFile, find_file, read_file
from apex_mcp.models import EntityInput, FactInput, IngestionRequest, Lane, SourceType
from apex_mcp.settings import Settings

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_KEY = 1024
_MAX_METADATA_CHARS = 20_000
_MAX_GIVEN = 500
_MAX_NAME = 300
_MAX_SENTENCE = 4000
# Text that needs no parser worth speaking of; small ones go together in a group.
_QUICK_SUFFIXES = frozenset({".txt", ".md", ".markdown", ".html", ".htm", ".json", ".csv", ".eml"})
_QUICK_BYTES = 256_000
# Beside all of text/.
_TYPES_OF_TEXT = frozenset({MediaType.JSON, MediaType.EMAIL})
_NOTHING = "nothing was accepted"


def check_namespace(name: str) -> str:
    """The name, if it may name a memory.

    Raises:
        InputError: it may not (`invalid_namespace`).
    """
    if not _NAMESPACE.fullmatch(name):
        raise InputError(
            "a namespace has 1 to 64 letters, digits, dots, dashes or underscores, and starts with a letter or digit",
            code=Code.INVALID_NAMESPACE,
            next_step="choose such a name, or leave it out for the default memory",
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a caller gives with a document, beside its content."""

    namespace: str
    key: str | None = None
    title: str = ""
    media_type: str = ""
    document_time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    entities: Sequence[EntityInput] = ()
    facts: Sequence[FactInput] = ()
    idempotency_key: str | None = None


class Door:
    """Makes requests of what callers ask.

    Args:
        settings: for its limits.
        ontology: its words take the place of the caller's.
    """

    def __init__(self, settings: Settings, ontology: Ontology) -> None:
        self._settings = settings
        self._ontology = ontology

    def file(self, caller: Caller, source: str, given: Given, *, bulk: bool = False) -> IngestionRequest:
        """A request for one file, which whoever runs it reads where it is.

        Raises:
            InputError: the file, or an argument, cannot be taken.
        """
        found = self._find(caller, source)
        content = [str(found.size_bytes), str(found.modified_ns), found.uri]
        return _in_words_of(self._ontology, _file_request(found, given, content, bulk=bulk))

    def upload(
        self, caller: Caller, source: str, given: Given, *, bulk: bool = False
    ) -> tuple[IngestionRequest, bytes]:
        """The same, with the file's bytes, for whoever runs it elsewhere. Equal bytes at that place are one content.

        Raises:
            InputError: as `file`.
        """
        found = self._find(caller, source)
        data, digest = read_file(found.path, max_bytes=self._settings.max_file_bytes)
        request = _file_request(found, given, [digest, found.uri], bulk=bulk)
        return replace(_in_words_of(self._ontology, request), upload=uuid4()), data

    def check_again(self, caller: Caller, path: str) -> None:
        """Refuse to have a file read anew for a caller who may not have it read: another one may have named it.

        Raises:
            InputError: it can't be read for this caller.
        """
        self._find(caller, path)

    def _find(self, caller: Caller, source: str) -> LocalFile:
        if "://" in source and source[:5].casefold() != "file:":
            raise InputError(
                f"documents cannot be fetched from {source.split(':', 1)[0][:20]!r} addresses yet",
                code=Code.SOURCE_NOT_SUPPORTED,
                unchanged=_NOTHING,
                next_step="give a path of this machine, or pass the content as `text`",
            )
        return find_file(source, caller, home=self._settings.home, max_bytes=self._settings.max_file_bytes)

    def text(self, text: str, given: Given) -> IngestionRequest:
        """A request for inline text. Without a key the text is the key, with its time where one is given.

        So the same text is remembered once, or once for each time at which it was said.

        Raises:
            InputError: the text is empty or too long, or an argument cannot be taken.
        """
        if len(text) > self._settings.max_inline_chars:
            raise InputError(
                f"the text has {len(text)} characters, and {self._settings.max_inline_chars} are allowed",
                code=Code.TOO_LARGE,
                unchanged=_NOTHING,
                next_step="save it as a file and ingest that, split it, or raise APEX_MAX_INLINE_CHARS",
            )
        text = clean_text(text)
        if says_nothing(text):
            raise InputError(
                "the text is empty",
                code=Code.EMPTY_CONTENT,
                unchanged=_NOTHING,
                next_step="send the text to be remembered",
            )
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        said_at = _in_utc(given.document_time) if given.document_time else None
        key = _key(given.key) or ids.text_key(digest, said_at)
        request = IngestionRequest(
            **_checked(given, [digest]),
            key=key,
            source_type=SourceType.INLINE,
            lane=Lane.FAST if len(content) <= _QUICK_BYTES else Lane.OWN,
            uri=f"apex://documents/{ids.document_id(given.namespace, key)}",
            text=text,
            media_type=_type_of_text(given.media_type) or MediaType.MARKDOWN,
            size_bytes=len(content),
        )
        return _in_words_of(self._ontology, request)


def _in_words_of(ontology: Ontology, request: IngestionRequest) -> IngestionRequest:
    """The request with the ontology's words for what is given; a word that it does not know stays as it is."""
    entities = [replace(one, type=ontology.type_of(one.type) or one.type) for one in request.entities]
    named = {ids.normalise_name(name) for one in entities for name in (one.name, *one.aliases)}
    facts: list[FactInput] = []
    for fact in request.facts:
        predicate, turned = ontology.known_predicate(fact.predicate), ontology.turned(fact.predicate)
        if predicate is None or (turned and len(fact.object) > _MAX_NAME):
            facts.append(fact)
            continue
        subject, object_ = (fact.object, fact.subject) if turned else (fact.subject, fact.object)
        said = fact.sentence
        if predicate != fact.predicate and not said.strip():
            said = f"{fact.subject} {fact.predicate.replace('_', ' ')} {fact.object}"
        facts.append(replace(fact, subject=subject, predicate=predicate, object=object_, sentence=said))
        if turned and ids.normalise_name(fact.subject) not in named:
            # As the subject it would have become an entity.
            named.add(ids.normalise_name(fact.subject))
            entities.append(EntityInput(name=fact.subject, type=""))
    return replace(request, entities=tuple(entities), facts=tuple(facts))


def _type_of_text(declared: str) -> str:
    """What a text is said to be, if a text can be that.

    Raises:
        InputError: it can't (`unsupported_type`).
    """
    plain = declared.partition(";")[0].strip().lower()
    if plain and not plain.startswith("text/") and plain not in _TYPES_OF_TEXT:
        raise InputError(
            "no text is of that `media_type`",
            code=Code.UNSUPPORTED_TYPE,
            unchanged=_NOTHING,
            next_step="leave it out, or give text/plain, text/markdown, text/html, text/csv, application/json or "
            "message/rfc822; name a file of another type by `source`",
        )
    return plain


def _checked(given: Given, content: Sequence[str]) -> dict[str, Any]:
    """The fields of a request that are the same for all sources; `content` is what tells one content from another."""
    beside = _beside(given)
    return {
        "namespace": check_namespace(given.namespace),
        "fingerprint": _fingerprint(content, beside),
        "title": given.title,
        "document_time": given.document_time,
        "metadata": given.metadata,
        "entities": tuple(replace(one, type=ids.normalise_type(one.type)) for one in given.entities),
        "facts": tuple(given.facts),
        "idempotency_key": _key(given.idempotency_key),
    }


def _file_request(found: LocalFile, given: Given, content: Sequence[str], *, bulk: bool) -> IngestionRequest:
    return IngestionRequest(
        **_checked(given, content),
        key=_key(given.key) or found.uri,
        source_type=SourceType.LOCAL_UPLOAD,
        lane=_file_lane(found),
        uri=found.uri,
        path=str(found.path),
        media_type=given.media_type,
        size_bytes=found.size_bytes,
        bulk=bulk,
    )


def _file_lane(found: LocalFile) -> Lane:
    quick = found.size_bytes <= _QUICK_BYTES and Path(found.path).suffix.lower() in _QUICK_SUFFIXES
    return Lane.FAST if quick else Lane.OWN


def _key(key: str | None) -> str | None:
    key = clean_text(key or "").strip()
    if len(key) > _MAX_KEY:
        raise InputError(
            f"a key has at most {_MAX_KEY} characters", unchanged=_NOTHING, next_step="choose a shorter key"
        )
    return key or None


def _beside(given: Given) -> dict[str, Any]:
    """What the caller gives beside the content, as plain data, if it can be kept."""
    if len(given.entities) > _MAX_GIVEN or len(given.facts) > _MAX_GIVEN:
        raise InputError(
            f"at most {_MAX_GIVEN} entities and {_MAX_GIVEN} facts can be given with one document",
            unchanged=_NOTHING,
            next_step="send the most important ones",
        )
    for entity in given.entities:
        _check_name(entity.name, "an entity's name")
        _check_name(entity.type, "an entity's type")
        for alias in entity.aliases:
            _check_name(alias, "an alias")
    for fact in given.facts:
        _check_name(fact.subject, "a fact's subject")
        _check_name(fact.predicate, "a fact's predicate")
        _check_name(fact.object, "a fact's object", longest=_MAX_SENTENCE)
        if len(fact.sentence) > _MAX_SENTENCE:
            raise _unfit("a fact's sentence", f"is longer than {_MAX_SENTENCE} characters")
        if fact.valid_at and fact.invalid_at and _utc(fact.invalid_at) <= _utc(fact.valid_at):
            raise _unfit("a fact's `invalid_at`", "is not after its `valid_at`, so it would never be true")
    beside: dict[str, Any] = {
        "metadata": given.metadata,
        "entities": [asdict(one) for one in given.entities],
        "facts": [asdict(one) for one in given.facts],
        "title": given.title,
        "document_time": given.document_time,
    }
    try:
        plain = json.dumps(beside, default=str, sort_keys=True, allow_nan=False)
        plain.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            "metadata must be plain JSON: strings, finite numbers, booleans, lists and objects",
            unchanged=_NOTHING,
            next_step="send metadata as a JSON object",
        ) from error
    if "\\u0000" in plain:
        raise InputError(
            "a value holds a NUL character", unchanged=_NOTHING, next_step="remove it and send again"
        )
    if len(json.dumps(given.metadata, default=str)) > _MAX_METADATA_CHARS:
        raise InputError(
            f"metadata has more than {_MAX_METADATA_CHARS} characters",
            unchanged=_NOTHING,
            next_step="put long content into the text",
        )
    return beside


def _check_name(name: str, what: str, *, longest: int = _MAX_NAME) -> None:
    if len(name) > longest:
        raise _unfit(what, f"is longer than {longest} characters")
    if not ids.normalise_name(name):
        raise _unfit(what, "has no letters or digits")


def _unfit(what: str, why: str) -> InputError:
    return InputError(f"{what} {why}", unchanged=_NOTHING, next_step="correct it and send the whole again")


def _utc(time_: datetime) -> datetime:
    return time_ if time_.tzinfo else time_.replace(tzinfo=UTC)


def _in_utc(time_: datetime) -> datetime:
    try:
        return _utc(time_).astimezone(UTC)
    except OverflowError:
        raise _unfit("document_time", "is before the first year, or after the last") from None


def _fingerprint(content: Sequence[str], beside: dict[str, Any]) -> str:
    body = json.dumps([list(content), beside], sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()
