"""The documents, and what is in them."""

import re
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mcp_types import Tool

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    {*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")}
    | {REPOSITORY / "docker" / "README.md", REPOSITORY / "examples" / "README.md"}
)
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]

RECORDED = REPOSITORY / "docs" / "recorded.json"

# Run, not imported: beside this package its name would mean this package.
_generator = runpy.run_path(str(REPOSITORY / "docs" / "generate.py"))
tools = cast("Callable[[], list[Tool]]", _generator["tools"])
generated = cast("Callable[[str], str]", _generator["generated"])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Page:
    """One document.

    Attributes:
        blocks: fenced blocks, as (language, content).
        inline: code within sentences, on one line each.
    """

    path: Path
    text: str
    blocks: list[tuple[str, str]]
    inline: list[str]

    def of(self, language: str) -> list[str]:
        return [content for kind, content in self.blocks if kind == language]

    @property
    def commands(self) -> list[str]:
        """Command lines: those of consoles, and code within sentences."""
        typed = [line[2:] for block in self.of("console") for line in block.splitlines() if line[:2] == "$ "]
        return [*typed, *self.inline]


def read(name: str) -> Page:
    path = REPOSITORY / name
    text = path.read_text(encoding="utf-8")
    prose = _BLOCK.sub("", text)
    return Page(path, text, _BLOCK.findall(text), [" ".join(code.split()) for code in _INLINE.findall(prose)])


def anchors(text: str) -> set[str]:
    """The names by which headings can be linked to, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
