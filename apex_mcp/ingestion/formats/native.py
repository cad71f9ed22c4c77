"""PDF, Excel and RTF, through kreuzberg (Rust, with PDFium)."""

from typing import TYPE_CHECKING, Any

from apex_mcp.ingestion.detection import MediaType
from apex_mcp.ingestion.formats.package import Package
from apex_mcp.ingestion.formats.reading import Reading, TextBuilder, malformed, parse_time, password_protected

if TYPE_CHECKING:
    from kreuzberg import ExtractionResult


def read_pdf(data: bytes) -> Reading:
    """Read a PDF, page by page.

    The pages' plain text is complete and in order. kreuzberg's Markdown is not: it leaves lines out that it takes
    for running titles, and takes lines of prose for headings. So a PDF has pages, and no headings.
    """
    result = _extract(data, MediaType.PDF)
    builder = TextBuilder()
    pages = result.pages or []
    for page in pages:
        builder.page(page["page_number"])
        builder.block(page["content"])
    spans = builder.pages
    empty = sum(span.start == span.end for span in spans)
    metadata: dict[str, Any] = dict(result.metadata)
    return Reading(
        text=builder.text,
        title=metadata.get("title") or "",
        pages=spans,
        document_time=parse_time(metadata.get("created_at")),
        warnings=(_without_text(empty, len(spans)),) if 0 < empty < len(spans) else (),
    )


def read_xlsx(data: bytes) -> Reading:
    """Read a workbook: a page and a heading for each sheet, a line for each row."""
    # kreuzberg unpacks by itself, so the package is tried before.
    with Package(data, "the workbook") as package:
        package.check_all()
    result = _extract(data, MediaType.XLSX)
    builder = TextBuilder()
    metadata: dict[str, Any] = dict(result.metadata)
    names: list[str] = metadata.get("sheet_names") or []
    tables = {table.page_number: table.cells for table in result.tables}
    for number, name in enumerate(names, start=1):
        builder.page(number)
        rows = [
            line
            for row in tables.get(number, [])
            if (line := " | ".join(cell for cell in row if cell.strip()))
        ]
        if rows:
            builder.heading(1, name)
            builder.block("\n".join(rows))
    return Reading(
        text=builder.text,
        title=metadata.get("title") or "",
        pages=builder.pages,
        headings=builder.headings,
        document_time=parse_time(metadata.get("created_at")),
    )


def read_rtf(data: bytes) -> Reading:
    """Read a rich text."""
    builder = TextBuilder()
    builder.block(_extract(data, MediaType.RTF).content)
    return Reading(text=builder.text)


def _extract(data: bytes, kind: MediaType) -> "ExtractionResult":
    # Slow to import, and wanted in child processes only.
    from kreuzberg import ConcurrencyConfig, ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

    config = ExtractionConfig(
        output_format="plain",
        use_cache=False,
        enable_quality_processing=False,
        pages=PageConfig(extract_pages=True),
        concurrency=ConcurrencyConfig(max_threads=1),
    )
    try:
        return extract_bytes_sync(data, kind, config)
    except (KreuzbergError, ValueError, OSError, RuntimeError) as error:
        # The library has no type for it, only words.
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise password_protected() from error
        raise malformed(kind.label, "it is damaged, or not what its name says") from error


def _without_text(empty: int, total: int) -> str:
    return f"{empty} of {total} pages without text (blank, or scanned: there is no OCR)"
