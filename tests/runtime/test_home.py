import os
import stat
import threading
from pathlib import Path

import pytest

from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime.home import SOCKET_NAME, SOCKET_PATH_BYTES, DataFolder, Secrets, read_json, write_json
from tests.runtime.services import fill, small_disk

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
root_only = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path) -> Code:
    with pytest.raises(ApexError) as caught:
        DataFolder(path).prepare()
    assert caught.value.next_step
    return caught.value.code


@posix_only
def test_a_new_data_folder_is_closed_to_others_and_its_parents_stay_as_they_were(tmp_path: Path) -> None:
    parent = tmp_path / "shared"
    parent.mkdir(mode=0o755)
    home = DataFolder(parent / "data").prepare()
    assert mode(home.path) == 0o700
    assert mode(home.secrets_json) == 0o600
    assert mode(parent) == 0o755


@posix_only
def test_an_open_data_folder_is_closed_at_the_next_start(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    home.path.chmod(0o755)
    home.prepare()
    assert mode(home.path) == 0o700


def test_preparing_again_changes_no_secret(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data").prepare().secrets()
    assert DataFolder(tmp_path / "data").prepare().secrets() == first
    assert len(first.postgres_password) >= 32


def test_two_first_starts_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    seen: list[Secrets] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        seen.append(DataFolder(tmp_path / "data").prepare().secrets())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_a_folder_that_holds_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    (folder / "thesis.md").write_text("mine", encoding="utf-8")
    before = mode(folder)
    assert refusal(folder) == Code.DATA_FOLDER_UNUSABLE
    assert os.listdir(folder) == ["thesis.md"]
    assert mode(folder) == before


def test_a_data_folder_without_its_secrets_is_recognised_and_left_as_it_was(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    home.postgres.mkdir()
    (home.postgres / "PG_VERSION").write_text("18\n", encoding="utf-8")
    home.secrets_json.unlink()
    before = sorted(os.listdir(home.path))
    with pytest.raises(ApexError, match=r"secrets\.json is missing") as caught:
        home.prepare()
    assert caught.value.code == Code.DATA_FOLDER_UNUSABLE
    assert caught.value.next_step.startswith("restore secrets.json from a backup")
    assert sorted(os.listdir(home.path)) == before


def test_a_folder_with_only_the_users_config_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "config.toml").write_text("", encoding="utf-8")
    assert DataFolder(folder).prepare().secrets_json.exists()


def test_a_file_in_place_of_the_folder_or_above_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert refusal(tmp_path / "file") == Code.DATA_FOLDER_UNUSABLE
    assert refusal(tmp_path / "file" / "below") == Code.DATA_FOLDER_UNUSABLE


@root_only
def test_another_users_folder_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, 65534, 65534)
    assert refusal(folder) == Code.DATA_FOLDER_UNUSABLE
    assert os.listdir(folder) == []
    assert mode(folder) == 0o755


def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=100, read_only=True) as disk:
        assert refusal(disk / "data") == Code.DATA_FOLDER_UNUSABLE


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=10) as disk:
        assert refusal(disk / "data") == Code.DISK_FULL


def test_a_folder_with_a_database_is_opened_on_a_full_disk_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=10) as disk:
        home = DataFolder(disk / "data")
        home.postgres.mkdir(parents=True)
        (home.postgres / "PG_VERSION").write_text("18", encoding="utf-8")
        home.secrets()
        assert home.prepare().logs.is_dir()


def test_damaged_secrets_are_refused_and_not_replaced(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    home.secrets_json.write_text('{"postgres_password": "t"', encoding="utf-8")
    assert refusal(home.path) == Code.DATA_FOLDER_UNUSABLE
    assert home.secrets_json.read_text(encoding="utf-8") == '{"postgres_password": "t"'


def test_json_is_read_back_and_what_is_no_object_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_json(path) is None
    write_json(path, {"port": 7233})
    assert read_json(path) == {"port": 7233}
    path.write_text("[1]", encoding="utf-8")
    assert read_json(path) is None
    path.write_bytes(b"\xff{")
    assert read_json(path) is None


def test_a_json_file_that_cannot_be_written_keeps_its_old_content_and_leaves_no_other(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        write_json(disk / "state.json", {"port": 1})
        fill(disk, but_megabytes=1)
        with pytest.raises(ApexError) as caught:
            write_json(disk / "state.json", {"port": "x" * 2_000_000})
        assert caught.value.code == Code.DISK_FULL
        assert read_json(disk / "state.json") == {"port": 1}
        assert sorted(os.listdir(disk)) == ["filler", "state.json"]


def test_the_socket_folder_is_in_the_data_folder_where_its_path_is_short(tmp_path: Path) -> None:
    home = DataFolder(Path(os.path.relpath(tmp_path)).absolute() / "d").prepare()
    if len(os.fsencode(home.path / "postgres.socket" / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
        assert home.postgres_socket().parent == home.path


@posix_only
def test_a_long_path_gets_a_short_and_private_socket_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(os.path.realpath("/tmp")) / f"apex-test-{os.getpid()}"
    short.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    try:
        home = DataFolder(tmp_path / ("long" * 20) / "data").prepare()
        folder = home.postgres_socket()
        assert len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES
        assert folder.parent == short
        assert mode(folder) == 0o700
        (folder / "used").touch()
        home.forget_postgres_socket()
        assert folder.exists()
        (folder / "used").unlink()
        home.forget_postgres_socket()
        assert not folder.exists()
        other = DataFolder(tmp_path / ("long" * 20) / "other").prepare()
        assert other.postgres_socket() != folder
        folder.symlink_to(tmp_path)
        with pytest.raises(ApexError) as caught:
            home.postgres_socket()
        assert caught.value.code == Code.DATA_FOLDER_UNUSABLE
        folder.unlink()
        other.postgres_socket().rmdir()
    finally:
        short.rmdir()
