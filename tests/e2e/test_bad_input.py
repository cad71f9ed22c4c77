"""Whatever is sent, the answer says what is wrong and what to do, nothing is left behind, and the server keeps answering."""

import io
import json
import os
import stat
import subprocess
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from mcp.shared.exceptions import MCPError

from apex_mcp.errors import Code
from apex_mcp.runtime.home import DataFolder
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from tests.e2e.homes import Home, Session, session
from tests.ingestion.documents import make_docx, make_pdf
from tests.ingestion.test_corpus import CORPUS, REFUSED

pytestmark = pytest.mark.anyio

UNKNOWN = str(uuid4())
Bad = Callable[[Home], dict[str, Any]]


def _file(name: str, content: str | bytes) -> Bad:
    return lambda home: {"source": str(home.file(name, content))}


def _folder(home: Home) -> dict[str, Any]:
    (home.root / "folder").mkdir(exist_ok=True)
    return {"source": "folder"}


def _outside(home: Home) -> Path:
    secret = home.root.parent / "secret.txt"
    secret.write_text("the safe opens with 4711", "utf-8")
    return secret


def _by_link(home: Home) -> dict[str, Any]:
    link = home.root / "harmless.txt"
    if not link.is_symlink():
        link.symlink_to(_outside(home))
    return {"source": str(link)}


def _by_dots(home: Home) -> dict[str, Any]:
    return {"source": str(home.root / ".." / _outside(home).name)}


def _unreadable(home: Home) -> dict[str, Any]:
    path = home.file("closed.txt", "words")
    path.chmod(0)
    return {"source": str(path)}


def _pipe(home: Home) -> dict[str, Any]:
    path = home.root / "pipe.txt"
    if not path.exists():
        os.mkfifo(path)
    return {"source": str(path)}


def _encrypted_pdf() -> bytes:
    """A PDF whose user password nobody knows."""
    lock = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>] /Info" % (
        b"5a" * 32,
        b"a5" * 32,
    )
    return make_pdf([["secret words"]]).replace(b"/Info", lock)


def _bomb() -> bytes:
    buffer = io.BytesIO(make_docx([("", "small")]))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.xml", "w") as part:
        for _ in range(100):
            part.write(bytes(1_000_000))
    return buffer.getvalue()


BAD: dict[str, tuple[Bad, Code]] = {
    "missing file": (lambda home: {"source": str(home.root / "absent.txt")}, Code.PATH_NOT_FOUND),
    "folder": (_folder, Code.PATH_IS_FOLDER),
    "outside": (lambda home: {"source": str(_outside(home))}, Code.PATH_OUTSIDE_ROOTS),
    "missing outside": (lambda home: {"source": str(home.root.parent / "absent")}, Code.PATH_OUTSIDE_ROOTS),
    "outside by a link": (_by_link, Code.PATH_OUTSIDE_ROOTS),
    "outside by dots": (_by_dots, Code.PATH_OUTSIDE_ROOTS),
    "unreadable": (_unreadable, Code.PATH_NOT_READABLE),
    "pipe": (_pipe, Code.PATH_NOT_READABLE),
    "address": (lambda _: {"source": "https://example.com/a.pdf"}, Code.SOURCE_NOT_SUPPORTED),
    "NUL in path": (lambda _: {"source": "a\0b"}, Code.SOURCE_NOT_SUPPORTED),
    "neither source nor text": (lambda _: {}, Code.INVALID_ARGUMENT),
    "source and text": (lambda _: {"source": "a.txt", "text": "words"}, Code.INVALID_ARGUMENT),
    "empty file": (_file("empty.txt", ""), Code.EMPTY_CONTENT),
    "empty PDF": (_file("empty.pdf", ""), Code.EMPTY_CONTENT),
    "whitespace file": (_file("blank.md", " \n\t\n"), Code.EMPTY_CONTENT),
    "whitespace text": (lambda _: {"text": " \n\t"}, Code.EMPTY_CONTENT),
    "text of control characters": (lambda _: {"text": "\0\x01\x1b"}, Code.EMPTY_CONTENT),
    "picture called text": (_file("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8), Code.UNSUPPORTED_TYPE),
    "bytes called Word": (_file("a.docx", bytes(range(256)) * 8), Code.TYPE_MISMATCH),
    "text without a shape": (lambda _: {"text": "\u200b\u200d\n\u2060"}, Code.EMPTY_CONTENT),
    "file without a shape": (_file("shapeless.md", "\u200b\u200d\n\u2060"), Code.EMPTY_CONTENT),
    "text called PDF": (lambda _: {"text": "words", "media_type": "application/pdf"}, Code.UNSUPPORTED_TYPE),
    "text of no type": (lambda _: {"text": "words", "media_type": "nonsense"}, Code.UNSUPPORTED_TYPE),
    "password": (_file("locked.pdf", _encrypted_pdf()), Code.PASSWORD_PROTECTED),
    "scanned": (_file("scan.pdf", make_pdf([[], []])), Code.NO_TEXT),
    "truncated PDF": (_file("half.pdf", make_pdf([["words"]] * 20)[:2000]), Code.MALFORMED),
    "truncated Word": (_file("half.docx", make_docx([("", "words " * 500)])[:700]), Code.MALFORMED),
    "zip bomb": (_file("bomb.docx", _bomb()), Code.TOO_LARGE),
    "text beyond the limit": (lambda _: {"text": "long " * 1_000_000}, Code.TOO_LARGE),
    "namespace": (lambda _: {"text": "words", "namespace": "../other"}, Code.INVALID_NAMESPACE),
    "long namespace": (lambda _: {"text": "words", "namespace": "n" * 65}, Code.INVALID_NAMESPACE),
    "time": (lambda _: {"text": "words", "document_time": "last Tuesday"}, Code.INVALID_ARGUMENT),
    "metadata": (lambda _: {"text": "words", "metadata": {"a": "b" * 30_000}}, Code.INVALID_ARGUMENT),
    "waiting for ever": (lambda _: {"text": "words", "wait_seconds": 1e9}, Code.INVALID_ARGUMENT),
}  # fmt: skip
for name, code in REFUSED.items():
    if (CORPUS / "bad" / name).exists():
        BAD[f"corpus {name}"] = _file(name, (CORPUS / "bad" / name).read_bytes()), code
if os.name == "nt":
    for unixish in ("unreadable", "pipe", "outside by a link"):
        del BAD[unixish]
elif os.getuid() == 0:
    del BAD["unreadable"]  # root reads everything


ARGUMENTS: dict[str, tuple[str, dict[str, Any], Code]] = {
    "search for nothing": ("search", {"query": "  "}, Code.INVALID_ARGUMENT),
    "search at an unreadable time": ("search", {"query": "words", "as_of": "soon"}, Code.INVALID_ARGUMENT),
    "search in a bad namespace": ("search", {"query": "words", "namespace": "a b"}, Code.INVALID_NAMESPACE),
    "search with an unknown argument": ("search", {"query": "words", "colour": "red"}, Code.INVALID_ARGUMENT),
    "a cursor that is none": ("list_memories", {"cursor": "x"}, Code.INVALID_ARGUMENT),
    "a cursor before all": ("list_memories", {"cursor": "LTU="}, Code.INVALID_ARGUMENT),
    "a cursor beyond all": ("get_ingestion", {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk="}, Code.INVALID_ARGUMENT),
    "a document before its start": ("get_document", {"document_id": UNKNOWN, "start": -1}, Code.INVALID_ARGUMENT),
    "a document without a name": ("get_document", {}, Code.INVALID_ARGUMENT),
    "an id that is none": ("get_ingestion", {"ingestion_id": "42"}, Code.INVALID_ARGUMENT),
    "an unknown ingestion": ("get_ingestion", {"ingestion_id": UNKNOWN}, Code.NOT_FOUND),
    "an unknown ingestion to cancel": ("cancel_ingestion", {"ingestion_id": UNKNOWN}, Code.NOT_FOUND),
    "an unknown ingestion to retry": ("retry_ingestion", {"ingestion_id": UNKNOWN}, Code.NOT_FOUND),
    "an unknown document": ("get_document", {"document_id": UNKNOWN}, Code.NOT_FOUND),
    "an unknown passage": ("get_document", {"chunk_id": UNKNOWN}, Code.NOT_FOUND),
    "an unknown key": ("get_document", {"key": "nobody/nothing"}, Code.NOT_FOUND),
    "an unknown entity": ("get_entities", {"entity_id": UNKNOWN}, Code.NOT_FOUND),
    "no such tool": ("forget_everything", {}, Code.INVALID_ARGUMENT),
}  # fmt: skip
for tool in ("search", "list_memories", "get_entities", "get_ingestion"):
    for limit in (0, -1, 1_000_000):
        given: dict[str, Any] = {"limit": limit} | ({"query": "words"} if tool == "search" else {})
        ARGUMENTS[f"{tool} with limit {limit}"] = tool, given, Code.INVALID_ARGUMENT


@pytest.fixture(scope="module", autouse=True)
def files_can_be_removed_again(shared_home: Home) -> Generator[None]:
    yield
    for path in shared_home.root.glob("closed.txt"):
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)


async def _outcome(client: Session, arguments: dict[str, Any]) -> tuple[str, str]:
    """Code and advice, of a refusal at the door or of a failed ingestion."""
    result = await client.client.call_tool("ingest_document", {"wait_seconds": 30, **arguments})
    if result.is_error:
        return (result.meta or {})["apex-mcp/error"]["code"], str(result.content)
    view: dict[str, Any] = result.structured_content or {}
    assert view["state"] == "rolled_back", view
    return view["failure"]["code"], view["failure"]["next_step"]


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_for_what_is_wrong_and_leaves_nothing(
    shared_home: Home, name: str
) -> None:
    make, expected = BAD[name]
    async with session(shared_home) as client:
        arguments = make(shared_home)
        await client.call("get_stats")
        before, known = shared_home.footprint(), shared_home.number("SELECT count(*) FROM ingestions")
        code, advice = await _outcome(client, arguments)
        assert code == expected
        assert advice
        assert "4711" not in advice
        assert shared_home.footprint() == before
        refused_at_the_door = shared_home.number("SELECT count(*) FROM ingestions") == known
        assert refused_at_the_door or "source" in arguments
        assert await client.hits("secret small", namespace="untouched") == []


@pytest.mark.parametrize("name", ARGUMENTS)
async def test_bad_arguments_are_answered_by_what_to_do(shared_home: Home, name: str) -> None:
    tool, arguments, expected = ARGUMENTS[name]
    async with session(shared_home) as client:
        refusal = await client.refused(tool, **arguments)
        assert refusal.code == expected
        assert refusal.text.startswith(f"{expected}: ")
        assert refusal.text.count(";") >= 1, "what was left unchanged, and what to do next"


async def test_an_ingestion_of_another_namespace_is_unknown_unless_that_is_named(shared_home: Home) -> None:
    other = f"n{uuid4().hex}"
    async with session(shared_home) as client:
        failed = await client.ended(
            "ingest_document", namespace=other, **_file("odd.docx", b"\x00\x01" * 99)(shared_home)
        )
        given = {"ingestion_id": failed["ingestion_id"]}
        for tool in ("get_ingestion", "cancel_ingestion", "retry_ingestion"):
            refusal = await client.refused(tool, **given)
            assert (refusal.code, "odd" in refusal.text) == (Code.NOT_FOUND, False)
        with pytest.raises(MCPError, match="no ingestion has the id") as raised:
            await client.client.read_resource(f"apex://ingestions/{failed['ingestion_id']}")
        assert "odd" not in str(raised.value)
        (seen,) = (await client.call("get_ingestion", namespace=other, **given))["ingestions"]
        assert seen["state"] == "rolled_back"
        assert (
            await client.refused("cancel_ingestion", namespace=other, **given)
        ).code == Code.ALREADY_FINISHED
        assert (await client.call("retry_ingestion", namespace=other, **given))["state"] != "rolled_back"
    shown = shared_home.run("show", failed["ingestion_id"], "--json")
    assert json.loads(shown.stdout)["namespace"] == other


async def test_no_store_keeps_anything_of_bad_input(home: Home) -> None:
    """The index can only be looked into once the daemon has left it."""
    async with session(home) as client:
        good = await client.ended("add_memory", text="The one good note.")
        before = home.footprint()
        for make, expected in BAD.values():
            assert (await _outcome(client, make(home)))[0] == expected
        assert home.footprint() == before
        assert len(await client.hits("good note")) == 1
    for path in home.root.glob("closed.txt"):
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    # Kept for a retry, until its time is over.
    failed = {str(id_) for (id_,) in home.rows("SELECT id FROM ingestions WHERE state = 'rolled_back'")}
    assert {path.name for path in DataFolder(home.path).staging.iterdir()} <= failed
    ((version,),) = home.rows("SELECT id FROM versions")
    ((record, index),) = home.rows("SELECT record_id, index_name FROM identity")
    assert home.run("stop").returncode == 0
    vectors = await EdgeVectorIndex.open(
        DataFolder(home.path).vectors / index, record_id=record, embedder=None, dimension=None
    )
    try:
        assert await vectors.version_ids() == {version}
        assert await vectors.count() == good["chunks"]
    finally:
        await vectors.close()


ODD: dict[str, tuple[str, str]] = {
    "3 MB": ("The needle lovage. " + "Filler sentence without meaning. " * 95_000, "lovage"),
    "control characters": ("The bell\x07 of lovage\x1b[31m rings.\x08", "lovage"),
    "a word without end": ("x" * 400_000 + " lovage " + "y" * 400_000, "lovage"),
    "no spaces at all": ("漢字" * 50_000 + "。lovage。", "lovage"),
    "right to left and marks": ("\u202elovage\u202c e\u0301" + "\u0301" * 5_000, "lovage"),
    "markup": ("<script>lovage()</script> & <b>lovage</b> {{lovage}} %s \\", "lovage"),
}


@pytest.mark.parametrize("as_file", [False, True], ids=["text", "file"])
@pytest.mark.parametrize("name", ODD)
async def test_odd_text_is_stored_and_found(shared_home: Home, name: str, as_file: bool) -> None:
    text, query = ODD[name]
    namespace = f"odd-{uuid4().hex}"
    given = {"source": str(shared_home.file("odd.txt", text))} if as_file else {"text": text}
    async with session(shared_home) as client:
        view = await client.ended("ingest_document", namespace=namespace, **given)
        assert view["state"] == "ready", view["failure"]
        (best, *_) = await client.hits(query, namespace=namespace)
        assert query in best["text"]
        shown = await client.call(
            "get_document", document_id=view["document_id"], namespace=namespace, length=50_000
        )
        assert "\0" not in shown["text"]
        assert UUID(view["document_id"])


def test_a_lone_surrogate_is_refused_and_the_session_goes_on(shared_home: Home) -> None:
    """No client library sends one; a hand-written client may."""
    with subprocess.Popen(
        [shared_home.command], env=shared_home.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def ask(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
            assert server.stdin is not None
            assert server.stdout is not None
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            server.stdin.write(json.dumps(message).encode() + b"\n")
            server.stdin.flush()
            while (answer := json.loads(server.stdout.readline())).get("id") != number:
                pass
            return answer["result"]

        who = {"name": "test", "version": "1"}
        ask(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": who})
        server.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        before = shared_home.footprint()
        broken: list[dict[str, Any]] = [
            {"text": "a\ud800b"}, {"text": "a", "title": "\udfff"}, {"text": "a", "metadata": {"k": ["\ud800"]}},
        ]  # fmt: skip
        for number, arguments in enumerate(broken, start=2):
            result = ask(number, "tools/call", {"name": "add_memory", "arguments": arguments})
            assert (result["isError"], "surrogate" in result["content"][0]["text"]) == (True, True)
        fine = ask(9, "tools/call", {"name": "search", "arguments": {"query": "x"}})
        assert fine["isError"] is False
        assert shared_home.footprint() == before
        server.stdin.close()
        server.wait()
