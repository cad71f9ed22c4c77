"""Checks of every component and door: each says what it found, and for a fault how to mend it."""

import asyncio
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from apex_mcp.errors import ApexError, Unavailable
from apex_mcp.ingestion.contract import GREETING_WORKFLOW
from apex_mcp.ingestion.embedding.protocol import Embedder, Readiness
from apex_mcp.ingestion.enriching.protocol import Doubt, Extractor, Passage, PassageGroup
from apex_mcp.ingestion.room import LEAST_FREE_BYTES, require_room
from apex_mcp.ingestion.sources.roots import usable_root
from apex_mcp.runtime.home import DataFolder
from apex_mcp.settings import Settings
from apex_mcp.wording import counted

if TYPE_CHECKING:
    from temporalio.client import Client

    from apex_mcp.ingestion.pool import ChildPool
    from apex_mcp.stores.record import Record
    from apex_mcp.stores.vectors.protocol import VectorIndex

_PATIENCE_SECONDS = 20.0
_COMFORTABLE_BYTES = 2_000_000_000
_SAMPLE = "# A heading\n\nA paragraph of a small file that every parser can read.\n"

# Name, address, and a question that raises where it does not answer.
Server = tuple[str, str, Callable[[], Awaitable[object]]]
# Those that come on top; the others are looked at whether they are the user's or not.
_EXTRA_SERVERS = {"neo4j": "Neo4j", "redis": "Redis", "staging": "staging"}


class Check(BaseModel):
    """One thing that was looked at.

    Attributes:
        state: `hint` is no fault, only something worth knowing.
        fix: what the user can do, for a fault or a hint.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["ok", "hint", "fault"]
    detail: str = ""
    fix: str = ""


class Checked(Protocol):
    """What of the running application is looked at."""

    @property
    def settings(self) -> Settings: ...
    @property
    def record(self) -> "Record": ...
    @property
    def vectors(self) -> "VectorIndex": ...
    @property
    def embedder(self) -> Embedder | None: ...
    @property
    def extractor(self) -> Extractor | None: ...
    @property
    def temporal_client(self) -> "Client": ...
    @property
    def task_queue(self) -> str: ...
    @property
    def pool(self) -> "ChildPool": ...
    def servers(self) -> list[Server]: ...


async def checks(app: Checked) -> list[Check]:
    """Look at what the daemon owns, all at once; one fault hides no other."""
    found = list(
        await asyncio.gather(
            _guarded("PostgreSQL", lambda: _postgres(app.record)),
            _guarded("Temporal and worker", lambda: _greeting(app.temporal_client, app.task_queue)),
            _guarded("vector index", lambda: _vectors(app)),
            _guarded("embedder", lambda: _embedder(app.embedder)),
            *([_guarded("model", partial(_model, app.extractor, app.settings))] if app.extractor else []),
            _guarded("parsers", lambda: _parsers(app)),
            *(
                _guarded(_EXTRA_SERVERS[name], partial(_server, _EXTRA_SERVERS[name], where, ask))
                for name, where, ask in app.servers()
                if name in _EXTRA_SERVERS
            ),
        )
    )
    try:
        require_room(app.settings.home if app.settings.stores_at_home else None)
    except Unavailable:
        fix = "free space on the data folder's disk: it is full, and much else fails by that; it goes on by itself then"
        return [check.model_copy(update={"fix": fix}) if check.state == "fault" else check for check in found]
    return found


async def local_checks(settings: Settings) -> list[Check]:
    """Look at what needs no daemon: the data folder, the disk, the roots, programs and keys."""
    home = DataFolder(settings.home)
    return [
        _data_folder(home),
        _disk(home),
        _roots(settings),
        await _guarded("Temporal program", lambda: _temporal_program(settings)),
        *_unused_key(settings),
    ]


async def _guarded(name: str, look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await look()
    except ApexError as error:
        return Check(name=name, state="fault", detail=f"{error.code}: {error.message}", fix=error.next_step)
    except TimeoutError:
        detail = f"no answer within {_PATIENCE_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001  (a broken part is what this looks for)
        detail = f"unexpected error ({type(error).__name__})"
    fix = "run `apex-mcp stop` and try again; `apex-mcp logs` shows more"
    return Check(name=name, state="fault", detail=detail, fix=fix)


async def _postgres(record: "Record") -> Check:
    row = await record.database.fetch_one("SELECT current_setting('server_version') AS version")
    return Check(name="PostgreSQL", state="ok", detail=f"version {row['version']}" if row else "")


async def _server(name: str, where: str, ask: Callable[[], Awaitable[object]]) -> Check:
    await ask()
    return Check(name=name, state="ok", detail=f"{where} answers")


async def _greeting(client: "Client", task_queue: str) -> Check:
    """A workflow and its activity from end to end: the server, the queue and a worker."""
    answer = await client.execute_workflow(
        GREETING_WORKFLOW,
        "doctor",
        id=f"apex-doctor-{uuid.uuid4()}",
        task_queue=task_queue,
        result_type=str,
        execution_timeout=timedelta(seconds=_PATIENCE_SECONDS),
    )
    return Check(name="Temporal and worker", state="ok", detail=f"{GREETING_WORKFLOW} answered {answer!r}")


async def _vectors(app: Checked) -> Check:
    points = await app.vectors.count()
    owed = await app.record.passage_vectors.count_owed(app.embedder.name) if app.embedder else 0
    owing = f", {counted(owed, 'passage waits', 'passages wait')} for vectors" if owed else ""
    return Check(name="vector index", state="ok", detail=f"{counted(points, 'point')}{owing}")


async def _embedder(embedder: Embedder | None) -> Check:
    if embedder is None:
        return Check(
            name="embedder",
            state="hint",
            detail="none: search is by words only",
            fix="unset APEX_EMBEDDER for the default model, then run `apex-mcp reindex`",
        )
    state = embedder.state
    match state.readiness:
        case Readiness.READY:
            return Check(name="embedder", state="ok", detail=state.text)
        case Readiness.FETCHING:
            return Check(
                name="embedder", state="hint", detail=state.text, fix="search is by words until it is there"
            )
        case Readiness.UNAVAILABLE:
            return Check(
                name="embedder",
                state="fault",
                detail=state.text,
                fix="run `apex-mcp setup`, or set APEX_EMBEDDER to a model's folder, `openai` or `none`",
            )


async def _model(extractor: Extractor, settings: Settings) -> Check:
    """A small question to each of the models: the address, the key, and that they answer in the asked form."""
    passage = Passage(ordinal=0, text="ACME Corporation is headquartered in Austin.")
    doubt = Doubt(
        name="ACME Corp.",
        type="Organization",
        said=(),
        other_name="ACME Corporation",
        other_type="Organization",
        other_said=(),
    )
    await asyncio.gather(
        extractor.extract(PassageGroup(title="", passages=(passage,))), extractor.same([doubt])
    )
    models = " and ".join(dict.fromkeys((settings.llm_model, settings.llm_small_model)))
    host = urlsplit(settings.openai_base_url).hostname
    return Check(name="model", state="ok", detail=f"{models} at {host}: texts of documents go there")


async def _parsers(app: Checked) -> Check:
    with tempfile.TemporaryDirectory(prefix="apex-mcp-doctor-") as folder:
        sample = Path(folder, "sample.md")
        await asyncio.to_thread(sample.write_text, _SAMPLE, encoding="utf-8")
        _, chunks = await app.pool.run(
            "apex_mcp.ingestion.prepare:parse_and_chunk",
            str(sample),
            sample.name,
            "",
            app.settings.max_text_chars,
            timeout_seconds=_PATIENCE_SECONDS,
        )
    if not chunks:
        return Check(
            name="parsers", state="fault", detail="a small file came back empty", fix="install apex-mcp again"
        )
    return Check(
        name="parsers", state="ok", detail=f"a small file was read, {app.settings.children} at a time"
    )


def _data_folder(home: DataFolder) -> Check:
    name, path = "data folder", home.path
    if not path.exists():
        return Check(name=name, state="ok", detail=f"{path}, made on first use")
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Check(
            name=name,
            state="fault",
            detail=f"{path} cannot be written",
            fix="set APEX_HOME to a folder that you own",
        )
    if os.name == "posix":
        facts = path.stat()
        if facts.st_uid != os.geteuid():
            return Check(
                name=name, state="fault", detail=f"{path} belongs to another user", fix="set APEX_HOME"
            )
        try:
            home.require_no_strangers()
        except ApexError as error:
            return Check(name=name, state="fault", detail=error.message, fix=error.next_step)
        if stat.S_IMODE(facts.st_mode) & 0o077:
            return Check(
                name=name, state="fault", detail=f"{path} is open to other users", fix=f"chmod 700 '{path}'"
            )
    return Check(name=name, state="ok", detail=str(path))


def _disk(home: DataFolder) -> Check:
    existing = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Check(
            name="disk", state="fault", detail=detail, fix="free some space, or move the data folder"
        )
    if free < _COMFORTABLE_BYTES:
        return Check(
            name="disk", state="hint", detail=detail, fix="that is little for documents and their index"
        )
    return Check(name="disk", state="ok", detail=detail)


def _roots(settings: Settings) -> Check:
    if refused := [root for root in settings.roots if not usable_root(root)]:
        return Check(
            name="roots",
            state="fault",
            detail=f"whole drives or system folders: {', '.join(map(str, refused))}",
            fix="name folders within them in APEX_ROOTS",
        )
    if missing := [root for root in settings.roots if not root.is_dir()]:
        return Check(
            name="roots",
            state="fault",
            detail=f"no such folder: {', '.join(map(str, missing))}",
            fix="correct APEX_ROOTS",
        )
    if not settings.roots:
        return Check(
            name="roots",
            state="hint",
            detail="none set: assistants read files only from folders that their client names",
            fix="set APEX_ROOTS to the folders that they may read",
        )
    return Check(name="roots", state="ok", detail=", ".join(map(str, settings.roots)))


async def _temporal_program(settings: Settings) -> Check:
    from apex_mcp.runtime.temporal import installed_program

    program = await asyncio.to_thread(installed_program, DataFolder(settings.home), settings.temporal_path)
    if program is None:
        return Check(
            name="Temporal program",
            state="hint",
            detail="not there yet: the first start downloads it",
            fix="run `apex-mcp setup` to fetch it now",
        )
    return Check(name="Temporal program", state="ok", detail=str(program))


def _unused_key(settings: Settings) -> list[Check]:
    if not os.environ.get("OPENAI_API_KEY") or "openai" in (settings.embedder, settings.llm):
        return []
    return [
        Check(
            name="OPENAI_API_KEY",
            state="hint",
            detail="set, and not used: nothing leaves this machine",
            fix="APEX_EMBEDDER=openai or APEX_LLM=openai with APEX_OPENAI_API_KEY would use it",
        )
    ]
