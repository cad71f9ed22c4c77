"""What type a document has: by its content first, then its name's extension, then what was declared.

Names are unreliable (a download may be called `doc.txt-c6cqzeua`), so they decide only where content can't:
between kinds of text. A name that promises a format with a structure of its own must keep the promise.
"""

import codecs
import io
import json
import re
import zipfile
from enum import StrEnum
from pathlib import PurePosixPath

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.decoding import wide_encoding


class MediaType(StrEnum):
    """The types that can be read."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    EPUB = "application/epub+zip"
    RTF = "application/rtf"
    EMAIL = "message/rfc822"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    CSV = "text/csv"
    JSON = "application/json"
    TEXT = "text/plain"

    @property
    def extension(self) -> str:
        """The usual extension, with its dot."""
        return _EXTENSION[self]

    @property
    def label(self) -> str:
        """The type in words."""
        return _LABEL[self]


_EXTENSION = {
    MediaType.PDF: ".pdf",
    MediaType.DOCX: ".docx",
    MediaType.PPTX: ".pptx",
    MediaType.XLSX: ".xlsx",
    MediaType.EPUB: ".epub",
    MediaType.RTF: ".rtf",
    MediaType.EMAIL: ".eml",
    MediaType.HTML: ".html",
    MediaType.MARKDOWN: ".md",
    MediaType.CSV: ".csv",
    MediaType.JSON: ".json",
    MediaType.TEXT: ".txt",
}
_LABEL = {
    MediaType.PDF: "a PDF",
    MediaType.DOCX: "a Word document",
    MediaType.PPTX: "a PowerPoint presentation",
    MediaType.XLSX: "an Excel workbook",
    MediaType.EPUB: "an EPUB book",
    MediaType.RTF: "an RTF document",
    MediaType.EMAIL: "an e-mail",
    MediaType.HTML: "an HTML page",
    MediaType.MARKDOWN: "a Markdown text",
    MediaType.CSV: "a CSV table",
    MediaType.JSON: "JSON",
    MediaType.TEXT: "a text",
}
_BY_EXTENSION = {extension: kind for kind, extension in _EXTENSION.items()} | {
    ".docm": MediaType.DOCX,
    ".dotx": MediaType.DOCX,
    ".pptm": MediaType.PPTX,
    ".ppsx": MediaType.PPTX,
    ".potx": MediaType.PPTX,
    ".xlsm": MediaType.XLSX,
    ".xltx": MediaType.XLSX,
    ".htm": MediaType.HTML,
    ".xhtml": MediaType.HTML,
    ".markdown": MediaType.MARKDOWN,
    ".tsv": MediaType.CSV,
}
SUPPORTED_EXTENSIONS = frozenset(_BY_EXTENSION)
# What people call them.
_BY_NAME = {kind.name.lower(): kind for kind in MediaType} | {"word": MediaType.DOCX, "excel": MediaType.XLSX}
_STRUCTURED = frozenset((
    MediaType.PDF,
    MediaType.DOCX,
    MediaType.PPTX,
    MediaType.XLSX,
    MediaType.EPUB,
    MediaType.RTF,
))


def media_type_named(name: str) -> MediaType:
    """The type that a caller means: `application/pdf`, or in short `pdf` or `.pdf`.

    Raises:
        InputError: it is none of those that can be read.
    """
    short = name.strip().lower()
    found = _BY_NAME.get(short) or _BY_EXTENSION.get(f".{short.removeprefix('.')}")
    if found is None and short in set(MediaType):
        found = MediaType(short)
    if found is None:
        raise InputError(
            "there are no documents of this media type",
            unchanged="nothing was looked for",
            next_step=f"give some of {', '.join(kind.extension[1:] for kind in MediaType)}, or their full names",
        )
    return found


# (offset, bytes, what it seems to be)
_FOREIGN = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"WAVE", "a sound file"),
    (8, b"AVI ", "a video"),
    (4, b"ftyp", "a video or an HEIC image"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"ID3", "a sound file"),
    (0, b"fLaC", "a sound file"),
    (0, b"OggS", "a sound file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"\xca\xfe\xba\xbe", "a program"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"(\xb5/\xfd", "a zstd archive"),
    (0, b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PAR1", "a Parquet file"),
)
_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."

_HTML = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(?><!--.*?-->\s*)*+<(!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_MARKDOWN_HEADING = re.compile(r"^#{1,6} \S", re.MULTILINE)
_EMAIL_HEADER = re.compile(r"^(from|to|subject|date): \S", re.IGNORECASE | re.MULTILINE)
_SAMPLE_BYTES = 65_536


def detect(data: bytes, *names: str, declared: str = "") -> MediaType:
    """Tell the type of a document.

    Args:
        data: the whole content; a zip tells its members at its end.
        names: names to look at for an extension, the most trusted first (file name, document key).
        declared: a media type that a sender declared; asked last.

    Raises:
        InputError: not a type that can be read (`unsupported_type`), protected by a password
            (`password_protected`), a damaged container (`malformed`), or not what the name promises
            (`type_mismatch`).
    """
    promised = next((kind for name in names if (kind := _by_name(name))), None)
    if not data.strip():
        raise InputError(
            "the document is empty",
            code=Code.EMPTY_CONTENT,
            unchanged="nothing was stored",
            next_step="check that the right file was given and that it is complete",
        )
    found = _by_content(data, promised)
    if found is not None:
        if promised in _STRUCTURED and found is not promised:
            raise _mismatch(promised, found.label)
        return found
    text = _sniffable_text(data)
    if promised in _STRUCTURED:
        raise _mismatch(promised, "a text" if text is not None else "something else")
    if text is None:
        raise _unsupported("binary data of an unknown kind")
    return promised or _by_declaration(declared) or _kind_of_text(text)


def _by_name(name: str) -> MediaType | None:
    return _BY_EXTENSION.get(PurePosixPath(name.replace("\\", "/")).suffix.lower())


def _by_declaration(declared: str) -> MediaType | None:
    plain = declared.partition(";")[0].strip().lower()
    # Senders say text/plain, or application/octet-stream, of what they know nothing about.
    return MediaType(plain) if plain in set(MediaType) - {MediaType.TEXT, *_STRUCTURED} else None


def _by_content(data: bytes, promised: MediaType | None) -> MediaType | None:
    """The type of what has a signature, None for texts."""
    if b"%PDF-" in data[:1024]:
        return MediaType.PDF
    if data.startswith(rb"{\rtf"):
        return MediaType.RTF
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _by_members(data, promised)
    if data.startswith(_OLE2):
        raise _legacy_office(data)
    for offset, signature, label in _FOREIGN:
        if data.startswith(signature, offset) and _is_binary(data):
            if promised in _STRUCTURED:
                raise _mismatch(promised, label)
            raise _unsupported(label)
    return None


def _by_members(data: bytes, promised: MediaType | None) -> MediaType:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
            declared = (
                archive.read("mimetype")[:100].decode("ascii", "replace") if "mimetype" in members else ""
            )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        label = promised.label if promised and promised in _STRUCTURED else "a zip archive"
        raise InputError(
            f"{label} that is damaged or was cut off",
            code=Code.MALFORMED,
            unchanged="nothing was stored",
            next_step="get the file again, or open it in its own program and save it anew",
        ) from error
    if declared.startswith(MediaType.EPUB):
        return MediaType.EPUB
    if "[Content_Types].xml" in members:
        for folder, kind in (("word/", MediaType.DOCX), ("ppt/", MediaType.PPTX), ("xl/", MediaType.XLSX)):
            if any(member.startswith(folder) for member in members):
                return kind
    label = "an OpenDocument file" if declared.startswith(_OPEN_DOCUMENT) else "a zip archive"
    if promised in _STRUCTURED:
        raise _mismatch(promised, label)
    raise _unsupported(label)


def _legacy_office(data: bytes) -> InputError:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return InputError(
            "the document is protected by a password",
            code=Code.PASSWORD_PROTECTED,
            unchanged="nothing was stored",
            next_step="save a copy without a password in its own program, then ingest the copy",
        )
    return _unsupported(
        "a document of an old Office program (.doc, .xls, .ppt, .msg)",
        "save it as .docx, .xlsx, .pptx or .pdf, then ingest that",
    )


def _sniffable_text(data: bytes) -> str | None:
    """The beginning as text, None where it is no text; the charset matters little for telling the kind."""
    sample = data[:_SAMPLE_BYTES]
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # also the mark of UTF-32-LE
        encoding = "utf-32" if sample.startswith(codecs.BOM_UTF32_LE) else "utf-16"
        return sample.decode(encoding, errors="replace")
    if sample.startswith(codecs.BOM_UTF32_BE):
        return sample.decode("utf-32", errors="replace")
    if encoding := wide_encoding(data):
        return sample.decode(encoding, errors="replace")
    if _is_binary(data):
        return None
    return sample.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")


def _is_binary(data: bytes) -> bool:
    """Whether control characters are more than stray ones."""
    sample = data[:_SAMPLE_BYTES]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > max(2, len(sample) // 50)


_CONTROLS = bytes(set(range(32)) - {*b"\t\n\r\f\x1b"})


def _kind_of_text(text: str) -> MediaType:
    if _HTML.match(text):
        return MediaType.HTML
    if text.lstrip()[:1] in "{[" and len(text) < _SAMPLE_BYTES and _is_json(text):
        return MediaType.JSON
    head = text.lstrip("\n").partition("\n\n")[0]
    if len({found.lower() for found in _EMAIL_HEADER.findall(head)}) > 2:
        return MediaType.EMAIL
    if len(_MARKDOWN_HEADING.findall(text)) > 1:
        return MediaType.MARKDOWN
    return MediaType.TEXT


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unsupported(label: str, next_step: str = "") -> InputError:
    extensions = ", ".join(kind.extension for kind in MediaType)
    return InputError(
        f"the document seems to be {label}, which can't be read",
        code=Code.UNSUPPORTED_TYPE,
        unchanged="nothing was stored",
        next_step=next_step or f"convert it to one of {extensions}",
        details={"supported": [str(kind) for kind in MediaType]},
    )


def _mismatch(promised: MediaType | None, label: str) -> InputError:
    name = promised.label if promised else ""
    return InputError(
        f"the name says {name}, the content is {label}",
        code=Code.TYPE_MISMATCH,
        unchanged="nothing was stored",
        next_step="check the file; if the content is right, give it the extension that fits",
    )
