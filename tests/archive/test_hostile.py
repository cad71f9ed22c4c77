"""An archive is anybody's: what is not as docs/archive.md says stores nothing, and is named without its content."""

import json
import os
import stat
import sys
import zipfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after

from apex_mcp.archiving import container
from apex_mcp.archiving.container import MANIFEST
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code
from tests.archive.memories import Kept, kept, lines, members, rewrite
from tests.archive.telling import tell_history

pytestmark = pytest.mark.anyio

SECRET = "zebra-content"


async def refused(other: Kept, file: Path, **given: Any) -> ApexError:
    with pytest.raises(ApexError) as caught:
        await other.take_in(file, **given)
    async with other.record.database.connection() as connection:
        row = await (await connection.execute("SELECT count(*) AS n FROM versions")).fetchone()
        assert row == {"n": 0}
    assert await other.keeper.vectors.count() == 0
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
async def archive(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Told once: it is only read."""
    path = tmp_path_factory.mktemp("archive")
    async with kept(new_database(), path / "one") as one:
        await tell_history(one)
        await one.export(path / "all.zip")
        await tell_history(one, namespace="second")
        await one.export(path / "two.zip")
    return path / "all.zip"


@pytest.fixture(scope="module")
async def other(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Kept]:
    """Into which nothing of all this may get."""
    async with kept(new_database(), tmp_path_factory.mktemp("other")) as memory:
        yield memory


def damaged(file: Path) -> dict[str, bytes]:
    data = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        within = archive.getinfo("versions.jsonl").header_offset + 200
    flipped = bytearray(data)
    flipped[within] ^= 0xFF
    return {
        "empty": b"",
        "text": b"PK and nothing else",
        "cut": data[:-200],
        "half": data[: len(data) // 2],
        "flipped": bytes(flipped),
    }


def changed(file: Path, kind: str, place: int, fields: dict[str, Any]) -> Path:
    """The archive with other fields in one line, which its manifest tells of."""
    all_lines = lines(file, kind)
    all_lines[place - 1] |= fields
    return rewrite(file, {f"{kind}.jsonl": _jsonl(all_lines)})


def told(file: Path, fields: dict[str, Any]) -> Path:
    """The archive with other fields in its manifest."""
    content = members(file)
    content[MANIFEST] = json.dumps(json.loads(content[MANIFEST]) | fields).encode()
    made = file.with_name(f"told-{file.name}")
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return made


def _parsed(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def _jsonl(some: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in some)


async def test_what_is_no_archive_is_refused(archive: Path, other: Kept, tmp_path: Path) -> None:
    assert (await refused(other, tmp_path / "none.zip")).code == Code.PATH_NOT_FOUND
    for name, content in damaged(archive).items():
        (tmp_path / name).write_bytes(content)
        assert (await refused(other, tmp_path / name)).code == Code.ARCHIVE_INVALID
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    assert (await refused(other, tmp_path / "foreign.zip")).code == Code.ARCHIVE_INVALID


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
async def test_a_pipe_is_refused_at_once(other: Kept, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with fail_after(10):
        error = await refused(other, tmp_path / "pipe")
    assert (error.code, "regular file" in error.message) == (Code.PATH_NOT_READABLE, True)
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    assert (await refused(other, tmp_path / "link")).code == Code.PATH_NOT_READABLE
    assert (await refused(other, tmp_path)).code == Code.PATH_NOT_READABLE


async def test_a_byte_that_changed_is_found(archive: Path, other: Kept) -> None:
    body = members(archive)["chunks.jsonl"]
    wrong = rewrite(archive, {"chunks.jsonl": body.replace(b"herons", b"herans")}, honest=False)
    error = await refused(other, wrong)
    assert (error.code, "chunks.jsonl" in error.message) == (Code.ARCHIVE_INVALID, True)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"version": 2}, Code.ARCHIVE_NEWER),
        ({"version": 0}, Code.ARCHIVE_INVALID),
        ({"version": "1"}, Code.ARCHIVE_INVALID),
        ({"format": "another archive"}, Code.ARCHIVE_INVALID),
        ({"members": []}, Code.ARCHIVE_INVALID),
        ({"members": [{"name": 1}]}, Code.ARCHIVE_INVALID),
        ({"members": None}, Code.ARCHIVE_INVALID),
    ],
)
async def test_a_manifest_that_is_newer_or_wrong_is_refused(
    archive: Path, other: Kept, fields: dict[str, Any], code: Code
) -> None:
    assert (await refused(other, told(archive, fields))).code == code


@pytest.mark.parametrize(
    "fields", [{"documents": 99}, {"versions": 99}, {"chunks": 1}, {"facts": "1"}, {"more": 0}]
)
async def test_counts_that_are_not_those_of_the_members_are_refused(
    archive: Path, other: Kept, fields: dict[str, Any]
) -> None:
    counts = json.loads(members(archive)[MANIFEST])["counts"]
    hostile: list[Any] = [counts | fields, None, {}, [1]]
    for wrong in hostile:
        error = await refused(other, told(archive, {"counts": wrong}))
        assert (error.code, "counts" in error.message) == (Code.ARCHIVE_INVALID, True)


async def test_namespaces_that_the_manifest_does_not_name_or_that_stand_twice_are_refused(
    archive: Path, other: Kept
) -> None:
    assert (await refused(other, told(archive, {"namespaces": []}))).code == Code.ARCHIVE_INVALID
    twice = rewrite(archive, {"namespaces.jsonl": members(archive)["namespaces.jsonl"] * 2})
    error = await refused(other, told(twice, {"namespaces": ["default"] * 2}))
    assert (error.code, "namespaces" in error.message) == (Code.ARCHIVE_INVALID, True)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "extra.jsonl", "originals/../evil", "originals/" + "A" * 64]
)
async def test_members_that_do_not_belong_there_are_refused(archive: Path, other: Kept, name: str) -> None:
    error = await refused(other, rewrite(archive, {name: b"x"}))
    assert error.code == Code.ARCHIVE_INVALID


@pytest.mark.parametrize(
    ("kind", "number", "fields"),
    [
        ("versions", 2, {"title": f"{SECRET}\0"}),
        ("versions", 2, {"text": 7}),
        ("versions", 2, {"unknown": SECRET}),
        ("versions", 2, {"accepted_at": "2024-01-01T00:00:00"}),
        ("versions", 2, {"source_type": SECRET}),
        ("versions", 2, {"metadata": {"deep": "\0"}}),
        ("versions", 2, {"metadata": {"number": float("inf")}}),
        ("versions", 2, {"number": 2**40}),
        ("versions", 2, {"number": 2**31 - 1}),
        ("versions", 2, {"content_hash": ""}),
        ("versions", 2, {"newest_hash": SECRET}),
        ("versions", 1, {"revision_to": 1}),
        ("versions", 3, {"revision_to": 2}),
        ("versions", 2, {"chunks": 5}),
        ("versions", 3, {"revision_from": 1}),
        ("versions", 5, {"revision_from": 2**50}),
        ("versions", 5, {"namespace": "elsewhere"}),
        ("versions", 2, {"pages": [[1, 0, 9999]]}),
        ("versions", 2, {"headings": [[1, SECRET, 2, 1]]}),
        ("versions", 1, {"newest": True}),
        ("versions", 2, {"previous": "6f1d7a52-8d0e-5c53-9d36-0b1c4b1f3a77"}),
        ("versions", 2, {"key": "staff"}),
        ("versions", 3, {"previous": None}),
        ("chunks", 3, {"ordinal": 7}),
        ("chunks", 3, {"text": SECRET}),
        ("chunks", 3, {"start": 1}),
        ("chunks", 3, {"end": 9999}),
        ("chunks", 3, {"start": 9999, "end": 9999, "text": ""}),
        ("chunks", 3, {"start": 5, "end": 2, "text": ""}),
        ("chunks", 3, {"version": "6f1d7a52-8d0e-5c53-9d36-0b1c4b1f3a77"}),
        ("entities", 1, {"layer": 2}),
        ("entities", 1, {"chunks": [99]}),
        ("entities", 1, {"arrival": 2**60}),
        ("facts", 1, {"chunk": 99}),
        ("facts", 1, {"subject": "nobody"}),
        ("facts", 1, {"valid_at": "soon"}),
        ("facts", 1, {"valid_at": "9999-12-31T23:59:59-12:00"}),
        ("versions", 2, {"usage": {"requests": float("inf")}}),
        ("links", 1, {"reason": SECRET}),
        ("links", 1, {"a": "ann", "b": "ann"}),
        ("splits", 1, {"a": "ann", "b": "ann"}),
        ("ends", 1, {"invalid_at": None}),
        ("splits", 1, {"revision_from": -1}),
        ("splits", 1, {"namespace": "elsewhere"}),
        ("links", 1, {"namespace": "elsewhere"}),
        ("revisions", 3, {"revision": 1}),
        ("namespaces", 1, {"name": "../evil"}),
        ("namespaces", 1, {"arrivals": 2**50}),
        ("namespaces", 1, {"revision": 2**53}),
    ],
)
async def test_a_line_that_is_wrong_is_named_and_nothing_is_stored(
    archive: Path, other: Kept, kind: str, number: int, fields: dict[str, Any]
) -> None:
    error = await refused(other, changed(archive, kind, number, fields))
    assert error.code == Code.ARCHIVE_INVALID
    assert " of " in error.message
    assert ".jsonl" in error.message


async def test_a_document_without_a_newest_version_is_refused(archive: Path, other: Kept) -> None:
    error = await refused(other, changed(archive, "versions", 3, {"newest": False}))
    assert (error.code, "newest" in error.message) == (Code.ARCHIVE_INVALID, True)


async def test_a_version_that_stands_twice_is_refused(archive: Path, other: Kept) -> None:
    first, *rest = lines(archive, "versions")
    again = first | {"previous": first["id"], "chunks": 0}
    error = await refused(other, rewrite(archive, {"versions.jsonl": _jsonl([first, again, *rest])}))
    assert (error.code, "does not follow" in error.message) == (Code.ARCHIVE_INVALID, True)


async def test_lines_that_lack_or_are_too_many_are_found(archive: Path, other: Kept) -> None:
    body = members(archive)["chunks.jsonl"].splitlines(keepends=True)
    for some in (
        body[:-1],
        [*body, body[-1]],
        [body[1], body[0], *body[2:]],
        [*body, b"[1]\n"],
        [*body, b"no"],
    ):
        error = await refused(other, rewrite(archive, {"chunks.jsonl": b"".join(some)}))
        assert error.code == Code.ARCHIVE_INVALID


async def test_what_would_fill_a_disk_is_refused(
    archive: Path, other: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_FREE_BYTES", 1 << 20)
    bomb = tmp_path / "bomb.zip"
    content = members(archive)
    manifest = json.loads(content[MANIFEST])
    size = 1 << 26
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            if name not in (MANIFEST, "answers.jsonl"):
                file.writestr(name, data)
        with file.open("answers.jsonl", "w", force_zip64=True) as member:
            for _ in range(size >> 24):
                member.write(b" " * (1 << 24))
        for one in manifest["members"]:
            if one["name"] == "answers.jsonl":
                one["bytes"] = size
        file.writestr(MANIFEST, json.dumps(manifest))
    assert (await refused(other, bomb)).code == Code.TOO_LARGE


async def test_a_text_that_is_longer_than_is_taken_here_is_refused(
    archive: Path, new_database: Callable[[], str], tmp_path: Path
) -> None:
    async with kept(new_database(), tmp_path / "small", max_text_chars=10) as small:
        error = await refused(small, archive)
        assert "APEX_MAX_TEXT_CHARS" in error.message


async def test_namespaces_may_stand_in_any_order(archive: Path, new_database: Callable[[], str]) -> None:
    """A database sorts names by its own collation."""
    two = archive.with_name("two.zip")
    backwards = {
        f"{kind}.jsonl": _jsonl(sorted(lines(two, kind), key=lambda line: line[name], reverse=True))
        for kind, name in (
            ("namespaces", "name"), ("revisions", "namespace"), ("versions", "namespace"), ("links", "namespace"),
            ("ends", "namespace"), ("splits", "namespace"),
        )
    }  # fmt: skip
    places = {line["id"]: place for place, line in enumerate(_parsed(backwards["versions.jsonl"]))}
    for kind in ("chunks", "entities", "facts", "answers"):
        some = sorted(lines(two, kind), key=lambda line: places[line["version"]])
        backwards[f"{kind}.jsonl"] = _jsonl(some)
    file = told(rewrite(two, backwards), {"namespaces": ["second", "default"]})
    async with kept(new_database(), archive.with_name("backwards")) as memory:
        came = await memory.take_in(file)
    assert (came.namespaces, came.documents["imported"]) == (["second", "default"], 8)


async def test_several_memories_do_not_become_one(archive: Path, other: Kept) -> None:
    error = await refused(other, archive.with_name("two.zip"), into="one")
    assert error.code == Code.INVALID_ARGUMENT


async def test_a_file_that_is_there_is_replaced_only_by_force_and_an_export_leaves_nothing_half_made(
    one: Kept, tmp_path: Path
) -> None:
    file = tmp_path / "all.zip"
    file.write_text("mine", "utf-8")
    with pytest.raises(ApexError) as caught:
        await one.export(file)
    assert (caught.value.code, file.read_text("utf-8")) == (Code.FILE_EXISTS, "mine")
    with pytest.raises(ApexError) as caught:
        await one.export(tmp_path / "no folder" / "all.zip")
    assert caught.value.code == Code.PATH_NOT_FOUND
    with pytest.raises(ApexError) as caught:
        await one.export(tmp_path / "new.zip", namespace="nobody")
    assert caught.value.code == Code.NOT_FOUND
    assert await one.record.forgetting.archives("default", since=None) == []
    await tell_history(one)
    await one.export(file, force=True)
    assert zipfile.is_zipfile(file)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [name for name in os.listdir(tmp_path) if name.endswith((".zip", ".part"))] == ["all.zip"]
    (noted,) = await one.record.forgetting.archives("default", since=None)
    assert (noted.kind, noted.name, noted.documents) == ("export", "all.zip", 4)


async def test_only_the_command_line_names_paths(one: Kept, tmp_path: Path) -> None:
    with pytest.raises(ApexError) as caught:
        [step async for step in one.memory.export_archive(Caller(), path=tmp_path / "all.zip")]
    assert caught.value.code == Code.UNAUTHORIZED
    with pytest.raises(ApexError) as caught:
        [step async for step in one.memory.import_archive(Caller(), path=tmp_path / "all.zip")]
    assert caught.value.code == Code.UNAUTHORIZED
