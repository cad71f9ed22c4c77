"""What the documents of a run say: each version has words of its own at its beginning, in its middle and at its end."""

import csv
import io
import json
from dataclasses import dataclass
from email.message import EmailMessage
from enum import StrEnum
from typing import Any

from tests.ingestion.documents import make_docx, make_pdf, make_pptx

PREDICATE = "moored_at"
# Some two hundred tokens between the marks, so that they stand in passages of their own.
_FILLER = " ".join(
    ["The tide went out, and the boats of the harbour lay on the sand until the evening came."] * 11
)
_LETTERS = "bcdfghjklm"


class Shape(StrEnum):
    """Kinds of documents."""

    NOTE = "note"
    CONVERSATION = "conversation"
    LONG_NOTE = "long note"
    MD = "md"
    TXT = "txt"
    HTML = "html"
    JSON = "json"
    CSV = "csv"
    EML = "eml"
    DOCX = "docx"
    PPTX = "pptx"
    PDF = "pdf"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Marks:
    """The words by which a version is known; no other version has them."""

    document: str
    begin: str
    middle: str
    end: str

    @property
    def all(self) -> tuple[str, str, str]:
        return self.begin, self.middle, self.end

    @property
    def entity(self) -> str:
        return f"Vessel {self.document}"

    @property
    def place(self) -> str:
        """What the version's fact says."""
        return f"Pier {self.begin}"


def marks(document: int, version: int) -> Marks:
    """The marks of a version."""
    name, number = _letters(document), _letters(version)
    return Marks(f"zd{name}x", f"zb{name}q{number}x", f"zm{name}q{number}x", f"ze{name}q{number}x")


def _letters(number: int) -> str:
    """Digits as letters: a word that is no number, and that no stemmer shortens."""
    return "".join(_LETTERS[int(digit)] for digit in str(number))


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent: a tool and its arguments, and a file that `source` is to name, if there is one."""

    tool: str
    arguments: dict[str, Any]
    file_name: str = ""
    file: bytes = b""


def content(shape: Shape, document: int, version: int) -> Content:
    """A version of a document, the same for the same numbers."""
    mark = marks(document, version)
    parts = [
        f"The log of {mark.document} begins with {mark.begin}.",
        f"In its middle stands {mark.middle}.",
        f"It ends with {mark.end}.",
    ]
    given: dict[str, Any] = {
        "key": f"log/{document}",
        "title": f"Log {document}",
        "entities": [{"name": mark.entity, "type": "Organization"}, {"name": mark.place, "type": "Place"}],
        "facts": [
            {
                "subject": mark.entity, "predicate": PREDICATE, "object": mark.place,
                "sentence": f"{mark.entity} is moored at {mark.place}.",
            }
        ],
    }  # fmt: skip
    if shape in (Shape.NOTE, Shape.CONVERSATION):
        lines = [f"{speaker}: {part}" for speaker, part in zip(("Ada", "Ben", "Ada"), parts, strict=True)]
        return Content(
            "add_memory",
            {**given, "text": "\n".join(lines) if shape is Shape.CONVERSATION else " ".join(parts)},
        )
    if shape is Shape.LONG_NOTE:
        return Content("ingest_document", {**given, "text": _joined(parts)})
    name, data = _file(shape, parts, document, version)
    return Content("ingest_document", given, name, data)


def _joined(parts: list[str], *, filler: str = _FILLER) -> str:
    return f"\n\n{filler}\n\n".join(parts)


def _file(shape: Shape, parts: list[str], document: int, version: int) -> tuple[str, bytes]:
    name = f"log-{document}-{version}"
    match shape:
        case Shape.DOCX:
            return f"{name}.docx", make_docx([("", text) for part in parts for text in (part, _FILLER)])
        case Shape.PPTX:
            return f"{name}.pptx", make_pptx([("", [part, "The tide is out."]) for part in parts])
        case Shape.PDF:
            return f"{name}.pdf", make_pdf([[part, "The tide is out."] for part in parts])
        case Shape.LARGE:
            # Too long for a group: it takes a workflow of its own, with a child process for its parsing.
            return f"{name}.txt", _joined(parts, filler="\n\n".join([_FILLER] * 140)).encode()
        case Shape.HTML:
            body = "".join(f"<p>{part}</p><p>{_FILLER}</p>" for part in parts)
            return f"{name}.html", f"<html><body>{body}</body></html>".encode()
        case Shape.JSON:
            return f"{name}.json", json.dumps([{"said": part, "then": _FILLER} for part in parts]).encode()
        case Shape.CSV:
            rows = io.StringIO()
            csv.writer(rows).writerows([["said", "then"], *([part, _FILLER] for part in parts)])
            return f"{name}.csv", rows.getvalue().encode()
        case Shape.EML:
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = (
                "ada@example.org",
                "ben@example.org",
                f"Log {document}",
            )
            mail.set_content(_joined(parts))
            return f"{name}.eml", mail.as_bytes()
        case _:
            return f"{name}.{shape.value}", _joined(parts).encode()
