"""Nothing outside a caller's roots is read, whatever happens to a path after it was accepted."""

from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import anyio
import pytest

from apex_mcp.app import App
from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError
from apex_mcp.models import IngestionState
from apex_mcp.views import IngestionView
from tests.e2e.apps import CALLER, app_without_worker, ended, working
from tests.e2e.homes import Home, session
from tests.ingestion.documents import make_pdf

pytestmark = pytest.mark.anyio

SECRET = "The safe opens with lovage."


@pytest.fixture(scope="module")
async def app(anyio_backend: str) -> AsyncGenerator[App]:
    with TemporaryDirectory(prefix="apex") as folder:
        async with app_without_worker(Path(folder) / "home") as opened:
            yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a secret in text and in PDF."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "note.md").write_text(SECRET, "utf-8")
    (folder / "book.pdf").write_bytes(make_pdf([[SECRET]]))
    return folder


@pytest.fixture
def caller(root: Path) -> Caller:
    return Caller(roots=(root,), namespace=f"n{uuid4().hex}")


async def over(app: App, *views: IngestionView) -> list[IngestionView]:
    async with working(app):
        return await ended(app, views)


def refused(view: IngestionView) -> bool:
    assert view.failure is not None, view
    return (view.state, view.failure.code) == (IngestionState.ROLLED_BACK, Code.PATH_OUTSIDE_ROOTS)


async def test_a_link_that_takes_a_waiting_files_place_is_not_followed(
    app: App, root: Path, outside: Path, caller: Caller
) -> None:
    waiting: list[IngestionView] = []
    for place in (root, root / "sub"):
        place.mkdir(exist_ok=True)
        for name, content in (("note.md", b"harmless"), ("book.pdf", make_pdf([["harmless"]]))):
            (place / name).write_bytes(content)
            waiting.append(await app.memory.ingest_document(caller, source=str(place / name)))
    for name in ("note.md", "book.pdf"):
        (root / name).unlink()
        (root / name).symlink_to(outside / name)
        (root / "sub" / name).unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside, target_is_directory=True)
    assert [refused(view) for view in await over(app, *waiting)] == [True] * 4
    assert (await app.memory.list_memories(caller)).total == 0


async def test_a_retry_follows_no_link_that_took_a_failed_files_place(
    app: App, root: Path, outside: Path, caller: Caller
) -> None:
    broken = root / "book.pdf"
    broken.write_bytes(b"%PDF-1.4 broken")
    (failed,) = await over(app, await app.memory.ingest_document(caller, source=str(broken)))
    assert failed.state is IngestionState.ROLLED_BACK
    broken.unlink()
    broken.symlink_to(outside / "book.pdf")
    with pytest.raises(InputError) as raised:
        await app.memory.retry_ingestion(caller, ingestion_id=failed.ingestion_id)
    assert raised.value.code is Code.PATH_OUTSIDE_ROOTS
    # Roots are nothing to the command line, but its path led elsewhere when it was accepted.
    (again,) = await over(app, await app.memory.retry_ingestion(CALLER, ingestion_id=failed.ingestion_id))
    assert refused(again)


async def test_a_file_that_the_command_line_named_is_not_read_anew_for_who_may_not_read_it(
    app: App, outside: Path, caller: Caller
) -> None:
    path = outside / "book.pdf"
    content = path.read_bytes()
    path.write_bytes(b"%PDF-1.4 broken")
    user = Caller(vouched=True, namespace=caller.namespace)
    (failed,) = await over(app, await app.memory.ingest_document(user, source=str(path)))
    assert failed.state is IngestionState.ROLLED_BACK
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        await app.memory.retry_ingestion(caller, ingestion_id=failed.ingestion_id)
    assert raised.value.code is Code.PATH_OUTSIDE_ROOTS
    unchanged = await app.memory.get_ingestion(caller, ingestion_id=failed.ingestion_id)
    assert unchanged.state is IngestionState.ROLLED_BACK
    (view,) = await over(app, await app.memory.retry_ingestion(user, ingestion_id=failed.ingestion_id))
    assert view.state is IngestionState.READY


async def test_a_client_retries_what_lies_below_its_own_roots(shared_home: Home) -> None:
    path = shared_home.file(f"{uuid4().hex}.json", '{"plan": \n')
    async with session(shared_home) as client:
        failed = await client.ended("ingest_document", source=str(path))
        assert failed["failure"]["code"] == Code.MALFORMED
        path.write_text('{"plan": "grow lovage"}', "utf-8")
        await client.call("retry_ingestion", ingestion_id=failed["ingestion_id"])
        with anyio.fail_after(60):
            view = failed
            while view["state"] != "ready":
                (view,) = (await client.call("get_ingestion", ingestion_id=failed["ingestion_id"]))[
                    "ingestions"
                ]
