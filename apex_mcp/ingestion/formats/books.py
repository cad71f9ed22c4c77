"""EPUB books: the chapters in reading order, through the HTML reader."""

import posixpath

from apex_mcp.ingestion.decoding import decode_text
from apex_mcp.ingestion.formats.package import Package, resolve
from apex_mcp.ingestion.formats.reading import Reading, TextBuilder, malformed, parse_time, password_protected
from apex_mcp.ingestion.formats.web import add_html

_LABEL = "the EPUB book"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
_OPF = "{http://www.idpf.org/2007/opf}"
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_ENCRYPTION = "META-INF/encryption.xml"


def read_epub(data: bytes) -> Reading:
    """Read a book."""
    builder = TextBuilder()
    with Package(data, _LABEL) as package:
        listed = next(package.xml("META-INF/container.xml").iter(_CONTAINER), None)
        if listed is None:
            raise malformed(_LABEL, "its list of contents is missing")
        main = resolve("", listed.get("full-path", ""))
        book = package.xml(main)
        folder = posixpath.dirname(main)
        files = {item.get("id"): resolve(folder, item.get("href", "")) for item in book.iter(f"{_OPF}item")}
        chapters = [files.get(item.get("idref")) for item in book.iter(f"{_OPF}itemref")]
        encrypted = decode_text(package.read(_ENCRYPTION)) if _ENCRYPTION in package.names else ""
        missing = 0
        for chapter in chapters:
            if chapter is None or chapter not in package.names:
                missing += 1
                continue
            # Fonts may be scrambled in any book; chapters are encrypted by copy protection only.
            if f'"{chapter}"' in encrypted:
                raise password_protected()
            add_html(builder, decode_text(package.read(chapter), markup=True))
        title, time = (book.find(f".//{_DUBLIN_CORE}{name}") for name in ("title", "date"))
        return Reading(
            text=builder.text,
            title="" if title is None else " ".join((title.text or "").split()),
            headings=builder.headings,
            document_time=None if time is None else parse_time(time.text),
            warnings=(f"{missing} of {len(chapters)} chapters are missing in the book",) if missing else (),
        )
