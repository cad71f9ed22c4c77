"""What the documents say exists: files, commands, settings, tools."""

import json
import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from apex_mcp.cli import app
from apex_mcp.settings import Settings, load_settings
from tests.docs.pages import NAMES, REPOSITORY, anchors, read, tools

# Stands for an id in a command line.
AN_ID = "00000000-0000-0000-0000-000000000000"
HOSTS = {
    "127.0.0.1",
    "api.openai.com",
    "docs.astral.sh",
    "docs.temporal.io",
    "github.com",
    "keepachangelog.com",
    "localhost",
    "modelcontextprotocol.io",
    "semver.org",
}

# For tests, see docs/reliability.md.
NO_SETTINGS = {"APEX_FAULTS"}

pages = pytest.mark.parametrize("name", NAMES)


@pages
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    page = read(name)
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


@pages
def test_addresses_are_of_known_public_places(name: str) -> None:
    addresses: list[str] = re.findall(r"https?://[^\s)>`\"]+", read(name).text)
    assert {urlsplit(address).hostname for address in addresses} <= HOSTS


@pages
def test_no_place_of_the_machine_that_it_was_written_on_is_named(name: str) -> None:
    assert re.findall(r"(?<![\w.])/(?:work|tmp|root)\b[^\s]*", read(name).text) == []


@pages
def test_settings_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"\bAPEX_[A-Z_]*[A-Z]\b", read(name).text))
    assert named <= {f"APEX_{field.upper()}" for field in Settings.model_fields} | NO_SETTINGS


@pages
def test_tools_that_are_named_exist(name: str) -> None:
    like_tools = {
        code
        for code in read(name).inline
        if re.fullmatch(r"(?:add|ask|cancel|forget|get|list|retry)_[a-z_]+|ingest_(?:doc|rec)\w+", code)
    }
    assert like_tools <= {tool.name for tool in tools()}


@pages
def test_apex_mcp_commands_have_the_options_that_are_shown(name: str) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for line in read(name).commands:
        words = shlex.split(line.replace("'", "")) if line.startswith("apex-mcp ") else []
        if len(words) < 2 or words[1] == "--help":
            continue
        arguments = [AN_ID if word == "ID" else word for word in words[1:] if word != "..."]
        command, rest = group.commands.get(arguments[0]), arguments[1:]
        assert command is not None, line
        if rest or line in _typed(name):
            command.make_context(arguments[0], rest)


def _typed(name: str) -> set[str]:
    """Lines that a reader types as they are; within sentences a command may be named without its arguments."""
    return {line[2:] for block in read(name).of("console") for line in block.splitlines()}


@pages
def test_make_targets_and_modules_that_are_named_exist(name: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in read(name).commands:
        words = line.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, line
        if "-m" in words:
            assert find_spec(words[words.index("-m") + 1]) is not None, line
        if words[0] in ("python", "uv") and words[-1].endswith(".py"):
            assert (REPOSITORY / words[-1]).is_file(), line


@pages
def test_paths_of_the_project_that_are_named_exist(name: str) -> None:
    inside = re.compile(r"(?:apex_mcp|worker|tests|docs|examples|benchmarks|docker)/[\w./-]+")
    named = [code.rstrip("/") for code in read(name).inline if inside.fullmatch(code)]
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pages
def test_json_and_python_can_be_read(name: str) -> None:
    page = read(name)
    for block in page.of("json"):
        json.loads(block)
    for block in page.of("python"):
        compile(block, name, "exec")


def test_the_clients_configuration_is_the_example_file() -> None:
    example = json.loads((REPOSITORY / "claude_desktop_config.example.json").read_text(encoding="utf-8"))
    assert json.loads(read("README.md").of("json")[0]) == example


@pytest.mark.parametrize("example", read("docs/configuration.md").of("toml"))
def test_an_example_of_config_toml_is_taken_as_it_stands(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APEX_HOME", str(tmp_path))
    for field in Settings.model_fields.keys() - {"home"}:
        monkeypatch.delenv(f"APEX_{field.upper()}", raising=False)
    (tmp_path / "config.toml").write_text(example, encoding="utf-8")

    settings = load_settings()

    written = tomllib.loads(example)
    assert written.keys() <= Settings.model_fields.keys()
    if "roots" in written:
        written["roots"] = tuple(map(Path, written["roots"]))
    assert {name: getattr(settings, name) for name in written} == written
