"""The likenesses of names by which candidates are told apart, measured with the default embedder."""

import operator
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from apex_mcp.ingestion.embedding.local import LocalEmbedder
from apex_mcp.ingestion.embedding.models import find_model
from apex_mcp.ingestion.enriching.names import same_words
from apex_mcp.ingestion.enriching.resolution import ALIKE, DOUBTFUL
from apex_mcp.ingestion.pool import ChildPool

pytestmark = pytest.mark.anyio

ONE = (
    ("ACME Corp.", "ACME Corporation"), ("Project Apollo", "the Apollo project"),
    ("University of Oxford", "Oxford University"), ("The Widget Factory", "Widget Factory"),
    ("Widget Manufacturing contract", "contract for Widget Manufacturing"), ("colour printer X", "color printer X"),
    ("Annual strategy meeting", "annual strategy meetings"),
)  # fmt: skip
ONE_BUT_ONLY_A_READER_KNOWS = (
    ("United Nations", "the UN"), ("Müller GmbH", "Mueller GmbH"), ("PostgreSQL database", "Postgres"),
    ("Machine Learning Platform", "ML Platform"), ("New York City", "NYC"),
    ("Bosch Technologies", "Robert Bosch Technologies"),
)  # fmt: skip
OTHERS = (
    ("Northwind Traders", "Southwind Traders"), ("Widget Manufacturing", "Gadget Manufacturing"),
    ("North Korea", "South Korea"), ("Hotel Adlon Berlin", "Hotel Adlon Vienna"), ("Alpha Labs", "Beta Labs"),
    ("First National Bank", "Second National Bank"), ("Sales department", "Marketing department"),
)  # fmt: skip
# As near as names that are one.
OTHERS_BY_A_WORD = (
    ("HSBC Bank", "HSBC Bank USA"), ("Project Alpha Phase One", "Project Alpha Phase Two"),
)  # fmt: skip
FAR = (
    ("ACME Corporation", "Apex Corporation"), ("Microsoft", "Apple"), ("Deutsche Bank", "Deutsche Bahn"),
    ("United Airlines", "United Nations"), ("Project Apollo", "Project Artemis"), ("General Motors", "General Electric"),
)  # fmt: skip


@pytest.fixture
async def embedder(model_folder: Path, tmp_path: Path) -> AsyncGenerator[LocalEmbedder]:
    embedder = LocalEmbedder(
        find_model(str(model_folder), tmp_path), ChildPool(size=1, memory_mb=4096, name="embedder")
    )
    try:
        await embedder.prepare()
        yield embedder
    finally:
        await embedder.close()


async def likeness(embedder: LocalEmbedder, pairs: tuple[tuple[str, str], ...]) -> list[float]:
    names = [name for pair in pairs for name in pair]
    vectors = await embedder.embed_documents(names)
    return [
        sum(map(operator.mul, one, other)) for one, other in zip(vectors[::2], vectors[1::2], strict=True)
    ]


async def test_what_is_certain_is_one_and_nothing_else_is_certain(embedder: LocalEmbedder) -> None:
    assert min(await likeness(embedder, ONE)) >= ALIKE
    assert max(await likeness(embedder, OTHERS)) < ALIKE


async def test_names_that_are_not_one_are_as_near_so_their_words_are_compared(
    embedder: LocalEmbedder,
) -> None:
    assert min(await likeness(embedder, OTHERS_BY_A_WORD)) >= ALIKE
    assert not any(same_words(*pair) for pair in OTHERS + OTHERS_BY_A_WORD)
    # Companies meet by what is left without their legal forms.
    assert all(same_words(*pair) for pair in ONE if pair[0] != "ACME Corp.")


async def test_what_a_reader_can_decide_is_asked_and_what_is_far_is_not(embedder: LocalEmbedder) -> None:
    doubtful = await likeness(embedder, ONE_BUT_ONLY_A_READER_KNOWS) + await likeness(embedder, OTHERS)
    assert min(doubtful) >= DOUBTFUL
    assert max(doubtful) < ALIKE
    assert max(await likeness(embedder, FAR)) < DOUBTFUL
