"""HTML to text: what a reader of the page sees, with its headings; without scripts, styles and what is hidden.

kreuzberg gives Markdown, whose addresses and marks would be found and quoted as if they were words of the page.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser

from apex_mcp.ingestion.decoding import decode_text
from apex_mcp.ingestion.formats.reading import Reading, TextBuilder, parse_time

_DROPPED = frozenset(
    "script style noscript template svg math iframe object embed canvas select textarea button".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure "
    "footer form header hgroup hr html legend main nav ol p pre section summary ul".split()
)
# Hiding is only believed of elements that must be closed; an unclosed <p hidden> would swallow the rest.
_HIDEABLE = frozenset("div span section article aside nav form table ul ol".split())
_TIMES = ("article:published_time", "datepublished", "dcterms.created", "dcterms.date", "dc.date", "date")
_LINE_BREAK = "\x00"
_LAYOUT_CELL_CHARS = 300


@dataclass(slots=True)
class _Block:
    """A piece of output: level 1 to 6 is a heading, 0 text; rows and list items are tight."""

    text: str
    level: int = 0
    tight: bool = False


@dataclass(slots=True)
class _Row:
    """A row that is being read: the output that it will go to, and its finished cells."""

    table: int
    outside: list[_Block]
    cells: list[list[_Block]] = field(default_factory=list[list[_Block]])
    in_cell: bool = False


class _PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.time = ""
        self._blocks: list[_Block] = []
        self._inline: list[str] = []
        self._rows: list[_Row] = []
        self._table = 0
        self._level = 0
        self._item = False
        self._pre = 0
        self._in_title = False
        self._dropping = ""
        self._dropping_depth = 0

    def finish(self) -> list[_Block]:
        self.close()
        self._flush()
        while self._rows:
            self._end_row()
        return self._blocks

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping:
            self._dropping_depth += tag == self._dropping
        elif tag in _DROPPED or (tag in _HIDEABLE and _is_hidden(attrs)):
            self._dropping, self._dropping_depth = tag, 1
        elif tag == "br":
            self._inline.append(_LINE_BREAK)
        elif tag in _HEADINGS:
            self._flush()
            self._level = _HEADINGS[tag]
        elif tag in _BLOCKS:
            self._flush()
            self._pre += tag == "pre"
        elif tag == "li":
            self._flush()
            self._item = True
        elif tag in ("tr", "td", "th"):
            self._start_table_part(tag)
        elif tag == "title":
            self._in_title = True
        elif tag == "meta":
            self._meta({name: value or "" for name, value in attrs})
        elif tag == "table":
            self._flush()
            self._table += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # XHTML's <script src=""/> and <title/> have no end to wait for.
        if tag not in _DROPPED | {"title"}:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            self._dropping_depth -= tag == self._dropping
            if self._dropping_depth == 0:
                self._dropping = ""
        elif tag in _HEADINGS:
            self._flush()
            self._level = 0
        elif tag in _BLOCKS:
            self._flush()
            self._pre = max(0, self._pre - (tag == "pre"))
        elif tag == "li":
            self._flush()
            self._item = False
        elif tag in ("td", "th"):
            self._end_cell()
        elif tag in ("tr", "table"):
            if self._row_of_this_table():
                self._end_row()
            if tag == "table":
                self._flush()
                self._table = max(0, self._table - 1)
        elif tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._dropping:
            self._inline.append(data)

    def _meta(self, attributes: dict[str, str]) -> None:
        name = (
            attributes.get("property") or attributes.get("name") or attributes.get("itemprop") or ""
        ).lower()
        if not self.time and name in _TIMES:
            self.time = attributes.get("content", "")

    def _flush(self) -> None:
        """End the paragraph that is being read."""
        if not self._inline:
            return
        text = "".join(self._inline)
        self._inline.clear()
        if self._pre:
            text = text.replace(_LINE_BREAK, "\n")
        else:
            text = "\n".join(" ".join(line.split()) for line in text.split(_LINE_BREAK)).strip()
        if not text.strip():
            return
        if self._item and not self._level:
            text, self._item = f"- {text}", False
            self._blocks.append(
                _Block(text, tight=bool(self._blocks) and self._blocks[-1].text.startswith("- "))
            )
        else:
            self._blocks.append(_Block(text, self._level))

    def _start_table_part(self, tag: str) -> None:
        row = self._row_of_this_table()
        if tag == "tr" or row is None:
            if row:
                self._end_row()
            self._flush()
            row = _Row(self._table, self._blocks)
            self._rows.append(row)
        if tag != "tr":
            self._end_cell()
            self._flush()
            row.in_cell = True
            self._blocks = []

    def _row_of_this_table(self) -> _Row | None:
        """The open row, unless it belongs to a table around this one."""
        return self._rows[-1] if self._rows and self._rows[-1].table == self._table else None

    def _end_cell(self) -> None:
        self._flush()
        row = self._row_of_this_table()
        if row and row.in_cell:
            row.cells.append(self._blocks)
            row.in_cell = False
            self._blocks = row.outside

    def _end_row(self) -> None:
        self._table = self._rows[-1].table
        self._end_cell()
        row = self._rows.pop()
        self._blocks = row.outside
        cells = [cell for cell in row.cells if cell]
        # Tables are also used to lay a page out: what is long, or has headings, is no row of data.
        if any(block.level or len(block.text) > _LAYOUT_CELL_CHARS for cell in cells for block in cell):
            self._blocks += [block for cell in cells for block in cell]
        elif cells:
            line = " | ".join(" ".join(" ".join(block.text for block in cell).split()) for cell in cells)
            self._blocks.append(_Block(line, tight=bool(self._blocks) and " | " in self._blocks[-1].text))


def _is_hidden(attrs: list[tuple[str, str | None]]) -> bool:
    return any(
        name == "hidden" or (name == "style" and "display:none" in (value or "").replace(" ", "").lower())
        for name, value in attrs
    )


def read_html(data: bytes) -> Reading:
    """Read a page."""
    builder = TextBuilder()
    title, time = add_html(builder, decode_text(data, markup=True))
    return Reading(text=builder.text, title=title, headings=builder.headings, document_time=parse_time(time))


def add_html(builder: TextBuilder, page: str) -> tuple[str, str]:
    """Add a page's text and headings; returns its title and the time that it declares."""
    reader = _PageReader()
    reader.feed(page.replace("\x00", ""))
    for block in reader.finish():
        if block.level:
            builder.heading(block.level, block.text)
        else:
            builder.block(block.text, tight=block.tight)
    return " ".join(reader.title.split()), reader.time
