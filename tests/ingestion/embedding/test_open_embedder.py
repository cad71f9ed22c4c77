import shutil
from pathlib import Path

import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding import open_embedder
from apex_mcp.ingestion.embedding.models import find_model
from apex_mcp.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "APEX_EMBEDDER",
        "APEX_OPENAI_API_KEY",
        "APEX_OPENAI_BASE_URL",
        "APEX_OPENAI_EMBEDDING_MODEL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APEX_HOME", str(tmp_path))


def test_none_is_no_embedder(tmp_path: Path) -> None:
    assert open_embedder(Settings(embedder="none"), tmp_path) is None


@pytest.mark.parametrize(
    ("settings", "name_in_message"),
    [
        (Settings(embedder="openai"), "APEX_OPENAI_API_KEY"),
        (Settings(embedder="openai", openai_base_url="ftp://models.example"), "https://"),
        (Settings(embedder="openai", openai_base_url="models.example/v1"), "https://"),
        (Settings(embedder="./models/mine"), "absolute path"),
    ],
    ids=["no key", "not http", "no scheme", "relative folder"],
)
def test_settings_that_cannot_work_are_refused_with_the_fix(
    settings: Settings, name_in_message: str, tmp_path: Path
) -> None:
    with pytest.raises(Rejected) as caught:
        open_embedder(settings, tmp_path)
    assert caught.value.code is Code.SETTINGS_INVALID
    assert name_in_message in caught.value.next_step


@pytest.mark.parametrize("files", [[], ["model.onnx"], ["tokenizer.json", "tokenizer_config.json"]])
async def test_a_folder_without_a_complete_model_costs_the_vectors_only(
    files: list[str], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"{}")
    embedder = open_embedder(Settings(embedder=str(tmp_path)), tmp_path, of_record="fastembed:mine:1234")
    assert embedder
    # By that name the record's vectors stay.
    assert (embedder.name, embedder.state.ready) == ("fastembed:mine:1234", False)
    assert "APEX_EMBEDDER names a folder without a complete model; " in embedder.state.text
    with pytest.raises(Rejected, match="without a complete model") as refused:
        await embedder.prepare()
    assert refused.value.code is Code.SETTINGS_INVALID
    with pytest.raises(Unavailable) as caught:
        await embedder.embed_query("a question")
    assert caught.value.code is Code.EMBEDDER_UNAVAILABLE
    await embedder.close()


async def test_a_folder_that_was_moved_away_is_named_with_the_fix(tmp_path: Path) -> None:
    embedder = open_embedder(Settings(embedder=str(tmp_path / "gone")), tmp_path)
    assert embedder
    assert embedder.state.text.startswith(
        "APEX_EMBEDDER names a folder that is not there; put the model back, "
    )
    await embedder.close()


async def test_another_endpoint_needs_no_key_and_its_password_is_no_part_of_the_name(tmp_path: Path) -> None:
    settings = Settings(embedder="openai", openai_base_url="http://me:secret@127.0.0.1:1234/v1/")
    embedder = open_embedder(settings, tmp_path)
    assert embedder
    assert embedder.name == "openai:text-embedding-3-small@http://127.0.0.1:1234/v1"
    await embedder.close()


async def test_the_default_is_a_local_model_that_opening_does_not_ask_for(tmp_path: Path) -> None:
    models_folder = tmp_path / "models"
    embedder = open_embedder(Settings(), models_folder)
    assert embedder
    assert embedder.name == "fastembed:sentence-transformers/all-MiniLM-L6-v2"
    assert not embedder.arrived
    await embedder.close()


def test_a_moved_folder_is_the_same_embedder_and_another_model_in_it_is_not(tmp_path: Path) -> None:
    first, moved = tmp_path / "one" / "model", tmp_path / "two" / "model"
    first.mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json", "tokenizer_config.json"):
        (first / name).write_bytes(name.encode())
    shutil.copytree(first, moved)
    assert find_model(str(first), tmp_path).identity == find_model(str(moved), tmp_path).identity
    (moved / "model.onnx").write_bytes(b"model.onny")
    assert find_model(str(first), tmp_path).identity != find_model(str(moved), tmp_path).identity
