"""The real daemon on a disk of its own that fills up."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime.client import DaemonClient
from tests.runtime.services import fill, small_disk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=250) as disk:
        folder = disk / "data"
        monkeypatch.setenv("APEX_HOME", str(folder))
        monkeypatch.setenv("APEX_EMBEDDER", "none")
        yield folder
        with contextlib.suppress(ApexError), DaemonClient.connect(str(folder), start=False) as client:
            client.stop()


def test_what_was_stored_is_found_after_a_restart_on_a_full_disk_and_nothing_more_is_stored(
    home: Path,
) -> None:
    with DaemonClient.connect(str(home)) as client:
        client.call("add_memory", text="The lighthouse keeper likes tea.")
        list(client.stream("watch_ingestion", **first_ingestion(client), wait_seconds=20))
        client.stop()
    fill(home.parent, but_megabytes=40)
    with DaemonClient.connect(str(home)) as client:
        [hit] = client.call("search", query="lighthouse")["hits"]
        assert "likes tea" in hit["text"]
        with pytest.raises(ApexError) as caught:
            client.call("add_memory", text="One more.")
        assert caught.value.code == Code.DISK_FULL
        assert any("data folder's disk has" in notice for notice in client.call("status")["notices"])
        [degraded] = client.call("get_stats")["degraded"]
        assert degraded.startswith("disk: the data folder's disk has ")
        faults = [check for check in client.call("doctor") if check["state"] == "fault"]
        assert all("free space on the data folder's disk" in check["fix"] for check in faults)
        client.stop()


def first_ingestion(client: DaemonClient) -> dict[str, str]:
    [ingestion] = client.call("list_ingestions")["ingestions"]
    return {"ingestion_id": ingestion["ingestion_id"]}
