"""Bytes of any supported type to a `ParsedDocument`, or an error that says what is wrong with them."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from apex_mcp.errors import ApexError, Code, InputError
from apex_mcp.ingestion.decoding import says_nothing
from apex_mcp.ingestion.detection import SUPPORTED_EXTENSIONS, MediaType, detect
from apex_mcp.ingestion.formats.books import read_epub
from apex_mcp.ingestion.formats.mail import read_email
from apex_mcp.ingestion.formats.native import read_pdf, read_rtf, read_xlsx
from apex_mcp.ingestion.formats.office import read_docx, read_pptx
from apex_mcp.ingestion.formats.plain import read_csv, read_json, read_markdown, read_text
from apex_mcp.ingestion.formats.reading import Reading, malformed
from apex_mcp.ingestion.formats.web import read_html
from apex_mcp.models import ParsedDocument
from apex_mcp.wording import counted

_READERS: dict[MediaType, Callable[[bytes], Reading]] = {
    MediaType.PDF: read_pdf,
    MediaType.DOCX: read_docx,
    MediaType.PPTX: read_pptx,
    MediaType.XLSX: read_xlsx,
    MediaType.EPUB: read_epub,
    MediaType.RTF: read_rtf,
    MediaType.EMAIL: read_email,
    MediaType.HTML: read_html,
    MediaType.MARKDOWN: read_markdown,
    MediaType.CSV: read_csv,
    MediaType.JSON: read_json,
    MediaType.TEXT: read_text,
}
_TEXTS = frozenset((MediaType.TEXT, MediaType.MARKDOWN, MediaType.CSV, MediaType.JSON))
# What others may have made of scanned pages.
_SCANS = frozenset((MediaType.PDF, MediaType.DOCX, MediaType.PPTX, MediaType.EPUB, MediaType.RTF))
# Titles that programs put there by themselves.
_NO_TITLE = re.compile(
    r"untitled.*|document\s?\d*|microsoft \w+ - .*|(powerpoint )?presentation\s?\d*|slide \d+|"
    r".*\.(docx?|pptx?|xlsx?|pdf|rtf|odt|indd|html?|txt|tex|dvi|jpe?g|png|tiff?)",
    re.IGNORECASE,
)
_MAX_TITLE_CHARS = 200
_MAX_HEADING_CHARS = 300  # every passage below a heading repeats it
_TITLE_WITHIN_CHARS = 1_000


def parse(data: bytes, *, name: str, media_type: str = "", max_text_chars: int) -> ParsedDocument:
    """Read a document.

    Args:
        data: its content.
        name: its file name or key; tells the type where the content does not, and the title where nothing does.
        media_type: what the source declared, if anything.
        max_text_chars: longest text that is taken.

    Raises:
        InputError: with the code of what is wrong: `empty_content`, `no_text`, `unsupported_type`,
            `type_mismatch`, `password_protected`, `malformed`, `too_large`.
    """
    kind = detect(data, name, declared=media_type)
    # No charset needs more than four bytes for a character.
    if kind in _TEXTS and len(data) > 4 * max_text_chars:
        raise _too_large(f"more than {len(data) // 4:,}", max_text_chars)
    try:
        reading = _READERS[kind](data)
    except (ApexError, MemoryError):
        raise
    except RecursionError:
        raise malformed(kind.label, "it is nested too deep") from None
    except Exception as error:
        raise malformed(kind.label, f"it is damaged or unusual ({type(error).__name__})") from error
    if len(reading.text) > max_text_chars:
        raise _too_large(f"{len(reading.text):,}", max_text_chars)
    if says_nothing(reading.text):
        raise _without_text(kind, len(reading.pages))
    return ParsedDocument(
        text=reading.text,
        title=_title(reading, kind, name),
        media_type=kind,
        pages=reading.pages,
        headings=tuple(
            replace(one, title=_shortened(one.title, _MAX_HEADING_CHARS)) for one in reading.headings
        ),
        document_time=reading.document_time,
        metadata=reading.metadata,
        warnings=(*reading.warnings, *_replaced(kind, data, reading.text)),
    )


def _title(reading: Reading, kind: MediaType, name: str) -> str:
    """The document's own title, else its first heading, its file's name, its first line."""
    own = " ".join(reading.title.split())
    # A table's first heading is a sheet's name or its columns', and one after much text is a chapter's.
    early = [one.title for one in reading.headings[:1] if one.start < _TITLE_WITHIN_CHARS]
    heading = early[0] if early and kind not in (MediaType.XLSX, MediaType.CSV) else ""
    path = PurePosixPath(name.replace("\\", "/"))
    file = path.stem if path.suffix.lower() in SUPPORTED_EXTENSIONS else path.name
    first_line = reading.text.strip().partition("\n")[0]
    title = next(
        found for found in ("" if _NO_TITLE.fullmatch(own) else own, heading, file, first_line) if found
    )
    return _shortened(title, _MAX_TITLE_CHARS)


def _shortened(title: str, longest: int) -> str:
    return title if len(title) <= longest else title[: longest - 1].rstrip() + "…"


def _replaced(kind: MediaType, data: bytes, text: str) -> list[str]:
    """That bytes of a text are no characters of its charset; those that stood for such before are not counted."""
    lost = text.count("\ufffd") - data.count("\ufffd".encode()) if kind in _TEXTS else 0
    return [f"{lost} bytes could not be decoded, and stand as \ufffd"] if lost > 0 else []


def _too_large(found: str, limit: int) -> InputError:
    return InputError(
        f"the document's text has {found} characters; the longest that is taken is {limit:,}",
        code=Code.TOO_LARGE,
        unchanged="nothing was stored",
        next_step="split the document, or raise APEX_MAX_TEXT_CHARS",
        details={"max_text_chars": limit},
    )


def _without_text(kind: MediaType, pages: int) -> InputError:
    if kind in _TEXTS:
        return InputError(
            "the document is empty",
            code=Code.EMPTY_CONTENT,
            unchanged="nothing was stored",
            next_step="check that the right file was given and that it is complete",
        )
    if kind not in _SCANS:
        return InputError(
            f"there is no text in {kind.label}; pictures and attachments are not read",
            code=Code.NO_TEXT,
            unchanged="nothing was stored",
            next_step="check that the right file was given; save attachments as files of their own and ingest these",
        )
    of_pages = f" of {counted(pages, 'page')}" if pages else ""
    return InputError(
        f"there is no text in {kind.label}{of_pages}; scanned pages and pictures are not read (there is no OCR)",
        code=Code.NO_TEXT,
        unchanged="nothing was stored",
        next_step="make its text selectable with a text recognition (OCR) program, then ingest the result",
        details={"pages": pages},
    )
