"""Small documents, made by hand: only what a reader of each format needs to find."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def make_zip(members: Mapping[str, str | bytes], *, stored: Sequence[str] = ()) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            kind = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, compress_type=kind)
    return buffer.getvalue()


def _content_types(parts: Mapping[str, str]) -> str:
    overrides = "".join(
        f'<Override PartName="/{name}" '
        f'ContentType="application/vnd.openxmlformats-officedocument.{kind}+xml"/>'
        for name, kind in parts.items()
    )
    return (
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )


def _relations(targets: Mapping[str, tuple[str, str]]) -> str:
    items = "".join(
        f'<Relationship Id="{key}" Type="{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{items}</Relationships>'


_CORE = (
    f'{_XML}<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><dc:title>{title}</dc:title>'
    '<dcterms:created xsi:type="dcterms:W3CDTF">{created}</dcterms:created></cp:coreProperties>'
)


def _package(main: str, kind: str, members: dict[str, str], parts: dict[str, str], title: str) -> bytes:
    relations = {"rId1": (f"{_OFFICE}/officeDocument", main)}
    if title:
        relations["rId2"] = (f"{_PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml")
        members["docProps/core.xml"] = _CORE.format(title=escape(title), created="2024-03-05T10:00:00Z")
    return make_zip({
        "[Content_Types].xml": _content_types({main: kind, **parts}),
        "_rels/.rels": _relations(relations),
        **members,
    })


def make_docx(
    paragraphs: Sequence[tuple[str, str]], *, table: Sequence[Sequence[str]] = (), title: str = ""
) -> bytes:
    """A Word document of (style, text); styles are "", "Heading1" to "Heading3"."""
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(
        f'<w:p>{f"""<w:pPr><w:pStyle w:val="{style}"/></w:pPr>""" if style else ""}'
        f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    rows = "".join(
        "<w:tr>"
        + "".join(f"<w:tc><w:p><w:r><w:t>{escape(cell)}</w:t></w:r></w:p></w:tc>" for cell in row)
        + "</w:tr>"
        for row in table
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/>'
        f'<w:pPr><w:outlineLvl w:val="{level - 1}"/></w:pPr></w:style>'
        for level in (1, 2, 3)
    )
    return _package(
        "word/document.xml",
        "wordprocessingml.document.main",
        {
            "word/document.xml": f'{_XML}<w:document xmlns:w="{namespace}"><w:body>{body}'
            f"{f'<w:tbl>{rows}</w:tbl>' if rows else ''}</w:body></w:document>",
            "word/styles.xml": f'{_XML}<w:styles xmlns:w="{namespace}">{styles}</w:styles>',
            "word/_rels/document.xml.rels": _relations({"rId1": (f"{_OFFICE}/styles", "styles.xml")}),
        },
        {"word/styles.xml": "wordprocessingml.styles"},
        title,
    )


def make_pptx(slides: Sequence[tuple[str, Sequence[str]]], *, title: str = "", notes: str = "") -> bytes:
    """A presentation of (slide title, paragraphs); `notes` are the speaker's, on the first slide."""
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/main"
    namespace = "http://schemas.openxmlformats.org/presentationml/2006/main"
    spaces = f'xmlns:a="{drawing}" xmlns:p="{namespace}" xmlns:r="{_OFFICE}"'

    def shape(number: int, placeholder: str, texts: Sequence[str]) -> str:
        lines = "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in texts)
        return (
            f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="Shape {number}"/><p:cNvSpPr/><p:nvPr>'
            f'<p:ph type="{placeholder}"/></p:nvPr></p:nvSpPr><p:spPr/>'
            f"<p:txBody><a:bodyPr/>{lines}</p:txBody></p:sp>"
        )

    def tree(shapes: str) -> str:
        return (
            "<p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr>"
            f"<p:grpSpPr/>{shapes}</p:spTree></p:cSld>"
        )

    members: dict[str, str] = {}
    parts: dict[str, str] = {}
    for number, (heading, texts) in enumerate(slides, start=1):
        shapes = (shape(2, "title", [heading]) if heading else "") + (
            shape(3, "body", texts) if texts else ""
        )
        members[f"ppt/slides/slide{number}.xml"] = f"{_XML}<p:sld {spaces}>{tree(shapes)}</p:sld>"
        parts[f"ppt/slides/slide{number}.xml"] = "presentationml.slide"
    if notes:
        members["ppt/notesSlides/notesSlide1.xml"] = (
            f"{_XML}<p:notes {spaces}>{tree(shape(2, 'body', [notes]))}</p:notes>"
        )
        members["ppt/slides/_rels/slide1.xml.rels"] = _relations({
            "rId1": (f"{_OFFICE}/notesSlide", "../notesSlides/notesSlide1.xml")
        })
        parts["ppt/notesSlides/notesSlide1.xml"] = "presentationml.notesSlide"
    numbers = range(1, len(slides) + 1)
    ids = "".join(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>' for number in numbers)
    members["ppt/presentation.xml"] = (
        f"{_XML}<p:presentation {spaces}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    )
    members["ppt/_rels/presentation.xml.rels"] = _relations({
        f"rId{number}": (f"{_OFFICE}/slide", f"slides/slide{number}.xml") for number in numbers
    })
    return _package("ppt/presentation.xml", "presentationml.presentation.main", members, parts, title)


def make_xlsx(sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> bytes:
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    members: dict[str, str] = {}
    parts: dict[str, str] = {}
    listed = ""
    for number, (name, rows) in enumerate(sheets.items(), start=1):
        cells = ""
        for row_number, row in enumerate(rows, start=1):
            cells += f'<row r="{row_number}">'
            for column, value in enumerate(row):
                place = f"{chr(ord('A') + column)}{row_number}"
                if isinstance(value, str):
                    cells += f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
                else:
                    cells += f'<c r="{place}"><v>{value}</v></c>'
            cells += "</row>"
        path = f"xl/worksheets/sheet{number}.xml"
        members[path] = f'{_XML}<worksheet xmlns="{namespace}"><sheetData>{cells}</sheetData></worksheet>'
        parts[path] = "spreadsheetml.worksheet"
        listed += f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
    members["xl/workbook.xml"] = (
        f'{_XML}<workbook xmlns="{namespace}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>'
    )
    members["xl/_rels/workbook.xml.rels"] = _relations({
        f"rId{number}": (f"{_OFFICE}/worksheet", f"worksheets/sheet{number}.xml")
        for number in range(1, len(sheets) + 1)
    })
    return _package("xl/workbook.xml", "spreadsheetml.sheet.main", members, parts, "")


def make_epub(chapters: Mapping[str, str], *, title: str) -> bytes:
    """A book of chapter title -> XHTML body."""
    members: dict[str, str] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": f'{_XML}<container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>",
    }
    items = spine = ""
    for number, (name, body) in enumerate(chapters.items(), start=1):
        members[f"OEBPS/c{number}.xhtml"] = (
            f'{_XML}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{escape(name)}</title></head>'
            f"<body>{body}</body></html>"
        )
        items += f'<item id="c{number}" href="c{number}.xhtml" media-type="application/xhtml+xml"/>'
        spine += f'<itemref idref="c{number}"/>'
    members["OEBPS/book.opf"] = (
        f'{_XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title>'
        '<dc:identifier id="id">urn:x:1</dc:identifier><dc:date>2021-02-03</dc:date></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    return make_zip(members, stored=["mimetype"])


def make_pdf(pages: Sequence[Sequence[str]], *, title: str = "") -> bytes:
    """A PDF of pages of lines; a line that starts with "# " is set large, as headings are."""
    objects: list[bytes] = []

    def add(body: str | bytes) -> int:
        objects.append(body.encode("latin-1") if isinstance(body, str) else body)
        return len(objects)

    add("<< /Type /Catalog /Pages 2 0 R >>")
    kids = " ".join(f"{5 + 2 * index} 0 R" for index in range(len(pages)))
    add(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>")
    add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    add(f"<< /Title ({title}) /CreationDate (D:20240305100000Z) >>")
    for lines in pages:
        drawn: list[str] = []
        height = 760
        for line in lines:
            size, text = (24, line[2:]) if line.startswith("# ") else (11, line)
            for special in "\\()":
                text = text.replace(special, "\\" + special)
            drawn.append(f"BT /F1 {size} Tf 60 {height} Td ({text}) Tj ET")
            height -= 2 * size if size > 11 else 14
        stream = "\n".join(drawn)
        add(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {len(objects) + 2} 0 R >>"
        )
        add(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out = bytearray(b"%PDF-1.4\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        start,
    )
    return bytes(out)
