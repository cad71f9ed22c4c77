# /// script
# requires-python = ">=3.11"
# dependencies = ["reportlab==5.1.0", "python-docx==1.2.0", "python-pptx==1.0.2"]
# ///
# pyright: basic, reportMissingImports=false
# (Its three packages are needed here only, and are no dependencies of the project.)
"""Make the demo's binary files: the contract (PDF), the quarterly report (Word), the slides (PowerPoint).

    uv run examples/build_demo_corpus.py

Two runs give the same bytes. The other files of `examples/demo/` are written by hand.
"""

import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from demo_corpus_texts import CLAUSES, COMPLAINTS, CONTRACT_TITLE, REPORT, RISKS, SITES, TARGETS, TIMELINE
from docx import Document
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor
from pptx import Presentation
from pptx.dml.color import RGBColor as SlideColour
from pptx.enum.shapes import MSO_SHAPE
from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    HRFlowable,
    KeepTogether,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

DEMO = Path(__file__).parent / "demo"
DEEP, PALE, LINE, GREY = "14505C", "E8F1F2", "C9D8DA", "5B6B6E"
ZIP_TIME = (2026, 1, 1, 0, 0, 0)


def main() -> None:
    build_contract(DEMO / "contract-tw-2024-117-renewal.pdf", datetime(2026, 5, 28, 9, 0, tzinfo=UTC))
    build_report(DEMO / "quarterly-report-2026-q2.docx", datetime(2026, 7, 17, 7, 30, tzinfo=UTC))
    build_slides(DEMO / "sandpiper-2-all-hands.pptx", datetime(2026, 6, 9, 8, 0, tzinfo=UTC))


def fix_zip_times(path: Path) -> None:
    """Word and PowerPoint files are zip archives: give their members a fixed time instead of the clock's."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 0  # the same on every platform
            archive.writestr(info, content)


def build_contract(path: Path, date: datetime) -> None:
    # reportlab takes the document's date from here.
    os.environ["SOURCE_DATE_EPOCH"] = str(int(date.timestamp()))

    deep, line, grey = HexColor(f"#{DEEP}"), HexColor(f"#{LINE}"), HexColor(f"#{GREY}")
    body = ParagraphStyle(
        "body", fontName="Times-Roman", fontSize=11, leading=15, alignment=TA_JUSTIFY, spaceAfter=5
    )
    numbered = ParagraphStyle("numbered", parent=body, leftIndent=11 * mm, bulletIndent=0)
    heading = ParagraphStyle(
        "heading",
        fontName="Helvetica-Bold",
        fontSize=12.5,
        leading=16,
        textColor=deep,
        spaceBefore=11,
        spaceAfter=4,
        keepWithNext=1,
    )
    title = ParagraphStyle(
        "title", fontName="Helvetica-Bold", fontSize=20, leading=25, textColor=deep, alignment=TA_CENTER
    )
    centred = ParagraphStyle("centred", parent=body, alignment=TA_CENTER, spaceAfter=2)
    small = ParagraphStyle("small", parent=body, fontSize=10, leading=13, alignment=0)

    def furniture(canvas, document) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 8.5)
        canvas.setFillColor(grey)
        canvas.drawString(25 * mm, A4[1] - 15 * mm, "Contract TW-2024-117, first renewal")
        canvas.drawRightString(A4[0] - 25 * mm, 13 * mm, f"Page {document.page} of 3")
        canvas.setStrokeColor(line)
        canvas.line(25 * mm, A4[1] - 17 * mm, A4[0] - 25 * mm, A4[1] - 17 * mm)
        canvas.restoreState()

    story = [
        Spacer(1, 4 * mm),
        Paragraph("First Renewal of Monitoring<br/>Services Contract TW-2024-117", title),
        Spacer(1, 5 * mm),
        Paragraph("between", centred),
        Paragraph("<b>Ostmere Harbour Authority</b>, Custom House, Ostmere (the Authority)", centred),
        Paragraph("and", centred),
        Paragraph("<b>Tarnwell Instruments</b>, 14 Quay Street, Ostmere (the Supplier)", centred),
        Spacer(1, 4 * mm),
        HRFlowable(width="100%", thickness=0.8, color=deep),
        Spacer(1, 2 * mm),
    ]
    for number, (name, paragraphs) in enumerate(CLAUSES, 1):
        block: list = [Paragraph(f"{number}. {name}", heading)]
        block += [
            Paragraph(text, numbered, bulletText=f"{number}.{item}")
            for item, text in enumerate(paragraphs, 1)
        ]
        story.append(KeepTogether(block))
    rule = "_" * 34
    signatures = Table(
        [
            [Paragraph("For the Authority", small), Paragraph("For the Supplier", small)],
            [Paragraph(f"<br/>{rule}", small), Paragraph(f"<br/>{rule}", small)],
            [
                Paragraph("Benedikt Orme<br/>head of harbour environment", small),
                Paragraph("Odile Marchbanks<br/>managing director", small),
            ],
        ],
        colWidths=[80 * mm, 80 * mm],
        hAlign="LEFT",
        style=[("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")],
    )
    sites = Table(
        [list(row) for row in SITES],
        colWidths=[70 * mm, 45 * mm, 45 * mm],
        rowHeights=[8 * mm] * len(SITES),
        hAlign="LEFT",
        style=[
            ("FONT", (0, 0), (-1, -1), "Times-Roman", 11),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9.5),
            ("FONT", (0, -1), (-1, -1), "Times-Bold", 11),
            ("TEXTCOLOR", (0, 0), (-1, 0), HexColor("#FFFFFF")),
            ("BACKGROUND", (0, 0), (-1, 0), deep),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LINEBELOW", (0, 1), (-1, -3), 0.5, line),
            ("LINEABOVE", (0, -1), (-1, -1), 1, deep),
        ],
    )
    story += [
        KeepTogether([
            Paragraph("Signatures", heading),
            Paragraph("Signed at Ostmere on 28 May 2026, in two copies, one for each party.", body),
            Spacer(1, 3 * mm),
            signatures,
        ]),
        PageBreak(),
        Paragraph("Schedule A: Sites", heading),
        Paragraph("The sites and the number of probes at each. Two sites are new from 1 July 2026.", body),
        Spacer(1, 2 * mm),
        sites,
    ]
    SimpleDocTemplate(
        str(path),
        pagesize=A4,
        leftMargin=25 * mm,
        rightMargin=25 * mm,
        topMargin=24 * mm,
        bottomMargin=22 * mm,
        title=CONTRACT_TITLE,
        author="Tarnwell Instruments",
        subject="Renewal from 1 July 2026 to 30 June 2029",
        lang="en",
        invariant=1,
    ).build(story, onFirstPage=furniture, onLaterPages=furniture)


def build_report(path: Path, date: datetime) -> None:
    document = Document()
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.6)
    section.top_margin, section.bottom_margin = Cm(2.4), Cm(2.2)
    _set_report_styles(document.styles)

    document.add_paragraph("Quarterly report", style="Title")
    document.add_paragraph(
        "Tarnwell Instruments, second quarter of 2026 (April to June)\nHenrik Vasstrand, 17 July 2026",
        style="Subtitle",
    )
    for item in REPORT:
        match item:
            case (int(level), str(text)):
                document.add_heading(text, level)
            case (str(caption), list(rows)):
                document.add_paragraph(caption, style="Caption")
                _add_report_table(document, rows)
            case str(text) if text.startswith("- "):
                document.add_paragraph(text[2:], style="List Bullet").paragraph_format.space_after = Pt(4)
            case str(text):
                document.add_paragraph(text)

    footer = section.footer.paragraphs[0]
    footer.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    footer.add_run("Tarnwell Instruments, quarterly report Q2 2026, page ")
    for tag, text, attributes in (
        ("w:fldChar", None, {"w:fldCharType": "begin"}),
        ("w:instrText", "PAGE", {}),
        ("w:fldChar", None, {"w:fldCharType": "end"}),
    ):
        footer.add_run()._r.append(_element(tag, text, attributes))
    for run in footer.runs:
        run.font.size, run.font.color.rgb = Pt(8.5), RGBColor.from_string(GREY)

    properties = document.core_properties
    properties.title = "Quarterly report, second quarter of 2026"
    properties.author = properties.last_modified_by = "Henrik Vasstrand"
    properties.created = properties.modified = date.replace(tzinfo=None)
    properties.comments, properties.language, properties.revision = "", "en", 1
    document.save(str(path))
    fix_zip_times(path)


def _set_report_styles(styles) -> None:
    for name, size, colour, before, after in (
        ("Normal", 11, None, 0, 8),
        ("Title", 26, DEEP, 0, 15),
        ("Subtitle", 12, GREY, 0, 8),
        ("Heading 1", 16, DEEP, 18, 5),
        ("Heading 2", 12.5, DEEP, 12, 5),
        ("Caption", 10, GREY, 6, 4),
    ):
        style = styles[name]
        style.font.name, style.font.size = "Arial", Pt(size)
        style.font.bold, style.font.italic = name not in ("Normal", "Subtitle"), False
        fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
        for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
            fonts.attrib.pop(qn(f"w:{theme}"), None)
        fonts.set(qn("w:cs"), "Arial")
        if colour:
            style.font.color.rgb = RGBColor.from_string(colour)
        style.paragraph_format.space_before, style.paragraph_format.space_after = Pt(before), Pt(after)
    styles["Normal"].paragraph_format.line_spacing = 1.25
    styles["Caption"].paragraph_format.keep_with_next = True
    subtitle = styles["Subtitle"].element.rPr
    subtitle.remove(subtitle.find(qn("w:spacing")))
    for border in styles["Title"].element.iter(qn("w:bottom")):
        border.set(qn("w:color"), DEEP)


def _add_report_table(document, rows: list[tuple[str, ...]]) -> None:
    table = document.add_table(rows=len(rows), cols=len(rows[0]))
    table.alignment = WD_TABLE_ALIGNMENT.LEFT
    table.autofit = False
    widths = [Cm(6.8), *[Cm(3.0)] * (len(rows[0]) - 1)]
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    # Cells have an inner margin: the indent keeps the table within the text.
    indent = _element("w:tblInd", None, {"w:w": "108", "w:type": "dxa"})
    table._tbl.tblPr.find(qn("w:jc")).addnext(indent)
    for row_number, row in enumerate(rows):
        first, last = row_number == 0, row_number == len(rows) - 1
        for column, value in enumerate(row):
            cell = table.cell(row_number, column)
            cell.width = widths[column]
            edge, edge_colour, eighths = ("top", DEEP, "8") if last else ("bottom", LINE, "4")
            borders = _element("w:tcBorders")
            borders.append(
                _element(f"w:{edge}", None, {"w:val": "single", "w:sz": eighths, "w:color": edge_colour})
            )
            fill = DEEP if first else PALE if last else "FFFFFF"
            shading = _element("w:shd", None, {"w:val": "clear", "w:fill": fill})
            cell._tc.get_or_add_tcPr().extend([borders, shading])

            paragraph = cell.paragraphs[0]
            paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT if column else WD_ALIGN_PARAGRAPH.LEFT
            spacing = paragraph.paragraph_format
            spacing.space_before = spacing.space_after = Pt(3)
            spacing.line_spacing, spacing.keep_with_next = 1.0, not last
            run = paragraph.add_run(value.replace("-", "\N{MINUS SIGN}") if column else value)
            run.font.size, run.bold = Pt(10.5), first or last
            if first:
                run.font.color.rgb = RGBColor(255, 255, 255)
    after = document.add_paragraph().paragraph_format
    after.space_after, after.line_spacing = Pt(2), 0.6


def _element(tag: str, text: str | None = None, attributes: dict[str, str] | None = None):
    element = OxmlElement(tag)
    element.text = text
    for name, value in (attributes or {}).items():
        element.set(qn(name), value)
    return element


def build_slides(path: Path, date: datetime) -> None:
    presentation = Presentation()
    presentation.slide_width, presentation.slide_height = Cm(33.867), Cm(19.05)
    title_only = presentation.slide_layouts[5]
    deep, pale, line, grey, white = (SlideColour.from_string(c) for c in (DEEP, PALE, LINE, GREY, "FFFFFF"))
    dark = SlideColour.from_string("1D2B2E")

    def add_line(
        frame, text: str, size: float, *, colour=dark, bold=False, align=PP_ALIGN.LEFT, after=0
    ) -> None:
        first = frame.paragraphs[0]
        paragraph = frame.add_paragraph() if first.runs else first
        paragraph.alignment, paragraph.space_after = align, Pt(after)
        run = paragraph.add_run()
        run.text = text
        run.font.name, run.font.size, run.font.bold, run.font.color.rgb = "Arial", Pt(size), bold, colour

    def box(slide, left, top, width, height, *, anchor=MSO_ANCHOR.TOP):
        frame = slide.shapes.add_textbox(Cm(left), Cm(top), Cm(width), Cm(height)).text_frame
        frame.word_wrap, frame.vertical_anchor = True, anchor
        frame.margin_left = frame.margin_right = 0
        return frame

    def panel(slide, left, top, width, height, colour, shape=MSO_SHAPE.RECTANGLE) -> None:
        panel = slide.shapes.add_shape(shape, Cm(left), Cm(top), Cm(width), Cm(height))
        panel._element.remove(panel._element.find("{*}style"))  # the theme's shadow and outline
        panel.fill.solid()
        panel.fill.fore_color.rgb = colour

    def add_slide(title: str, notes: str):
        slide = presentation.slides.add_slide(title_only)
        heading = slide.shapes.title
        heading.left, heading.top, heading.width, heading.height = Cm(1.8), Cm(1.2), Cm(30.2), Cm(2.2)
        heading.text_frame.margin_left = 0
        heading.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE
        add_line(heading.text_frame, title, 32, colour=deep, bold=True)
        slide.notes_slide.notes_text_frame.text = notes
        return slide

    cover = add_slide("Sandpiper 2: where we are", "Welcome. Twenty minutes, then questions.")
    cover.background.fill.solid()
    cover.background.fill.fore_color.rgb = deep
    cover_title = cover.shapes.title
    cover_title.top, cover_title.height = Cm(6.2), Cm(3)
    cover_run = cover_title.text_frame.paragraphs[0].runs[0]
    cover_run.font.size, cover_run.font.color.rgb = Pt(48), white
    panel(cover, 1.8, 9.5, 5, 0.12, white)
    subtitle = box(cover, 1.8, 10, 28, 3)
    add_line(subtitle, "All hands, 9 June 2026", 20, colour=pale, after=4)
    add_line(subtitle, "Rafael Quenby, head of engineering since 4 May", 20, colour=pale)

    why = add_slide(
        "Why a second Sandpiper: three complaints", "The figures are those of the notes of March."
    )
    for number, (figure, name, text) in enumerate(COMPLAINTS):
        left = 1.8 + number * 10.3
        panel(why, left, 5.0, 9.6, 9.4, pale)
        panel(why, left, 5.0, 9.6, 0.18, deep)
        frame = box(why, left + 0.6, 5.8, 8.4, 8)
        add_line(frame, figure, 40, colour=deep, bold=True, after=6)
        add_line(frame, name, 22, bold=True, after=8)
        add_line(frame, text, 20)

    what = add_slide(
        "What the Sandpiper 2 has to reach",
        "The price is decided after the trial, not before 21 September.",
    )
    grid = what.shapes.add_table(len(TARGETS), 3, Cm(1.8), Cm(4.4), Cm(30.2), Cm(1.75 * len(TARGETS)))
    for column, width in enumerate((13.2, 8.5, 8.5)):
        grid.table.columns[column].width = Cm(width)
    for row_number, row in enumerate(TARGETS):
        for column, value in enumerate(row):
            cell = grid.table.cell(row_number, column)
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            cell.margin_left = Cm(0.4)
            cell.fill.solid()
            cell.fill.fore_color.rgb = deep if row_number == 0 else (pale if row_number % 2 else white)
            colour = white if row_number == 0 else dark
            add_line(cell.text_frame, value, 20, colour=colour, bold=row_number == 0 or column == 2)
    rest = box(what, 1.8, 15.4, 30, 1.6)
    add_line(
        rest, "Everything else stays: the five quantities, LoRaWAN and LTE-M, Tidebook.", 18, colour=grey
    )

    when = add_slide(
        "The way to the first deliveries", "The trial needs the contract's renewal, which is signed."
    )
    panel(when, 4.6, 5.9, 24.6, 0.16, line)
    for number, (day, name, detail) in enumerate(TIMELINE):
        centre = 4.6 + number * 6.15
        panel(when, centre - 0.45, 5.53, 0.9, 0.9, deep if number == 0 else line, MSO_SHAPE.OVAL)
        frame = box(when, centre - 2.95, 6.9, 5.9, 4)
        add_line(frame, day, 17, colour=deep, bold=True, align=PP_ALIGN.CENTER, after=6)
        add_line(frame, name, 19, bold=True, align=PP_ALIGN.CENTER, after=4)
        add_line(frame, detail, 16, colour=grey, align=PP_ALIGN.CENTER)
    panel(when, 1.8, 12.6, 30.2, 2.9, pale)
    add_line(
        box(when, 2.4, 12.6, 29, 2.9, anchor=MSO_ANCHOR.MIDDLE),
        "The harbour trial hangs on clause 6 of the renewed contract TW-2024-117: six probes of the new "
        "kind beside the old ones at the Grain Dock and the Outer Mole.",
        18,
    )

    risks = add_slide("What can go wrong", "Questions and offers of help to Rafael.")
    for number, (name, text) in enumerate(RISKS):
        top = 4.8 + number * 4.1
        panel(risks, 1.8, top, 0.18, 2.9, deep)
        frame = box(risks, 2.6, top, 29, 2.9, anchor=MSO_ANCHOR.MIDDLE)
        add_line(frame, name, 22, bold=True, after=6)
        add_line(frame, text, 19)

    # Last, so that a reader of the file comes to them last.
    for number, slide in enumerate(list(presentation.slides)[1:], 2):
        footer = box(slide, 1.8, 17.7, 20, 0.9)
        add_line(footer, f"Tarnwell Instruments, all hands, 9 June 2026, {number}", 11, colour=grey)

    properties = presentation.core_properties
    properties.title = "Sandpiper 2: where we are"
    properties.author = properties.last_modified_by = "Rafael Quenby"
    properties.created = properties.modified = date.replace(tzinfo=None)
    properties.comments, properties.language, properties.revision = "", "en", 1
    presentation.save(str(path))
    fix_zip_times(path)


if __name__ == "__main__":
    main()
