"""The main job, the same in every profile: the demo's files go in, and its questions are answered from them."""

import json
import re
from pathlib import Path
from typing import Any

from tests.e2e.homes import Session

DEMO = Path(__file__).parents[2] / "examples" / "demo"
QUESTIONS: list[dict[str, Any]] = json.loads((DEMO.parent / "demo_questions.json").read_text("utf-8"))
FILES = sorted(DEMO.iterdir())


async def every_demo_file_goes_in_and_answers_its_question(client: Session, namespace: str) -> None:
    ended = {
        path.name: await client.ended("ingest_document", source=str(path), namespace=namespace)
        for path in FILES
    }
    assert {name: view["state"] for name, view in ended.items()} == {path.name: "ready" for path in FILES}
    for question in QUESTIONS:
        hits = await client.hits(question["question"], limit=3, namespace=namespace)
        assert any(_answers(hit, question) for hit in hits), question["question"]
    for path in FILES:
        document = ended[path.name]["document_id"]
        middle = await client.call(
            "get_document", document_id=document, start=300, length=200, namespace=namespace
        )
        (hit, *_) = await client.hits(middle["text"], namespace=namespace)
        assert hit["source"]["uri"] == path.as_uri()


def _answers(hit: dict[str, Any], question: dict[str, Any]) -> bool:
    text = re.sub(r"\s+", " ", hit["text"])
    return hit["source"]["uri"].endswith(question["file"]) and all(
        words in text for words in question["words"]
    )


def word(number: int) -> str:
    """A word that no other document holds."""
    return "quux" + "".join("abcdefghij"[int(digit)] for digit in f"{number:02}")


def sentence(number: int) -> str:
    """What a document of a test's own says; by `word` it is found again."""
    return f"The {word(number)} was delivered to the harbour on time."
