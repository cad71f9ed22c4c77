"""What is opened lies where the accepted path says."""

import os
from pathlib import Path

import pytest

from apex_mcp.ingestion.sources.opening import MovedError, open_unmoved


def test_a_file_is_opened_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "note.txt").write_bytes(b"words")
    with open_unmoved(tmp_path.resolve() / "deep" / "er" / "note.txt") as file:
        assert file.read() == b"words"


def test_no_link_is_followed_wherever_it_stands(tmp_path: Path) -> None:
    folder, outside = tmp_path.resolve(), tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub" / "note.txt").write_bytes(b"secret")
    (folder / "note.txt").symlink_to(outside / "sub" / "note.txt")
    (folder / "near").symlink_to(outside / "sub", target_is_directory=True)
    (folder / "far").symlink_to(outside, target_is_directory=True)
    (folder / "nowhere").symlink_to(folder / "absent")
    for way in ("note.txt", "near/note.txt", "far/sub/note.txt", "nowhere"):
        with pytest.raises(MovedError):
            open_unmoved(folder / way)


def test_what_has_gone_is_told_from_what_has_moved(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"words")
    for way in ("absent", "absent/note.txt", "file/note.txt"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            open_unmoved(tmp_path.resolve() / way)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_that_took_a_files_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_unmoved(tmp_path.resolve() / "pipe")
