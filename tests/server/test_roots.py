import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from apex_mcp.ingestion.sources.roots import _is_system, local_path, usable_root


def test_a_folder_of_the_user_is_a_root(tmp_path: Path) -> None:
    assert usable_root(tmp_path)
    assert not usable_root(Path("relative"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX folders")
def test_a_link_to_a_system_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert not usable_root(tmp_path / "link")


@pytest.mark.parametrize("path", ["/", "/etc", "/etc/ssh", "/proc/1", "/home", "/usr", "/var", "/mnt"])
def test_a_system_folder_is_none_on_posix(path: str) -> None:
    assert _is_system(PurePosixPath(path))


@pytest.mark.parametrize("path", ["/home/ada", "/var/home/ada", "/mnt/share", "/opt/docs", "/usr/share/doc"])
def test_a_folder_below_a_shared_one_is_a_choice(path: str) -> None:
    assert not _is_system(PurePosixPath(path))


def test_drives_and_system_folders_are_none_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SystemRoot", "C:\\Windows")
    refused = ["C:\\", "d:/", "c:\\windows\\System32", "C:\\Users", "\\\\server\\share"]
    assert [path for path in refused if not _is_system(PureWindowsPath(path))] == []
    assert not _is_system(PureWindowsPath("C:\\Users\\Ada"))


@pytest.mark.parametrize(
    ("uri", "windows", "expected"),
    [
        ("file:///home/ada/my%20work", False, "/home/ada/my work"),
        ("file://localhost/home/ada", False, "/home/ada"),
        ("file://server/share", False, None),
        ("file:///c%3A/Users/Ada", True, "c:/Users/Ada"),
        ("file:///C:/Users/Ad%C3%A4", True, "C:/Users/Adä"),
        ("file://server/share/x", True, "//server/share/x"),
        ("file:///bad%FF", False, None),
        ("file:///nul%00", False, None),
        ("https://example.com/x", False, None),
    ],
)
def test_file_uris_are_paths_of_their_system(uri: str, windows: bool, expected: str | None) -> None:
    assert local_path(uri, windows=windows) == expected
