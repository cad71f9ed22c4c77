"""Word documents and PowerPoint presentations, read from their XML.

kreuzberg 4.10 loses escaped characters in docx ("AT&T" becomes "ATT", "<b>" becomes "b"), finds few of Word's
headings, and does not say which slide a text is on.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from apex_mcp.ingestion.formats.package import Package
from apex_mcp.ingestion.formats.reading import Reading, TextBuilder, malformed, parse_time

# Strict and transitional documents differ in their namespaces only, so names are compared without them.
_DOCX_LABEL, _PPTX_LABEL = "the Word document", "the presentation"
_HEADING_NAME = re.compile(r"heading ([1-9])", re.IGNORECASE)
_PAGE_BREAK = "\f"
_PLACEHOLDERS_OF_TITLES = ("title", "ctrTitle")


def read_docx(data: bytes) -> Reading:
    """Read a Word document: body, tables, foot- and endnotes; headers and footers are left out.

    Pages are those that Word last noted; without such notes there are none.
    """
    with Package(data, _DOCX_LABEL) as package:
        main = package.related_one("", "officeDocument")
        if main is None:
            raise malformed(_DOCX_LABEL, "its main part is missing")
        reader = _WordReader(_heading_levels(package, main))
        reader.read(_child(package.xml(main), "body"))
        for kind in ("footnotes", "endnotes"):
            if part := package.related_one(main, kind):
                # The first notes are the separating lines.
                for note in package.xml(part):
                    if _attribute(note, "type") is None:
                        reader.read(note)
        title, time = _core_properties(package)
        builder = reader.builder
        return Reading(
            text=builder.text,
            title=title,
            pages=builder.pages if reader.rendered else (),
            headings=builder.headings,
            document_time=parse_time(time),
        )


def read_pptx(data: bytes) -> Reading:
    """Read a presentation: a page for each slide, with its title as heading, and the speaker's notes."""
    builder = TextBuilder()
    with Package(data, _PPTX_LABEL) as package:
        main = package.related_one("", "officeDocument")
        if main is None:
            raise malformed(_PPTX_LABEL, "its main part is missing")
        targets = {key: target for key, kind, target in package.related(main) if kind == "slide"}
        shown = [_attribute(slide, "id", last=True) for slide in _all(package.xml(main), "sldId")]
        slides = [targets[key] for key in shown if key in targets]
        for number, slide in enumerate(slides, start=1):
            builder.page(number)
            _add_slide(builder, package.xml(slide))
            if (notes := package.related_one(slide, "notesSlide")) and (text := _notes(package.xml(notes))):
                builder.block(f"Notes: {text}")
        title, time = _core_properties(package)
    return Reading(
        text=builder.text,
        title="" if title == "PowerPoint Presentation" else title,
        pages=builder.pages,
        headings=builder.headings,
        document_time=parse_time(time),
    )


class _WordReader:
    def __init__(self, levels: dict[str, int]) -> None:
        self.builder = TextBuilder()
        self.builder.page(1)
        self._levels = levels
        self._page = 1
        self._item = False

    @property
    def rendered(self) -> bool:
        """Whether Word noted where its pages begin."""
        return self._page > 1

    def read(self, container: Element) -> None:
        for element in container:
            match _name(element):
                case "p":
                    self._paragraph(element)
                case "tbl":
                    self._table(element)
                case "sdt" | "sdtContent" | "customXml" | "ins" | "smartTag":
                    self.read(element)
                case _:
                    pass

    def _paragraph(self, paragraph: Element) -> None:
        text, breaks_within = self._turn_pages(self._text(paragraph))
        properties = _find(paragraph, "pPr")
        style = _value(properties, "pStyle")
        level = self._levels.get(style or "") or _outline_level(properties)
        listed = properties is not None and _find(properties, "numPr") is not None
        if level and len(text) < 300:
            self.builder.heading(level, text)
        elif listed and text.strip():
            self.builder.block(f"- {text.strip()}", tight=self._item)
        else:
            self.builder.block(text)
        self._item = listed and not level
        self._turn(breaks_within)

    def _table(self, table: Element) -> None:
        first = True
        for row in table:
            if _name(row) == "tr":
                parts = [self._turn_pages(self._text(cell)) for cell in row if _name(cell) in ("tc", "sdt")]
                line = " | ".join(cell for part, _ in parts if (cell := " ".join(part.split())))
                self.builder.block(line, tight=not first and bool(line))
                # Columns break together: what all cells count is one page.
                self._turn(max((breaks for _, breaks in parts), default=0))
                first = first and not line
        self._item = False

    def _turn_pages(self, text: str) -> tuple[str, int]:
        """Turn the pages that end before a text; returns it without breaks, and how many end within it."""
        before = text[: len(text) - len(text.lstrip())].count(_PAGE_BREAK)
        self._turn(before)
        return text.replace(_PAGE_BREAK, ""), text.count(_PAGE_BREAK) - before

    def _turn(self, breaks: int) -> None:
        for _ in range(breaks):
            self._page += 1
            self.builder.page(self._page)

    def _text(self, element: Element) -> str:
        return "".join(self._pieces(element))

    def _pieces(self, element: Element) -> Iterator[str]:
        for child in element:
            match _name(child):
                case "t":
                    yield child.text or ""
                case "tab":
                    yield "\t"
                case "br" | "cr":
                    yield "\n"
                case "noBreakHyphen":
                    yield "-"
                case "lastRenderedPageBreak":
                    yield _PAGE_BREAK
                case "p":  # within a cell or a text box
                    yield from self._pieces(child)
                    yield "\n"
                case "tc":
                    yield from self._pieces(child)
                    yield " "
                # Properties have tabs of their own; what was deleted or moved away is no text any more; a
                # fallback says again what its alternative says.
                case "pPr" | "rPr" | "tcPr" | "tblPr" | "del" | "moveFrom" | "Fallback":
                    pass
                case _:
                    yield from self._pieces(child)


def _heading_levels(package: Package, main: str) -> dict[str, int]:
    """Style id -> heading level, for styles that are headings, by name or by outline, or are based on one."""
    part = package.related_one(main, "styles")
    styles = (
        {_attribute(style, "styleId") or "": style for style in _all(package.xml(part), "style")}
        if part
        else {}
    )
    levels: dict[str, int] = {}
    for identifier, style in styles.items():
        seen: set[str] = set()
        current: Element | None = style
        while current is not None:
            if level := _style_level(current):
                levels[identifier] = level
                break
            based_on = _value(current, "basedOn") or ""
            current = None if based_on in seen else styles.get(based_on)
            seen.add(based_on)
    return levels


def _style_level(style: Element) -> int:
    name = _value(style, "name") or ""
    if name.lower() == "title":
        return 1
    if found := _HEADING_NAME.fullmatch(name):
        return int(found[1])
    return _outline_level(_find(style, "pPr"))


def _outline_level(properties: Element | None) -> int:
    value = _value(properties, "outlineLvl") or ""
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else 0


def _add_slide(builder: TextBuilder, slide: Element) -> None:
    shapes = list(_all(slide, "sp"))
    titles = [shape for shape in shapes if _placeholder(shape) in _PLACEHOLDERS_OF_TITLES]
    for shape in titles:
        builder.heading(1, " ".join(_paragraphs(shape)))
    for element in slide.iter():
        match _name(element):
            case "sp" if element not in titles and _placeholder(element) != "sldNum":
                tight = False
                for text in _paragraphs(element):
                    builder.block(text, tight=tight)
                    tight = True
            case "tbl":
                for row_number, row in enumerate(_all(element, "tr")):
                    cells = (" ".join(" ".join(_paragraphs(cell)).split()) for cell in _all(row, "tc"))
                    builder.block(" | ".join(cell for cell in cells if cell), tight=row_number > 0)
            case _:
                pass


def _notes(notes: Element) -> str:
    bodies = (shape for shape in _all(notes, "sp") if _placeholder(shape) == "body")
    return "\n".join(text for shape in bodies for text in _paragraphs(shape)).strip()


def _paragraphs(element: Element) -> Iterator[str]:
    for paragraph in _all(element, "p"):
        text = "".join(
            piece.text or "" if _name(piece) == "t" else "\n"
            for piece in paragraph.iter()
            if _name(piece) in ("t", "br")
        )
        if text.strip():
            yield text


def _placeholder(shape: Element) -> str | None:
    placeholder = next(_all(shape, "ph"), None)
    return None if placeholder is None else placeholder.get("type", "body")


def _core_properties(package: Package) -> tuple[str, str]:
    """Title and time of creation."""
    part = package.related_one("", "core-properties")
    if part is None:
        return "", ""
    root = package.xml(part)
    title, created = _find(root, "title"), _find(root, "created")
    return (
        title.text or "" if title is not None else ""
    ).strip(), created.text or "" if created is not None else ""


def _name(element: Element) -> str:
    # Comments and processing instructions have a function for a tag; they are no element of ours.
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]


def _all(element: Element, name: str) -> Iterator[Element]:
    return (one for one in element.iter() if _name(one) == name)


def _find(element: Element, name: str) -> Element | None:
    return next((child for child in element if _name(child) == name), None)


def _child(element: Element, name: str) -> Element:
    found = _find(element, name)
    if found is None:
        raise malformed(_DOCX_LABEL, f"its {name} is missing")
    return found


def _value(element: Element | None, name: str) -> str | None:
    child = None if element is None else _find(element, name)
    return None if child is None else _attribute(child, "val")


def _attribute(element: Element, name: str, *, last: bool = False) -> str | None:
    """An attribute, whatever its namespace; `last` takes the last of several (`id` and `r:id` of a slide)."""
    found = [value for key, value in element.attrib.items() if key.rpartition("}")[2] == name]
    return found[-1 if last else 0] if found else None
