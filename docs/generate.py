"""Writes the generated parts of the documents: `python docs/generate.py`, or with `--check` only compares.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; what is around it is written by hand.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mcp_types import Tool
from pydantic_core import PydanticUndefined

from apex_mcp.errors import Unavailable
from apex_mcp.server import build_server
from apex_mcp.settings import BARE_NAMES, PER_CLIENT, Settings

if TYPE_CHECKING:
    from apex_mcp.memory import Memory

DOCS = Path(__file__).resolve().parent
RECORDED = DOCS / "recorded.json"

Schema = dict[str, Any]
_PART = re.compile(r"(<!-- generated: (?P<name>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What depends on the machine or the user, in words.
_DEFAULTS = {
    "home": "the platform's place for a user's application data",
    "children": "processors less one, 1 to 4",
}


class _NoStores:
    """The definitions need no stores."""

    async def memory(self) -> "Memory":
        raise Unavailable("there are no stores here")


def tools() -> list[Tool]:
    """The tools as the server offers them."""
    return asyncio.run(build_server(_NoStores()).list_tools())


def settings_part() -> str:
    """A table of every setting."""
    lines = ["| setting | default | whose | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        whose = "client" if name in PER_CLIENT else "serve" if name.startswith("http_") else "daemon"
        description = (field.description or "").removeprefix("Per client. ")
        lines.append(f"| `APEX_{name.upper()}` | {_default(name)} | {whose} | {description} |")
    return "\n".join(lines) + "\n"


def bare_part() -> str:
    """The settings that the server profile's commands also take under another name."""
    pairs = ", ".join(f"`{bare}`" for bare in BARE_NAMES.values())
    return f"{pairs}\n"


def _default(name: str) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    value = Settings.model_fields[name].get_default()
    if value is None or value is PydanticUndefined or value in ((), ""):
        return "none"
    return f"`{value}`" if not isinstance(value, float) else f"`{value:g}`"


def tools_part() -> str:
    """Each tool: what it says of itself, its parameters, and a real call with its answer."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    return "\n".join(_tool(tool, recorded[tool.name]) for tool in tools())


def _tool(tool: Tool, recorded: dict[str, Any]) -> str:
    hints = tool.annotations
    assert hints is not None
    words = [
        "reads only" if hints.read_only_hint else "writes",
        *(["destructive"] if hints.destructive_hint else []),
        *(["a repetition changes nothing"] if hints.idempotent_hint and not hints.read_only_hint else []),
    ]
    required = cast(list[str], tool.input_schema.get("required", []))
    properties = cast(dict[str, Schema], tool.input_schema["properties"])
    lines = [
        f"## `{tool.name}`",
        "",
        f"{tool.title}: {', '.join(words)}.",
        "",
        *(f"> {line}" for line in (tool.description or "").splitlines()),
        "",
    ]
    if properties:
        lines += ["| parameter | type | default | what it is |", "|---|---|---|---|"]
    definitions = cast(dict[str, Schema], tool.input_schema.get("$defs", {}))
    for name, schema in properties.items():
        default = "**required**" if name in required else _shown(schema.get("default"))
        kind = _kind(schema, definitions)
        lines.append(f"| `{name}` | {kind} | {default} | {schema.get('description', '')} |")
    arguments = json.dumps(recorded["arguments"], indent=2, ensure_ascii=False)
    lines += ["", "```json", arguments, "```", "", "```text", recorded["text"], "```", ""]
    return "\n".join(lines)


def _shown(default: object) -> str:
    return "" if default in (None, "") else f"`{json.dumps(default)}`"


def _kind(schema: Schema, definitions: dict[str, Schema]) -> str:
    if reference := schema.get("$ref"):
        name = str(reference).rpartition("/")[2]
        return _kind(definitions[name] | {"title": name}, definitions)
    if values := schema.get("enum"):
        return " ".join(f"`{value}`" for value in cast(list[str], values))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(cast(Schema, schema.get('items', {})), definitions)}"
    if kind == "object" and "properties" in schema:
        fields = cast(dict[str, Schema], schema["properties"])
        required = cast(list[str], schema.get("required", []))
        names = [name if name in required else f"{name}?" for name in fields]
        return f"{{{', '.join(names)}}}"
    limits = [
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if isinstance(schema.get(key), int | float)
    ]
    kind = {"string": "text", "object": "object"}.get(kind, kind)
    return " ".join(["id" if schema.get("format") == "uuid" else kind, *limits])


PARTS: dict[str, Callable[[], str]] = {"settings": settings_part, "bare": bare_part, "tools": tools_part}


def generated(text: str) -> str:
    """A document with its generated parts made anew."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part['name']]()}{part[3]}", text)


def main() -> int:
    stale = False
    for path in sorted(DOCS.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = generated(old)
        if new == old:
            continue
        stale = True
        if "--check" not in sys.argv[1:]:
            path.write_text(new, encoding="utf-8")
        sys.stderr.write(f"{path.name}: generated parts were out of date\n")
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
