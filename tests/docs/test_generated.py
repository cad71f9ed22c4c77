"""What is written from the code, or must agree with it word by word."""

import json
import re
from xml.etree import ElementTree

import pytest
from jsonschema import validate

from apex_mcp.errors import Code
from tests.docs.pages import RECORDED, REPOSITORY, generated, read, tools


@pytest.mark.parametrize("name", ["docs/configuration.md", "docs/tools.md"])
def test_generated_parts_are_up_to_date(name: str) -> None:
    page = read(name)
    assert "<!-- generated: " in page.text
    assert page.text == generated(page.text), "run python docs/generate.py"


def test_every_error_code_has_a_heading_with_an_explanation_in_the_order_of_the_code() -> None:
    sections = re.findall(r"^### `(\w+)`\n\n(.+)", read("docs/errors.md").text, re.MULTILINE)
    assert [name for name, _ in sections] == [str(code) for code in Code]
    assert all(len(explanation) > 20 for _, explanation in sections)


def test_the_readme_lists_every_tool_once() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", read("README.md").text, re.MULTILINE)
    assert sorted(rows) == sorted(tool.name for tool in tools())


def test_recorded_calls_fit_the_tools_as_they_are() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    schemas = {tool.name: tool.input_schema for tool in tools()}
    assert recorded.keys() == schemas.keys()
    for name, call in recorded.items():
        assert call["text"]
        validate(call["arguments"], {**schemas[name], "additionalProperties": False})


def test_recorded_answers_name_no_place_of_the_machine_that_they_were_recorded_on() -> None:
    assert re.findall(r"/(?:work|tmp|root|private|Users)/", RECORDED.read_text(encoding="utf-8")) == []


def test_the_picture_stands_alone_and_shows_the_demo() -> None:
    text = (REPOSITORY / "docs" / "images" / "demo.svg").read_text(encoding="utf-8")
    shown = "".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")
    questions = json.loads((REPOSITORY / "examples" / "demo_questions.json").read_text(encoding="utf-8"))
    assert questions[0]["question"] in shown
    assert questions[0]["words"][0] in shown
    assert re.findall(r"https?://(?!www\.w3\.org/)\S+", text) == []
