"""Which names count for whom, and what a server profile's process says when something is not set."""

import os
from pathlib import Path
from typing import Any

import pytest

from apex_mcp.errors import Code, Rejected
from apex_mcp.settings import BARE_NAMES, Settings, load_server_settings, load_settings

COMPLETE = {
    "DATABASE_URL": "postgresql://bare@db/apex",
    "QDRANT_URL": "http://qdrant:6333",
    "TEMPORAL_ADDRESS": "temporal:7233",
    "APEX_STAGING": "s3://bucket/staging",
}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*BARE_NAMES.values(), *(name for name in os.environ if name.startswith("APEX_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APEX_HOME", str(tmp_path))


def _set(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_bare_names_count_for_the_server_profile_only(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, COMPLETE | {"OPENAI_API_KEY": "bare", "REDIS_URL": "redis://r"})
    server, own = load_server_settings(), load_settings()
    assert server.database_url is not None
    assert server.database_url.get_secret_value() == "postgresql://bare@db/apex"
    assert (server.qdrant_url, server.temporal_address) == ("http://qdrant:6333", "temporal:7233")
    assert server.openai_api_key is not None
    assert (own.database_url, own.qdrant_url, own.redis_url, own.openai_api_key) == (None,) * 4


def test_our_own_name_wins_over_the_bare_one_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, COMPLETE | {"APEX_QDRANT_URL": "http://ours"})
    (tmp_path / "config.toml").write_text('temporal_address = "file:1"\nneo4j_user = "file"\n', "utf-8")
    settings = load_server_settings()
    assert (settings.qdrant_url, settings.temporal_address) == ("http://ours", "temporal:7233")
    assert settings.neo4j_user == "file"


@pytest.mark.parametrize("lacking", COMPLETE)
def test_what_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    _set(monkeypatch, {name: value for name, value in COMPLETE.items() if name != lacking})
    with pytest.raises(Rejected) as caught:
        load_server_settings()
    assert caught.value.code == Code.SETTINGS_INVALID
    named = [name for name in COMPLETE if name in caught.value.message]
    assert named == [lacking]


def test_a_value_that_is_not_valid_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, COMPLETE | {"APEX_HTTP_PORT": "4711secret"})
    with pytest.raises(Rejected) as caught:
        load_server_settings()
    assert "APEX_HTTP_PORT" in str(caught.value)
    assert "4711secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300"])
@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if "float" in str(field.annotation)]
)
def test_no_time_is_longer_than_can_be_counted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"APEX_{name.upper()}", value)
    with pytest.raises(Rejected) as caught:
        load_settings()
    assert (caught.value.code, caught.value.details) == (Code.SETTINGS_INVALID, {"settings": [name]})


@pytest.mark.parametrize("name", ["llm_model", "llm_small_model", "openai_embedding_model"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_model_has_a_name(name: str, value: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(Rejected) as caught:
        load_settings(**given)
    assert (caught.value.code, caught.value.details) == (Code.SETTINGS_INVALID, {"settings": [name]})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'namespace = "mine"\nroots = ["x\n', "not valid TOML, see line 2"),
        (b"embedder = secret words\n", "not valid TOML, see line 1"),
        (b'namespace = "mine"\n\nembedder = "\xff"\n', "not UTF-8 text, see line 3"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line_and_nothing_of_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(Rejected) as caught:
        load_settings()
    assert caught.value.code == Code.SETTINGS_INVALID
    assert f"config.toml in the data folder is {said}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'\xef\xbb\xbfnamespace = "mine"\r\n')
    assert load_settings().namespace == "mine"
