"""The published definitions are a promise: changes show up as changed snapshots."""

import asyncio
import json
from pathlib import Path

import pytest
from mcp_types import Tool

from apex_mcp.runtime.wire import READ_ONLY_TOOLS
from apex_mcp.server import build_server
from tests.server.conftest import NotebookGateway

SNAPSHOTS = Path(__file__).parent / "snapshots"
TOOLS = (
    "add_memory",
    "cancel_ingestion",
    "forget",
    "get_document",
    "get_entities",
    "get_ingestion",
    "get_stats",
    "ingest_document",
    "list_memories",
    "retry_ingestion",
    "search",
)


@pytest.fixture
def tools(gateway: NotebookGateway) -> dict[str, Tool]:
    return {tool.name: tool for tool in asyncio.run(build_server(gateway).list_tools())}


def test_these_tools_and_no_others_are_offered(tools: dict[str, Tool]) -> None:
    assert sorted(tools) == sorted(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_a_definition_is_its_snapshot(name: str, tools: dict[str, Tool], pytestconfig: pytest.Config) -> None:
    definition = tools[name].model_dump(mode="json", by_alias=True, exclude_none=True)
    text = json.dumps(definition, indent=2, ensure_ascii=False) + "\n"
    path = SNAPSHOTS / f"{name}.json"
    if pytestconfig.getoption("--update-snapshots"):
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "run pytest --update-snapshots and read the difference"
    assert text == path.read_text(encoding="utf-8")


def test_every_tool_has_all_annotations_and_a_typed_result(tools: dict[str, Tool]) -> None:
    for tool in tools.values():
        hints = tool.annotations
        assert hints is not None
        given = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert None not in (*given, hints.title, tool.title), tool.name
        assert tool.output_schema is not None, tool.name


def test_every_argument_is_described(tools: dict[str, Tool]) -> None:
    bare = [
        f"{tool.name}.{name}"
        for tool in tools.values()
        for name, schema in tool.input_schema["properties"].items()
        if not schema.get("description")
    ]
    assert bare == []


def test_the_pump_knows_the_read_only_tools(tools: dict[str, Tool]) -> None:
    read_only = {tool.name for tool in tools.values() if tool.annotations and tool.annotations.read_only_hint}
    assert read_only == READ_ONLY_TOOLS


def test_the_whole_list_stays_small(tools: dict[str, Tool]) -> None:
    definitions = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools.values()]
    assert len(json.dumps(definitions, separators=(",", ":"))) < 18_500
