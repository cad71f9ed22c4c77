"""A file that cannot be written to its end is not left behind, and the reason is told."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apex_mcp.archiving.container import MANIFEST, ContainerReader, ContainerWriter
from apex_mcp.errors import ApexError


@contextmanager
def files_end_at(size: int) -> Generator[None]:
    """As on a disk that fills up: whatever is written beyond fails, at closing too."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(path: Path, content: bytes) -> None:
    with ContainerWriter(path, force=False) as writer:
        with writer.member("first", packed=False) as member:
            member.write(content)
        writer.finish({})


def copy(source: Path, path: Path) -> None:
    with ContainerWriter(path, force=False) as writer, writer.member("first") as member:
        member.copy(source.open("rb"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("size", [0, 10, 5000, 300_000])
def test_of_a_file_that_cannot_be_written_nothing_is_left(tmp_path: Path, size: int) -> None:
    with files_end_at(size), pytest.raises(ApexError) as caught:
        write(tmp_path / "one.zip", os.urandom(400_000))
    assert caught.value.message == "the file cannot be written there"
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_besides_writing_is_not_said_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy(tmp_path / "source", tmp_path / "one.zip")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    with ContainerWriter(tmp_path / "one.zip", force=False) as writer:
        with writer.member("first") as member:
            member.line({"a": 1})
        writer.finish({"format": "a test", "version": 1})
    with ContainerReader(tmp_path / "one.zip", kind="a test", version=1, may_hold=lambda _: True) as reader:
        assert reader.names == ["first"]
        assert b"".join(reader.pieces("first")) == b'{"a":1}\n'
    assert MANIFEST not in reader.names
