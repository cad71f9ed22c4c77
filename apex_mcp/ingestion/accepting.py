"""From what a caller asks to a request that the record can keep: everything that can be refused at the door is refused here."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from apex_mcp import ids
from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.ingestion.sources.local import LocalFile, find_file
from apex_mcp.models import EntityInput, FactInput, IngestionRequest, Lane, SourceType
from apex_mcp.settings import Settings

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_KEY = 1024
_MAX_METADATA_CHARS = 20_000
_MAX_GIVEN = 500
# Text that needs no parser worth speaking of; small ones go together in a group.
_QUICK_SUFFIXES = frozenset({".txt", ".md", ".markdown", ".html", ".htm", ".json", ".csv", ".eml"})
_QUICK_BYTES = 256_000
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


class Door:
    """Makes requests of what callers ask.

    Args:
        settings: for its limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def file(
        self,
        caller: Caller,
        source: str,
        *,
        namespace: str,
        key: str | None = None,
        title: str = "",
        media_type: str = "",
        document_time: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entities: Sequence[EntityInput] = (),
        facts: Sequence[FactInput] = (),
        idempotency_key: str | None = None,
        bulk: bool = False,
    ) -> IngestionRequest:
        """A request for one file.

        Raises:
            InputError: the file, or an argument, cannot be taken.
        """
        if "://" in source and not source.startswith("file:"):
            raise InputError(
                f"documents cannot be fetched from {source.split(':', 1)[0][:20]!r} addresses yet",
                code=Code.SOURCE_NOT_SUPPORTED,
                unchanged=_NOTHING,
                next_step="give a path of this machine, or pass the content as `text`",
            )
        found = find_file(source, caller, home=self._settings.home, max_bytes=self._settings.max_file_bytes)
        given = _given(metadata, entities, facts, title, document_time)
        return IngestionRequest(
            namespace=check_namespace(namespace),
            key=_key(key) or found.uri,
            source_type=SourceType.LOCAL_UPLOAD,
            lane=_file_lane(found),
            fingerprint=_fingerprint([str(found.size_bytes), str(found.modified_ns), found.uri], given),
            title=title,
            uri=found.uri,
            path=str(found.path),
            media_type=media_type,
            document_time=document_time,
            metadata=metadata or {},
            entities=tuple(entities),
            facts=tuple(facts),
            size_bytes=found.size_bytes,
            idempotency_key=_key(idempotency_key),
            bulk=bulk,
        )

    def text(
        self,
        text: str,
        *,
        namespace: str,
        key: str | None = None,
        title: str = "",
        media_type: str = "",
        document_time: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entities: Sequence[EntityInput] = (),
        facts: Sequence[FactInput] = (),
        idempotency_key: str | None = None,
    ) -> IngestionRequest:
        """A request for inline text. Without a key the text itself is the key: the same text is remembered once.

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
        if not text.strip():
            raise InputError(
                "the text is empty",
                code=Code.EMPTY_CONTENT,
                unchanged=_NOTHING,
                next_step="send the text to be remembered",
            )
        digest = hashlib.sha256(text.encode()).hexdigest()
        given = _given(metadata, entities, facts, title, document_time)
        key = _key(key) or f"text:{digest[:32]}"
        return IngestionRequest(
            namespace=check_namespace(namespace),
            key=key,
            source_type=SourceType.INLINE,
            lane=Lane.FAST if len(text) <= _QUICK_BYTES else Lane.OWN,
            fingerprint=_fingerprint([digest], given),
            title=title,
            uri=f"apex://documents/{ids.document_id(namespace, key)}",
            text=text,
            media_type=media_type or "text/markdown",
            document_time=document_time,
            metadata=metadata or {},
            entities=tuple(entities),
            facts=tuple(facts),
            size_bytes=len(text.encode()),
            idempotency_key=_key(idempotency_key),
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


def _given(
    metadata: dict[str, Any] | None,
    entities: Sequence[EntityInput],
    facts: Sequence[FactInput],
    title: str,
    document_time: datetime | None,
) -> dict[str, Any]:
    """What the caller gives beside the content, as plain data, if it can be kept."""
    if len(entities) > _MAX_GIVEN or len(facts) > _MAX_GIVEN:
        raise InputError(
            f"at most {_MAX_GIVEN} entities and {_MAX_GIVEN} facts can be given with one document",
            unchanged=_NOTHING,
            next_step="send the most important ones",
        )
    given: dict[str, Any] = {
        "metadata": metadata or {},
        "entities": [asdict(one) for one in entities],
        "facts": [asdict(one) for one in facts],
        "title": title,
        "document_time": document_time,
    }
    try:
        plain = json.dumps(given, default=str, sort_keys=True, allow_nan=False)
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
    if len(json.dumps(metadata or {}, default=str)) > _MAX_METADATA_CHARS:
        raise InputError(
            f"metadata has more than {_MAX_METADATA_CHARS} characters",
            unchanged=_NOTHING,
            next_step="put long content into the text",
        )
    return given


def _fingerprint(content: Sequence[str], given: dict[str, Any]) -> str:
    body = json.dumps([list(content), given], sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()
