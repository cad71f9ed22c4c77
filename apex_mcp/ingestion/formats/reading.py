"""What a format's reader gives, and how it is put together block by block, which keeps offsets right."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.models import HeadingSpan, PageSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A document as its format's reader understood it; the fields are those of `ParsedDocument`."""

    text: str
    title: str = ""
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[HeadingSpan, ...] = ()
    document_time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()


class TextBuilder:
    """Joins blocks into one clean text and notes where pages and headings are."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._page: int | None = None
        self._page_start: int | None = None
        self._pages: list[PageSpan] = []
        self._headings: list[HeadingSpan] = []

    def page(self, number: int) -> None:
        """What follows stands on this page."""
        self._end_page()
        self._page = number

    def heading(self, level: int, text: str) -> None:
        """Add a heading, on one line."""
        title = " ".join(clean_text(text).split())
        if title:
            start = self._add(title, "\n\n")
            self._headings.append(HeadingSpan(level=level, title=title, start=start, end=self._length))

    def block(self, text: str, *, tight: bool = False) -> None:
        """Add a paragraph; `tight` puts it on the line after the last block, as rows and list items are."""
        cleaned = "\n".join(line.rstrip() for line in clean_text(text).split("\n")).strip("\n")
        if cleaned.strip():
            self._add(cleaned, "\n" if tight else "\n\n")

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def headings(self) -> tuple[HeadingSpan, ...]:
        return tuple(self._headings)

    @property
    def pages(self) -> tuple[PageSpan, ...]:
        """All pages so far; a page without text has an empty span."""
        self._end_page()
        return tuple(self._pages)

    def _add(self, text: str, separator: str) -> int:
        if self._length:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        if self._page_start is None:
            self._page_start = start
        self._parts.append(text)
        self._length += len(text)
        return start

    def _end_page(self) -> None:
        if self._page is not None:
            start = self._length if self._page_start is None else self._page_start
            self._pages.append(PageSpan(number=self._page, start=start, end=self._length))
        self._page = None
        self._page_start = None


def parse_time(value: str | None) -> datetime | None:
    """A time from metadata, as in ISO 8601 or in an e-mail; UTC where no zone is given, None if it is none."""
    text = (value or "").strip()
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
            # Conversion, not only parsing, fails for years at the ends of the calendar.
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def malformed(label: str, what: str) -> InputError:
    """The error for a document whose inside is not as its format demands."""
    return InputError(
        f"{label} can't be read: {what}",
        code=Code.MALFORMED,
        unchanged="nothing was stored",
        next_step="get the file again, or open it in its own program and save it anew",
    )


def password_protected() -> InputError:
    """The error for a document that opens with a password only."""
    return InputError(
        "the document is protected by a password",
        code=Code.PASSWORD_PROTECTED,
        unchanged="nothing was stored",
        next_step="save a copy without a password in its own program, then ingest the copy",
    )
