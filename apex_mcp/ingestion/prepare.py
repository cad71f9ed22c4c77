"""What the pool's children run: a staged file to its parsed document and passages."""

from collections.abc import Sequence
from pathlib import Path

from apex_mcp.errors import ApexError, Code, Unavailable
from apex_mcp.ingestion.chunking import chunk_document
from apex_mcp.ingestion.parsing import parse
from apex_mcp.models import Chunk, ParsedDocument

Prepared = tuple[ParsedDocument, tuple[Chunk, ...]]
Item = tuple[str, str, str, int]


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


def parse_and_chunk_many(items: Sequence[Item]) -> list[Prepared | ApexError]:
    """Read several small files, one after another; the arguments of each are those of `parse_and_chunk`.

    One that can't be taken has its error in its place and stops none of the others.
    """
    results: list[Prepared | ApexError] = []
    for item in items:
        try:
            results.append(parse_and_chunk(*item))
        except ApexError as error:
            results.append(error)
    return results
