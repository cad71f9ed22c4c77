import asyncio
import math
import shutil
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding import FetchProgress, Readiness, prepare_until_ready, protocol
from apex_mcp.ingestion.embedding.local import LocalEmbedder
from apex_mcp.ingestion.embedding.models import LocalModel, find_model
from apex_mcp.ingestion.pool import ChildPool
from tests.doubles.hub_server import HubServer

pytestmark = pytest.mark.anyio

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REPOSITORY = "Qdrant/all-MiniLM-L6-v2-onnx"
NOTES = [
    "The board approved a dividend of two euros a share.",
    "Cats sleep for most of the day.",
    "Shareholders will be paid in June, the company said, after a year of record profits in all its markets.",
    "Rain is expected.",
]


@asynccontextmanager
async def local_embedder(model: LocalModel) -> AsyncGenerator[LocalEmbedder]:
    embedder = LocalEmbedder(model, ChildPool(size=1, memory_mb=4096, name="embedder"))
    try:
        yield embedder
    finally:
        await embedder.close()


@pytest.fixture
async def embedder(model_folder: Path, tmp_path: Path) -> AsyncGenerator[LocalEmbedder]:
    async with local_embedder(find_model(str(model_folder), tmp_path)) as embedder:
        await embedder.prepare()
        yield embedder


@pytest.fixture
def hub(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(REPOSITORY, model_folder) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_a_token_of_the_user")
        yield hub


@pytest.fixture
def closed_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer(REPOSITORY, Path()) as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


async def child_id(embedder: LocalEmbedder) -> int:
    return await embedder._pool.run("os:getpid", timeout_seconds=10)


async def test_a_folder_is_ready_once_prepared(embedder: LocalEmbedder) -> None:
    assert embedder.dimension == 384
    assert embedder.state.readiness is Readiness.READY
    assert embedder.arrived


async def test_texts_become_unit_vectors_in_their_order_whatever_their_lengths(
    embedder: LocalEmbedder,
) -> None:
    texts = [note * times for times in (9, 1, 4) for note in NOTES]
    together = await embedder.embed_documents(texts)
    for text, vector in zip(texts, together, strict=True):
        [alone] = await embedder.embed_documents([text])
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
        # The int8 model scales each batch by its largest value, so neighbours weigh a little.
        assert cosine(vector, alone) > 0.98


async def test_a_question_is_nearest_to_the_note_that_answers_it(embedder: LocalEmbedder) -> None:
    question = await embedder.embed_query("When do the owners of the company get their money?")
    scores = [cosine(question, vector) for vector in await embedder.embed_documents(NOTES)]
    assert max(scores) == scores[2]


async def test_the_end_of_a_text_beyond_the_window_counts(embedder: LocalEmbedder) -> None:
    filler = "The weather stayed mild and the roads were dry in the whole county. " * 24
    ending = "The lighthouse keeper repaired the old diesel generator. " * 8
    question = await embedder.embed_query("Who repaired the generator at the lighthouse?")
    without, with_ending = await embedder.embed_documents([filler, filler + ending])
    assert cosine(question, with_ending) > cosine(question, without) + 0.15


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "lone \ud800 surrogate",
        "\x00\x07",
        "x" * 300_000,
        "日本語の長い文書。" * 2_000,
        "🙂" * 3_000,
    ],
    ids=["empty", "blank", "surrogate", "control", "one word", "Japanese", "emoji"],
)
async def test_odd_texts_get_a_vector_too(embedder: LocalEmbedder, text: str) -> None:
    [vector] = await embedder.embed_documents([text])
    assert len(vector) == 384
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
    assert len(await embedder.embed_query(text)) == 384


async def test_no_text_gives_no_vector(embedder: LocalEmbedder) -> None:
    assert await embedder.embed_documents([]) == []


async def test_a_question_goes_ahead_of_waiting_documents(embedder: LocalEmbedder) -> None:
    many = asyncio.create_task(embedder.embed_documents([" ".join(NOTES) * 2] * 80))
    more = asyncio.create_task(embedder.embed_documents([" ".join(NOTES) * 2] * 80))
    await asyncio.sleep(0)
    await embedder.embed_query("hello")
    assert not many.done()
    assert not more.done()
    await asyncio.gather(many, more)


async def test_a_cancelled_question_costs_nobody_the_loaded_model(embedder: LocalEmbedder) -> None:
    before = await child_id(embedder)
    documents = asyncio.create_task(embedder.embed_documents(NOTES * 30))
    for _ in range(5):
        asking = asyncio.create_task(embedder.embed_query("hello"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert len(await documents) == 120
    assert await child_id(embedder) == before


async def test_a_killed_child_is_replaced_and_its_call_goes_on(embedder: LocalEmbedder) -> None:
    documents = asyncio.create_task(embedder.embed_documents([" ".join(NOTES) * 2] * 80))
    await embedder.embed_query("the child is at work")
    child = psutil.Process(await child_id(embedder))
    child.kill()
    assert len(await documents) == 80
    assert len(await embedder.embed_query("hello")) == 384
    assert not child.is_running()


async def test_asked_before_it_is_prepared_it_says_so_at_once(model_folder: Path, tmp_path: Path) -> None:
    async with local_embedder(find_model(str(model_folder), tmp_path)) as embedder:
        assert embedder.state.readiness is Readiness.FETCHING
        with pytest.raises(Unavailable) as caught:
            await embedder.embed_query("hello")
    assert caught.value.code is Code.EMBEDDER_UNAVAILABLE


async def test_files_that_are_no_model_are_refused_with_the_way_out(
    tmp_path: Path, model_folder: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder / name, broken)
    (broken / "model.onnx").write_bytes((model_folder / "model.onnx").read_bytes()[:100_000])
    async with local_embedder(find_model(str(broken), tmp_path)) as embedder:
        with pytest.raises(Rejected) as caught:
            await embedder.prepare()
        assert caught.value.code is Code.SETTINGS_INVALID
        assert "APEX_EMBEDDER" in caught.value.next_step
        assert embedder.state.readiness is Readiness.UNAVAILABLE
        assert str(tmp_path) not in str(caught.value)


async def test_a_model_is_fetched_with_progress_and_then_never_asked_for_again(
    hub: HubServer, tmp_path: Path
) -> None:
    progress: list[FetchProgress] = []
    async with local_embedder(find_model(MINILM, tmp_path / "models")) as embedder:
        assert embedder.name == f"fastembed:{MINILM}"
        assert not embedder.arrived
        await embedder.prepare(progress.append)
        assert embedder.state.ready
        assert embedder.dimension == 384
    assert progress[0].total_bytes > 20_000_000
    assert all("authorization" not in headers for headers in hub.headers), "the user's token stays here"
    asked = len(hub.paths)
    async with local_embedder(find_model(MINILM, tmp_path / "models")) as embedder:
        assert embedder.arrived
        await embedder.prepare()
        assert len(await embedder.embed_query("hello")) == 384
    assert len(hub.paths) == asked


async def test_the_fetched_model_takes_the_same_window_as_the_folder(
    hub: HubServer, embedder: LocalEmbedder, tmp_path: Path
) -> None:
    long = " ".join(NOTES) * 8
    async with local_embedder(find_model(MINILM, tmp_path / "models")) as fetched:
        await fetched.prepare()
        assert cosine(await fetched.embed_query(long), await embedder.embed_query(long)) == pytest.approx(
            1, abs=1e-5
        )


async def test_a_cut_transfer_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.cut_after_bytes = 15_000_000
    async with local_embedder(find_model(MINILM, tmp_path)) as embedder:
        await embedder.prepare()
        assert embedder.state.ready
    assert any("range" in headers for headers in hub.headers)


async def test_two_who_want_the_same_model_fetch_it_once(hub: HubServer, tmp_path: Path) -> None:
    async with (
        local_embedder(find_model(MINILM, tmp_path)) as first,
        local_embedder(find_model(MINILM, tmp_path)) as second,
    ):
        await asyncio.gather(first.prepare(), second.prepare())
        assert first.state.ready
        assert second.state.ready
    assert sum(path.endswith("/model.onnx") for path in hub.paths) <= 2  # one HEAD, one GET


async def test_a_cancelled_fetch_leaves_no_process_and_no_half_model(hub: HubServer, tmp_path: Path) -> None:
    hub.held.set()
    before = set(psutil.Process().children())  # the servers of other tests in this process
    async with local_embedder(find_model(MINILM, tmp_path)) as embedder:
        preparing = asyncio.create_task(embedder.prepare())
        assert await asyncio.to_thread(hub.transferring.wait, 60)
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        assert set(psutil.Process().children()) - before == set()
        assert not embedder.arrived
        hub.held.clear()
        await embedder.prepare()
        assert embedder.state.ready


@pytest.mark.usefixtures("closed_hub")
async def test_a_closed_network_is_said_plainly(tmp_path: Path) -> None:
    async with local_embedder(find_model(MINILM, tmp_path)) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.prepare()
        assert caught.value.code is Code.EMBEDDER_UNAVAILABLE
        assert embedder.state.readiness is Readiness.UNAVAILABLE
        assert "search is by words until it is there" in embedder.state.text
        assert "apex-mcp setup" in embedder.state.text
        assert not embedder.arrived


@pytest.mark.usefixtures("closed_hub")
async def test_a_name_that_fastembed_does_not_have_is_refused(tmp_path: Path) -> None:
    async with local_embedder(find_model("no-one/no-such-model", tmp_path)) as embedder:
        with pytest.raises(Rejected) as caught:
            await embedder.prepare()
    assert caught.value.code is Code.SETTINGS_INVALID


@pytest.mark.usefixtures("closed_hub")
async def test_a_model_that_comes_in_by_another_way_is_noticed_and_the_reason_said_once(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "_FIRST_PAUSE_SECONDS", 0.1)
    model = find_model(MINILM, tmp_path)
    async with local_embedder(model) as embedder, asyncio.timeout(120):
        waiting = asyncio.create_task(prepare_until_ready(embedder))
        while embedder.state.readiness is not Readiness.UNAVAILABLE:  # noqa: ASYNC110  (it has no event)
            await asyncio.sleep(0.05)
        shutil.copytree(model_folder, model.folder)
        await waiting
        assert embedder.state.ready
    assert [record.levelname for record in caplog.records if record.name == protocol.__name__] == ["WARNING"]
