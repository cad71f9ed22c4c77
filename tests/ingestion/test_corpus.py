"""Real and awkward files, held outside of the project; skipped where they are absent.

`APEX_TEST_CORPUS` names their folder, else it is `shared/corpus` beside the repository.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.chunking import MAX_TOKENS
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.models import Chunk, ParsedDocument

CORPUS = Path(os.environ.get("APEX_TEST_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")
GOOD = sorted(CORPUS.glob("good/*"))

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not GOOD, reason="the corpus is not here")]

# Words that a reader sees in the middle of each.
_RIGHTS = "deben comportarse fraternalmente los unos con los otros"
PHRASES = {
    "DA-619p.pdf": "Missionaries braved these hard lands only to become martyrs",
    "UDHR_first_article_all.txt": "Il-bnedmin kollha jitwieldu",
    "book-war-and-peace-1225p.txt": "and behind the outposts and told him that his wish to be presented to",
    "codeblock.md": "<heading>Reminder</heading>",
    "contains-pictures.docx": "this text follows it on the same line",
    "copy-protected.pdf": "Existing models are developed using distinct frameworks",
    "docx-hdrftr.docx": "Main document",
    "docx-tables.docx": "d | e f g&t h | i",
    "embedded-images-tables.pdf": "Potentiodynamic polarization data for stainless steel",
    "eng_spa_mult.docx": _RIGHTS,
    "eng_spa_mult.html": _RIGHTS,
    "eng_spa_mult.md": _RIGHTS,
    "eng_spa_mult.pptx": _RIGHTS,
    "example-10k-1p.html": "If an emerging growth company, indicate by check mark",
    "example-10k.html": "differences between the financial statement carrying amounts",
    "example-steelJIS-datasheet-utf-16.html": "Mechanical properties of grade SNB22-3",
    "example-with-scripts.html": "cumulatively wounded 150 personnel and destroyed three artillery installations",
    "fake-html-cp1252.html": 'La señora dijo: "¡Qué rico!" y pagó 25,75 €.',
    "fake-memo.pdf": "20,000 bottles of water, 10,000 blankets",
    "fake-power-point-many-pages.pptx": "Page 2",
    "fake-power-point-table.pptx": "Purple | Orange | Yellow",
    "fake-text-utf-16.txt": "Hamburgers are delicious",
    "fake-text-utf-32.txt": "Hamburgers are delicious",
    "fake-text.txt": "Hamburgers are delicious",
    "fr_olap.pdf": "un opérateur unaire et b un opérateur binaire",
    "group-shapes-nested.pptx": "D",
    "handbook-872p.docx": "DUTIES OF A STANDING TRUSTEE",
    "hebrew-text-base64-iso88598i.txt": "עדכון Tesla - נדרשת חתימה על הבקשה לרישום",
    "ideas-page.html": "Knowledge grows fractally. From a distance its edges look smooth",
    "korean-text-with-tables.pdf": "할인점은 온라인몰도 포함되며",
    "layout-parser-paper-fast.pdf": "Existing models are developed using distinct frameworks",
    "multi-column.pdf": "In this section, we experiment with how different",
    "norwich-city.txt": "Roberts was made an inaugural member of the Norwich City F.C. Hall of Fame.",
    "readme-sample.md": "pulling in some sample docs that are too big to store in the repo",
    "reliance.pdf": "Management Discussion",
    "simple-table.md": "Bananas | 1.89 | 6",
}

READABLE = {
    "fake-incomplete-json.txt": "johndoe@example.com",
    # A true presentation, whose shapes have no position: every word of it can be read.
    "fake-power-point-malformed.pptx": "Problem Date Placeholder",
    "invalid-pdf-structure-pdfminer-one-page.pdf": "designated information security as a government-wide",
    "pdf2image-memory-error-test-400p.pdf": "Command Codes BMFOL and",
}
REFUSED = {
    "empty.txt": Code.EMPTY_CONTENT,
    "fake-text-all-whitespace.txt": Code.EMPTY_CONTENT,
    "loremipsum-flat.pdf": Code.NO_TEXT,
    "password.pdf": Code.PASSWORD_PROTECTED,
    "password_protected.xlsx": Code.PASSWORD_PROTECTED,
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def pool(anyio_backend: str) -> AsyncIterator[ChildPool]:
    pool = ChildPool(size=1, memory_mb=1024, name="test")
    yield pool
    await pool.close()


async def prepare(pool: ChildPool, path: Path, name: str) -> tuple[ParsedDocument, tuple[Chunk, ...]]:
    return await pool.run(
        "apex_mcp.ingestion.prepare:parse_and_chunk", str(path), name, "", 20_000_000, timeout_seconds=150
    )


@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
async def test_a_good_file_is_found_by_words_from_its_middle(
    pool: ChildPool, path: Path, named: bool
) -> None:
    document, chunks = await prepare(pool, path, path.name if named else "")
    assert any(PHRASES[path.name] in " ".join(chunk.text.split()) for chunk in chunks)
    assert all(document.text[chunk.place.start : chunk.place.end] == chunk.text for chunk in chunks)
    assert all(chunk.tokens <= MAX_TOKENS for chunk in chunks)
    assert "\ufffd" not in document.text
    if path.suffix in (".pdf", ".pptx"):
        assert all(chunk.place.page_from for chunk in chunks)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_file_is_refused_for_what_is_wrong_with_it(pool: ChildPool, name: str) -> None:
    with pytest.raises(InputError) as caught:
        await prepare(pool, CORPUS / "bad" / name, name)
    assert caught.value.code is REFUSED[name]
    assert caught.value.next_step


@pytest.mark.parametrize("name", READABLE)
async def test_a_bad_file_that_can_be_read_is_read(pool: ChildPool, name: str) -> None:
    document, chunks = await prepare(pool, CORPUS / "bad" / name, name)
    assert any(READABLE[name] in chunk.text for chunk in chunks)
    empty = sum(page.start == page.end for page in document.pages)
    assert bool(document.warnings) == bool(empty or name == "fake-incomplete-json.txt")


def test_every_bad_file_is_spoken_for() -> None:
    assert {path.name for path in CORPUS.glob("bad/*")} == READABLE.keys() | REFUSED.keys()
