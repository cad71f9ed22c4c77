from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.ingestion.prepare import Item, Outcome, parse_and_chunk, prepare_together
from tests.ingestion.documents import make_docx

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
    pool = ChildPool(size=1, memory_mb=400, name="test")
    yield pool
    await pool.close()


def staged(folder: Path, data: bytes) -> str:
    path = folder / str(len(list(folder.iterdir())))
    path.write_bytes(data)
    return str(path)


async def test_a_child_gives_the_same_as_the_call_itself(pool: ChildPool, tmp_path: Path) -> None:
    item = (staged(tmp_path, make_docx([("Heading1", "Plan"), ("", "Ship it.")])), "plan.docx", "", 1_000)
    document, chunks = parse_and_chunk(*item)
    assert [chunk.text for chunk in chunks] == ["Plan\n\nShip it."]
    assert document.title == "Plan"
    run = pool.run("apex_mcp.ingestion.prepare:parse_and_chunk", *item, timeout_seconds=60)
    assert await run == (document, chunks)


async def test_an_error_crosses_from_the_child_whole(pool: ChildPool, tmp_path: Path) -> None:
    run = pool.run(
        "apex_mcp.ingestion.prepare:parse_and_chunk",
        staged(tmp_path, b"x" * 99),
        "",
        "",
        10,
        timeout_seconds=60,
    )
    with pytest.raises(InputError) as caught:
        await run
    assert (caught.value.code, caught.value.details) == (Code.TOO_LARGE, {"max_text_chars": 10})


def item(path: Path | None = None, text: str | None = None) -> Item:
    name = path.name if path else ""
    path = path.resolve() if path else None
    return Item(
        path=str(path) if path else None,
        staged=False,
        name=name,
        text=text,
        media_type="",
        entities=(),
        facts=(),
    )


def test_a_document_that_fails_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 broken")
    items = [
        item(tmp_path / "a.txt"),
        item(tmp_path / "b.pdf"),
        item(tmp_path / "missing"),
        item(text="four"),
    ]
    outcomes = prepare_together(items, 1_000, 1_000)
    assert [outcome.parsed.text for outcome in outcomes if isinstance(outcome, Outcome)] == ["one", "four"]
    assert [outcome.code for outcome in outcomes if isinstance(outcome, InputError)] == [
        Code.MALFORMED,
        Code.PATH_NOT_FOUND,
    ]
