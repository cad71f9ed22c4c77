"""Promises are held by tests that exist."""

import ast
import re

import pytest

from tests.docs.pages import REPOSITORY, read

PAGE = read("docs/reliability.md")
TESTS = sorted({code for code in PAGE.inline if "::" in code})


@pytest.mark.parametrize("named", TESTS)
def test_a_test_that_holds_a_promise_exists(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert function in functions


def test_every_promise_is_held_by_a_test() -> None:
    section = PAGE.text.partition("## Which test holds which promise")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::test_\w+`", row)] == []


def test_fault_points_that_are_named_are_placed() -> None:
    section = PAGE.text.partition("## Fault points")[2].partition("\n## ")[0]
    points = set(re.findall(r"`((?:record|index|staging|graph|cache)\.[a-z_]+)`", section))
    sources = [*(REPOSITORY / "apex_mcp").rglob("*.py"), *(REPOSITORY / "worker").rglob("*.py")]
    placed = {
        point
        for source in sources
        for point in re.findall(r'faults\.around\("([a-z_.]+)"\)', source.read_text(encoding="utf-8"))
    }
    assert points == placed
