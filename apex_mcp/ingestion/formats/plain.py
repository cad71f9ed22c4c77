"""Texts that are read as they stand: plain text, Markdown, CSV, JSON."""

import csv
import json
import re

from apex_mcp.ingestion.decoding import clean_text, decode_base64_text, decode_text
from apex_mcp.ingestion.formats.reading import Reading, malformed, parse_time
from apex_mcp.models import HeadingSpan

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_FRONT_MATTER = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_NO_PARAGRAPH = ("    ", "\t", ">", "|", "-", "*", "+")
_LONG_LINE = 2_000
_NUMBER = re.compile(r"[-+(]?[\d.,:/ %$€£-]+\)?")


def read_text(data: bytes) -> Reading:
    """Read a plain text; one that is stored as base64 is decoded."""
    inner = decode_base64_text(data)
    text = _decoded(data if inner is None else inner)
    warnings: tuple[str, ...] = ()
    if inner is not None:
        warnings = ("the text was stored as base64 and has been decoded",)
    elif _is_cut_off_json(text):
        warnings = ("it looks like JSON that was cut off; it was kept as plain text",)
    return Reading(text=text, warnings=warnings)


def read_markdown(data: bytes) -> Reading:
    """Read Markdown as it stands, with its headings; front matter may give title and date."""
    text = _decoded(data)
    fields: dict[str, str] = {}
    begin = 0
    if front := _FRONT_MATTER.match(text):
        begin = front.end()
        pairs = (line.partition(":") for line in front[1].splitlines())
        fields = {name.strip().lower(): value.strip().strip("\"'") for name, _, value in pairs}
    return Reading(
        text=text,
        title=fields.get("title", ""),
        headings=_markdown_headings(text, begin),
        document_time=parse_time(fields.get("date")),
    )


def read_json(data: bytes) -> Reading:
    """Read JSON, or a JSON object a line; what stands on one endless line is laid out."""
    text = _decoded(data)
    try:
        value = json.loads(text)
    except ValueError as error:
        _check_json_lines(text, error)
        return Reading(text=text)
    if max(map(len, text.split("\n"))) > _LONG_LINE:
        text = clean_text(json.dumps(value, indent=1, ensure_ascii=False))
    return Reading(text=text)


def read_csv(data: bytes) -> Reading:
    """Read a table as it stands. Its first row, where it names the columns, is a heading: every passage is found by it."""
    text = _decoded(data)
    first, _, rest = text.partition("\n")
    columns = _column_names(first, rest)
    heading = HeadingSpan(level=1, title=", ".join(columns), start=0, end=len(first))
    return Reading(text=text, headings=(heading,) if columns else ())


def _column_names(first: str, rest: str) -> list[str]:
    """The cells of a first row that names columns: two or more, all different, none empty or a number, and rows below."""
    if not rest.strip() or len(first) > _LONG_LINE:
        return []
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(f"{first}\n{rest[:_LONG_LINE]}", ",;\t|")
    except csv.Error:
        dialect = csv.excel
    cells = [cell.strip() for cell in next(csv.reader([first], dialect))]
    named = all(cell and not _NUMBER.fullmatch(cell) for cell in cells) and len(set(cells)) == len(cells)
    return cells if named and len(cells) > 1 else []


def _decoded(data: bytes) -> str:
    return clean_text(decode_text(data)).strip("\n")


def _markdown_headings(text: str, begin: int) -> tuple[HeadingSpan, ...]:
    headings: list[HeadingSpan] = []
    fence = ""
    opening = True  # whether a paragraph may begin here
    before = ""  # its first line, which a line of dashes makes a heading
    end = begin - 1
    for line in text[begin:].split("\n"):
        start, end = end + 1, end + 1 + len(line)
        mark = _FENCE.match(line)
        if fence:
            # Only a longer or equal mark with nothing after it ends what a mark began.
            if mark and mark[1].startswith(fence) and not line.strip(" \t`~"):
                fence = ""
        elif mark:
            fence = mark[1]
        elif found := _ATX.fullmatch(line):
            headings.append(HeadingSpan(level=len(found[1]), title=found[2], start=start, end=end))
        elif before and (found := _UNDERLINE.fullmatch(line)):
            level = 1 if found[1].startswith("=") else 2
            start -= len(before) + 1
            headings.append(HeadingSpan(level=level, title=before.strip(), start=start, end=end))
        elif line.strip():
            before = line if opening and not line.startswith(_NO_PARAGRAPH) else ""
            opening = False
            continue
        opening, before = True, ""
    return tuple(headings)


def _check_json_lines(text: str, error: ValueError) -> None:
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        place = (
            f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "?"
        )
        raise malformed("JSON", f"it is not valid at {place}") from error


def _is_cut_off_json(text: str) -> bool:
    stripped = text.strip()
    if not stripped.startswith(("{", "[")) or len(stripped) > 1_000_000:
        return False
    try:
        json.loads(stripped)
    except json.JSONDecodeError as error:
        return error.pos >= len(stripped) - 1
    except RecursionError:
        pass
    return False
