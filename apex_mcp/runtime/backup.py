"""A backup of the data folder, made while everything runs: the record as `pg_dump` sees it, what is staged, and the settings.

Indexes and Temporal's runs are made again from the record, and secrets are made anew, so none of these are in it.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from apex_mcp import __version__
from apex_mcp.archiving.container import ContainerReader, ContainerWriter, MemberWriter, damaged, newer
from apex_mcp.config_file import CONFIG_FILE, read_config
from apex_mcp.errors import ApexError, Code, Unavailable
from apex_mcp.runtime.home import DataFolder, storage_errors
from apex_mcp.runtime.postgres_programs import Programs, client_environment
from apex_mcp.settings import Settings
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.schema import HEAD

FORMAT = "apex-mcp backup"
VERSION = 1
RECORD = "record.dump"

_STAGING = "staging/"
_STAGED = re.compile(r"staging/[0-9a-f-]{36}/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_PIECE_BYTES = 1 << 20


class BackupManifest(BaseModel):
    """What the manifest of a backup says beside its members."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    made_with: Annotated[str, Field(max_length=100)]
    made_at: AwareDatetime
    record_id: UUID
    schema_version: Annotated[str, Field(pattern=r"^[0-9]{4}$")]
    left_out_settings: list[str]


async def write_backup(
    folder: DataFolder,
    record: Record,
    *,
    programs: Programs,
    conninfo: str,
    path: Path,
    force: bool,
) -> AsyncGenerator[int]:
    """Write a backup of a data folder whose PostgreSQL runs; yields the bytes that were taken, again and again.

    Raises:
        Conflict: there is a file already (`file_exists`).
        InputError: nothing can be written there.
        Unavailable: the record does not answer, or the disk is full; no file is left.
    """
    with await asyncio.to_thread(ContainerWriter, path, force=force) as writer:
        noted = await record.archives.note("backup", path.name)
        try:
            config, left_out = await asyncio.to_thread(settings_without_secrets, folder.config_toml)
            if config:
                with writer.member(CONFIG_FILE) as member:
                    member.write(config.encode())
            staged = await asyncio.to_thread(_add_staged, writer, folder.staging, frozenset[str]())
            with writer.member(RECORD, packed=False) as member:
                async for size in _dump(programs, conninfo, member):
                    yield size
            # What was staged while the record was read belongs to it, too.
            await asyncio.to_thread(_add_staged, writer, folder.staging, staged)
            identity = await record.index_log.identity()
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "version": VERSION,
                "made_with": f"apex-mcp {__version__}",
                "made_at": datetime.now(UTC).isoformat(),
                "record_id": str(identity.record_id),
                "schema_version": HEAD,
                "left_out_settings": left_out,
            }
            yield await asyncio.to_thread(writer.finish, manifest)
        except BaseException:
            with suppress(ApexError):
                await asyncio.shield(record.archives.withdraw(noted))
            raise


class BackupReader:
    """A backup. A context manager.

    Attributes:
        container: the file around it.
        manifest: what it says of itself.

    Raises:
        InputError: it is no backup, or damaged.
        Conflict: a newer apex-mcp made it.
    """

    def __init__(self, path: Path) -> None:
        self.container = ContainerReader(path, kind=FORMAT, version=VERSION, may_hold=_may_hold)
        try:
            if RECORD not in self.container.names:
                raise damaged("it has no record")
            try:
                self.manifest = BackupManifest.model_validate(self.container.manifest)
            except ValidationError:
                raise damaged("its manifest is not complete") from None
            if int(self.manifest.schema_version) > int(HEAD):
                raise newer("this backup is of a newer apex-mcp: its database has a later schema")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "BackupReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.__exit__(None, None, None)

    def check(self) -> None:
        """Read all of it.

        Raises:
            InputError: something is not what the manifest says.
        """
        for name in self.container.names:
            for _ in self.container.pieces(name):
                pass

    def unpack_beside_record(self, folder: DataFolder) -> None:
        """Put the settings and what was staged into a data folder."""
        for name in self.container.names:
            if name == CONFIG_FILE:
                self._put(name, folder.config_toml)
            elif name.startswith(_STAGING):
                ingestion, piece = name.removeprefix(_STAGING).split("/")
                self._put(name, folder.staging / ingestion / piece)

    def _put(self, name: str, place: Path) -> None:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in self.container.pieces(name):
                file.write(piece)


def settings_without_secrets(path: Path) -> tuple[str, list[str]]:
    """The text of `config.toml` without what is secret, and the names that were left out.

    Line by line, so that its comments stay; a file of which that can't be done in this way is left out whole.
    """
    given = read_config(path)
    if not given:
        return "", []
    secret = {
        name
        for name, value in given.items()
        if "SecretStr" in str(getattr(Settings.model_fields.get(name), "annotation", ""))
        or _tells_password(value)
    }
    text = path.read_text(encoding="utf-8-sig")
    names = "|".join(map(re.escape, secret))
    kept = re.sub(rf"(?m)^[ \t]*[\"']?(?:{names})[\"']?[ \t]*=.*\n?", "", text) if secret else text
    rest = {name: value for name, value in given.items() if name not in secret}
    if _read(kept) != rest or any(str(given[name]) in kept for name in secret):
        return "", sorted(given)
    return kept, sorted(secret)


def _read(text: str) -> dict[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _tells_password(value: Any) -> bool:
    if not isinstance(value, str) or "://" not in value:
        return False
    try:
        return urlsplit(value).password is not None
    except ValueError:
        return True


def _add_staged(writer: ContainerWriter, staging: Path, before: frozenset[str]) -> frozenset[str]:
    """Add what is staged and was not added before; what is gone by the time it is read belongs to nothing any more."""
    added = set(before)
    for path in sorted(staging.glob("*/*")):
        name = f"{_STAGING}{path.parent.name}/{path.name}"
        if name in added or not _STAGED.fullmatch(name) or path.suffix == ".partial":
            continue
        try:
            file = path.open("rb")
        except OSError:
            continue
        with file, writer.member(name) as member, storage_errors():
            member.copy(file)
        added.add(name)
    return frozenset(added)


async def _dump(programs: Programs, conninfo: str, member: MemberWriter) -> AsyncGenerator[int]:
    command = [programs["pg_dump"], "--format=custom", "--no-owner", "--no-privileges"]
    process = await asyncio.to_thread(
        subprocess.Popen[bytes],
        command,
        env=client_environment(conninfo),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    size = 0

    def pieces(source: IO[bytes]) -> Iterator[int]:
        while piece := source.read(_PIECE_BYTES):
            member.write(piece)
            yield len(piece)

    try:
        taken = pieces(process.stdout)
        while more := await asyncio.to_thread(next, taken, 0):
            size += more
            yield size
        status = await asyncio.to_thread(process.wait)
    finally:
        process.kill()
        process.stdout.close()
        await asyncio.shield(asyncio.to_thread(process.wait))
    if status != 0:
        raise Unavailable(
            "the record could not be read to its end",
            code=Code.RECORD_UNAVAILABLE,
            unchanged="no file was left there",
            next_step="look at `apex-mcp doctor`, then try again",
        )


def _may_hold(name: str) -> bool:
    return name in (RECORD, CONFIG_FILE) or _STAGED.fullmatch(name) is not None
