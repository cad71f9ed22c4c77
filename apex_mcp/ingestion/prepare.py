"""What the pool's children run: content in; text, passages and extraction out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apex_mcp.errors import ApexError, Code, Unavailable
from apex_mcp.ingestion.chunking import chunk_document
from apex_mcp.ingestion.extraction.rules import extract
from apex_mcp.ingestion.parsing import parse
from apex_mcp.ingestion.sources.local import read_file
from apex_mcp.models import Chunk, EntityInput, Extraction, FactInput, IngestionRequest, ParsedDocument

Prepared = tuple[ParsedDocument, tuple[Chunk, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One small document: a file, or a text. `name` is what its source calls it; `staged` says that `path` is a staged copy's."""

    path: str | None
    staged: bool
    name: str
    text: str | None
    media_type: str
    entities: tuple[EntityInput, ...]
    facts: tuple[FactInput, ...]

    @classmethod
    def of(cls, request: IngestionRequest, staged: Path | None = None) -> "Item":
        """What of a request preparing needs; `staged` is where its content was staged, if it was."""
        return cls(
            path=str(staged) if staged is not None else request.path,
            staged=staged is not None,
            name=Path(request.path).name if request.path is not None else request.title,
            text=request.text,
            media_type=request.media_type,
            entities=request.entities,
            facts=request.facts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A prepared document; `digest` is the SHA-256 of its raw content."""

    digest: str
    parsed: ParsedDocument
    chunks: tuple[Chunk, ...]
    extraction: Extraction


def parse_and_chunk(path: str, name: str, media_type: str, max_text_chars: int) -> Prepared:
    """Read a staged file.

    Args:
        path: the staged file.
        name: the name or key that the document has where it comes from.
        media_type: what its source declared, or "".
        max_text_chars: longest text that is taken.

    Raises:
        InputError: the document can't be taken; see `parse`.
        Unavailable: the staged file can't be read now.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Unavailable("the staged content can't be read", code=Code.PATH_NOT_READABLE) from error
    document = parse(data, name=name, media_type=media_type, max_text_chars=max_text_chars)
    return document, chunk_document(document)


def prepare_together(items: Sequence[Item], max_bytes: int, max_chars: int) -> list[Outcome | ApexError]:
    """Prepare each item; one that cannot be prepared gives its error and stops no other."""
    outcomes: list[Outcome | ApexError] = []
    for item in items:
        try:
            outcomes.append(_prepare(item, max_bytes, max_chars))
        except ApexError as error:
            outcomes.append(error)
    return outcomes


def extract_all(
    parsed: ParsedDocument,
    chunks: tuple[Chunk, ...],
    entities: tuple[EntityInput, ...],
    facts: tuple[FactInput, ...],
) -> Extraction:
    """Extraction of one document, as a call of a child process."""
    return extract(parsed, chunks, given_entities=entities, given_facts=facts)


def _prepare(item: Item, max_bytes: int, max_chars: int) -> Outcome:
    if item.path is not None:
        # Our own folder may well lie behind a link; of what a caller named, the real path was accepted.
        path = Path(item.path).resolve() if item.staged else Path(item.path)
        data, digest = read_file(path, max_bytes=max_bytes)
    else:
        data = (item.text or "").encode()
        digest = hashlib.sha256(data).hexdigest()
    parsed = parse(data, name=item.name, media_type=item.media_type, max_text_chars=max_chars)
    chunks = chunk_document(parsed)
    extraction = extract_all(parsed, chunks, item.entities, item.facts)
    return Outcome(digest=digest, parsed=parsed, chunks=chunks, extraction=extraction)
