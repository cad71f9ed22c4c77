"""Zip packages (docx, pptx, xlsx, epub): opened only when what they unpack to is bounded."""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from urllib.parse import unquote
from xml.etree import ElementTree

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.formats.reading import malformed, password_protected
from apex_mcp.wording import byte_size

# Real documents stay far below: XML shrinks to a tenth or a twentieth, 3,000 pages unpack to some 100 MB.
_MAX_UNPACKED_BYTES = 1_000_000_000
_FREE_UNPACKED_BYTES = 64_000_000
_MAX_RATIO = 200
_MAX_MEMBERS = 50_000
_RELATIONSHIPS = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"


class Package:
    """A zip package and its members.

    Raises:
        InputError: it unpacks to too much (`too_large`), is damaged (`malformed`) or encrypted
            (`password_protected`).
    """

    def __init__(self, data: bytes, label: str) -> None:
        self._label = label
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
            raise malformed(label, "its container is damaged or was cut off") from error
        members = self._archive.infolist()
        unpacked = sum(member.file_size for member in members)
        bomb = unpacked > _FREE_UNPACKED_BYTES and unpacked > _MAX_RATIO * len(data)
        if bomb or unpacked > _MAX_UNPACKED_BYTES or len(members) > _MAX_MEMBERS:
            raise InputError(
                f"{label} of {byte_size(len(data))} would unpack to {byte_size(unpacked)} in {len(members)} parts",
                code=Code.TOO_LARGE,
                unchanged="nothing was stored; nothing was unpacked",
                next_step="split the document, or export it as PDF",
                details={"unpacked_bytes": unpacked, "members": len(members)},
            )
        self.names = frozenset(member.filename for member in members)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def read(self, name: str) -> bytes:
        """A member's content. Never more than it declares: a member that lies about its size is damaged."""
        try:
            return self._archive.read(name)
        except KeyError as error:
            raise malformed(self._label, f"{posixpath.basename(name)} is missing") from error
        except RuntimeError as error:  # zipfile's way to ask for a password
            raise password_protected() from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, ValueError) as error:
            raise malformed(self._label, f"{posixpath.basename(name)} is damaged") from error

    def check_all(self) -> None:
        """Unpack everything once, for readers that open the package by themselves."""
        for name in self.names:
            self.read(name)

    def xml(self, name: str) -> ElementTree.Element:
        """A member, parsed."""
        content = self.read(name)
        try:
            # Office writes no entities; only attacks by expansion do.
            if b"<!ENTITY" in content:
                raise malformed(self._label, f"{posixpath.basename(name)} declares entities")
            return ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise malformed(self._label, f"{posixpath.basename(name)} is not valid XML") from error

    def related(self, name: str) -> Iterator[tuple[str, str, str]]:
        """What a member points to within the package: (relation id, last word of its type, member's name)."""
        folder, base = posixpath.split(name)
        listing = posixpath.join(folder, "_rels", f"{base}.rels")
        if listing not in self.names:
            return
        for relation in self.xml(listing).iter(_RELATIONSHIPS):
            if relation.get("TargetMode") != "External":
                kind = relation.get("Type", "").rpartition("/")[2]
                yield relation.get("Id", ""), kind, resolve(folder, relation.get("Target", ""))

    def related_one(self, name: str, kind: str) -> str | None:
        """The first existing member of that kind that `name` points to; "" is the package itself."""
        return next(
            (target for _, found, target in self.related(name) if found == kind and target in self.names),
            None,
        )


def resolve(folder: str, target: str) -> str:
    """The member that a relative address means."""
    path = unquote(target.partition("#")[0])
    return posixpath.normpath(path.lstrip("/") if path.startswith("/") else posixpath.join(folder, path))
