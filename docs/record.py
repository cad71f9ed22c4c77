"""Records what the documents show, from real runs: `python docs/record.py` (see AGENTS.md).

docs/images/demo.svg    the demo's own output, shortened where it says "..."
docs/recorded.json      a call of each tool and its answer, for docs/tools.md
"""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from examples import demo  # noqa: E402  (found by the line above)

CORPUS = REPOSITORY / "examples" / "demo"
IMAGE = REPOSITORY / "docs" / "images" / "demo.svg"
RECORDED = REPOSITORY / "docs" / "recorded.json"

# Where the reader's files would be; whoever records has them somewhere else.
SHOWN_FOLDER = "/home/ada/tarnwell"

_THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [
        *((13, 17, 23), (255, 123, 114), (86, 211, 100), (227, 179, 65)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
)
_SHOWN_QUESTIONS = (1, 2, 5)
# Without a font from the internet: a picture in a document must not ask anybody.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>make demo: eight files go in, questions come back answered with their sources</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def record_demo() -> None:
    """Run the demo and draw what it printed."""
    printed = io.StringIO()
    console = Console(
        file=printed, force_terminal=False, color_system="truecolor", width=demo.WIDTH, highlight=False
    )
    demo._console = lambda: console  # pyright: ignore[reportPrivateUsage]
    if status := demo.main():
        raise SystemExit(status)
    shown = Console(record=True, file=io.StringIO(), width=demo.WIDTH, highlight=False)
    shown.print(Text.from_ansi("$ make demo\n" + _shortened(printed.getvalue())))
    drawing = shown.export_svg(title="apex-mcp", theme=_THEME, code_format=_SVG, unique_id="demo")
    IMAGE.write_text(re.sub(r"[ \t]+\n", "\n", drawing), encoding="utf-8")


def _shortened(printed: str) -> str:
    """The table of files, some of the questions, and the last line."""
    lines = printed.rstrip().splitlines()
    plain = [Text.from_ansi(line).plain for line in lines]
    starts = [number for number, line in enumerate(plain) if re.match(r" ─ \d\. ", line)]
    kept, last_shown = lines[: starts[0]], 0
    for shown in _SHOWN_QUESTIONS:
        start = starts[shown - 1]
        end = next(number for number in range(start + 1, len(plain)) if re.fullmatch(r" ─+ ", plain[number]))
        gap = ["...", ""] if shown > last_shown + 1 else []
        kept += [*gap, *lines[start : end + 1], ""]
        last_shown = shown
    return "\n".join([*kept, "...", "", lines[-1]])


def record_tools() -> dict[str, Any]:
    """Call each tool once on the demo's files, and on one that is broken."""
    with tempfile.TemporaryDirectory(prefix="apex-mcp-docs-") as folder:
        home, files = Path(folder, "home"), Path(folder, "tarnwell")
        shutil.copytree(CORPUS, files)
        Path(files, "scan.pdf").write_bytes(b"%PDF-1.7\nnothing else came over")
        environment = {
            **os.environ,
            "APEX_HOME": str(home),
            "APEX_ROOTS": str(files),
            "APEX_EMBEDDER": "none",
        }
        command = str(Path(sys.executable).with_name("apex-mcp"))
        try:
            calls = asyncio.run(_calls(StdioServerParameters(command=command, env=environment), str(files)))
        finally:
            subprocess.run([command, "stop"], env=environment, check=True, capture_output=True)
    return json.loads(json.dumps(calls).replace(str(files), SHOWN_FOLDER))


async def _calls(server: StdioServerParameters, files: str) -> dict[str, Any]:
    async with Client(server) as client:
        return await _call_all(client, files)


async def _call_all(client: Client, files: str) -> dict[str, Any]:
    calls: dict[str, Any] = {}

    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        result = await client.call_tool(tool, arguments)
        text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        calls[tool] = {"arguments": arguments, "text": text}
        if result.is_error and tool != "cancel_ingestion":
            raise SystemExit(f"{tool}: {text}")
        return result.structured_content or {}

    for name in ("engineering-notes-2026-03.txt", "engineering-and-address.eml", "minutes-2026-07-21.md"):
        await call("ingest_document", source=f"{files}/{name}")
    broken = await call("ingest_document", source=f"{files}/scan.pdf")
    contract = await call("ingest_document", source=f"{files}/contract-tw-2024-117-renewal.pdf")
    await call(
        "add_memory",
        text="Ada Lindqvist joined Tarnwell Instruments on 4 May 2026.",
        key="people/ada-lindqvist",
        entities=[{"name": "Ada Lindqvist", "type": "Person"}],
        facts=[
            {
                "subject": "Ada Lindqvist",
                "predicate": "works_at",
                "object": "Tarnwell Instruments",
                "valid_at": "2026-05-04",
            }
        ],
    )
    found = await call("search", query="What annual fee does the Authority pay from July 2026?", limit=1)
    await call("get_document", chunk_id=found["hits"][0]["chunk_id"], length=600)
    await call("get_entities", query="Ada Lindqvist", limit=1)
    await call("list_memories", limit=2)
    await call("get_ingestion", limit=3)
    await call("cancel_ingestion", ingestion_id=contract["ingestion_id"])
    await call("retry_ingestion", ingestion_id=broken["ingestion_id"])
    await call("forget", keys=["people/ada-lindqvist"])
    await call("get_stats")
    return calls


def main() -> None:
    record_demo()
    calls = record_tools()
    RECORDED.write_text(json.dumps(calls, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
