from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from mcp_types import CallToolResult, ListRootsResult, Root, TextContent

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError, Unavailable
from apex_mcp.models import EntityInput, FactInput, Step
from apex_mcp.server import Connection
from apex_mcp.times import moment
from tests.server.conftest import NotebookGateway, OpenClient
from tests.server.notebook import Notebook

pytestmark = pytest.mark.anyio


def text_of(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def data_of(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def test_a_remembered_text_is_found_with_its_source(open_client: OpenClient) -> None:
    async with open_client() as client:
        stored = await client.call_tool(
            "add_memory", {"text": "Sales rose by 12 percent.", "title": "Report"}
        )
        found = await client.call_tool("search", {"query": "sales"})
    assert data_of(stored)["state"] == "ready"
    [hit] = data_of(found)["hits"]
    assert hit["text"] == "Sales rose by 12 percent."
    assert text_of(found).startswith(
        "[1] Report (2026-03-01 12:00), p. 3, Results > Sales\n> Sales rose by 12 percent.\n(chunk "
    )


async def test_nothing_found_says_what_to_try(open_client: OpenClient) -> None:
    async with open_client() as client:
        found = await client.call_tool("search", {"query": "unicorns"})
    assert data_of(found)["hits"] == []
    assert "list_memories" in text_of(found)


async def test_text_that_looks_like_json_is_stored_as_text(
    open_client: OpenClient, notebook: Notebook
) -> None:
    async with open_client() as client:
        for text in ('{"a": 1}', "[1, 2]", "null", "12"):
            data_of(await client.call_tool("ingest_document", {"text": text, "key": text}))
    assert [text for _, text in notebook.texts.values()] == ['{"a": 1}', "[1, 2]", "null", "12"]


async def test_lists_that_a_client_sends_as_strings_are_read(
    open_client: OpenClient, notebook: Notebook
) -> None:
    async with open_client() as client:
        arguments = {"text": "Ada works at Acme.", "entities": '[{"name": "Ada", "type": "person"}]'}
        data_of(await client.call_tool("add_memory", arguments))
    assert notebook.calls[-1][2]["entities"] == (EntityInput(name="Ada", type="person"),)


async def test_facts_and_times_arrive_as_the_domains_own(open_client: OpenClient, notebook: Notebook) -> None:
    fact = {"subject": "Ada", "predicate": "works_at", "object": "Acme", "valid_at": "2024-05-01"}
    async with open_client() as client:
        data_of(
            await client.call_tool(
                "add_memory",
                {"text": "Ada works at Acme.", "document_time": "2026-03-01T10:00:00+02:00", "facts": [fact]},
            )
        )
    given = notebook.calls[-1][2]
    assert given["document_time"] == moment("", "2026-03-01T08:00:00Z")
    assert given["facts"] == (
        FactInput(subject="Ada", predicate="works_at", object="Acme", valid_at=moment("", "2024-05-01")),
    )


async def test_every_argument_may_be_null_where_it_may_be_left_out(
    open_client: OpenClient, notebook: Notebook
) -> None:
    async with open_client() as client:
        [search] = [tool for tool in (await client.list_tools()).tools if tool.name == "search"]
        nulls = dict.fromkeys(set(search.input_schema["properties"]) - {"query", "limit"})
        data_of(await client.call_tool("search", {**nulls, "query": "x"}))
    given = notebook.calls[-1][2]
    assert {given[name] for name in ("namespace", "after", "before", "entity", "as_of", "known_at")} == {None}


async def test_a_date_alone_means_the_whole_day() -> None:
    assert moment("as_of", "2026-03-01", end_of_day=True) == moment("", "2026-03-01T23:59:59.999999Z")
    assert moment("after", "2026-03-01") == moment("", "2026-03-01T00:00:00Z")
    assert moment("after", "  ") is None


async def test_waiting_names_each_step_and_progress_only_grows(
    open_client: OpenClient, notebook: Notebook
) -> None:
    notebook.show_steps = (Step.STAGE, Step.PARSE, Step.PARSE, Step.PARSE, Step.WRITE)
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with open_client() as client:
        result = await client.call_tool(
            "ingest_document", {"text": "long", "title": "Report"}, progress_callback=on_progress
        )
        with anyio.fail_after(5):
            while len(seen) < 6:
                await anyio.lowlevel.checkpoint()
    assert data_of(result)["state"] == "ready"
    assert [message for *_, message in seen][:2] == ["stage_document: Report", "parse_document: Report"]
    assert {total for _, total, _ in seen} == {6}
    numbers = [progress for progress, *_ in seen]
    assert numbers == sorted(set(numbers))


async def test_what_is_not_finished_in_time_says_how_to_ask_again(
    open_client: OpenClient, notebook: Notebook
) -> None:
    notebook.show_steps, notebook.stuck = (Step.PARSE,), True
    async with open_client() as client:
        result = await client.call_tool("ingest_document", {"text": "long", "wait_seconds": 1})
        later = await client.call_tool("get_ingestion", {"ingestion_id": data_of(result)["ingestion_id"]})
    assert data_of(result)["state"] == "running"
    assert "ask get_ingestion with this id" in text_of(result)
    assert data_of(later)["ingestions"][0]["ingestion_id"] == data_of(result)["ingestion_id"]


async def test_without_waiting_the_answer_is_the_acceptance(
    open_client: OpenClient, notebook: Notebook
) -> None:
    notebook.stuck = True
    async with open_client() as client:
        result = await client.call_tool("ingest_document", {"text": "long", "wait_seconds": 0})
    assert (data_of(result)["state"], data_of(result)["step"]) == ("running", "accepted")


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("search", {"query": "x", "limit": 0}, "limit should be greater than or equal to 1"),
        ("search", {"query": "x", "limit": -1}, "limit should be greater than or equal to 1"),
        ("search", {"query": "x", "limit": 1_000_000}, "limit should be less than or equal to 50"),
        ("search", {}, "query is missing"),
        ("search", {"query": "x", "as_of": "last May"}, "give as_of as 2026-03-01"),
        ("search", {"query": "x", "top_k": 3}, "search has no argument top_k"),
        ("search", {"query": "a\ud800b"}, "query holds a lone surrogate"),
        ("add_memory", {"text": "x", "metadata": {"a": ["\udfff"]}}, "metadata holds a lone surrogate"),
        ("add_memory", {"text": " "}, "empty_content: the text is empty"),
        ("add_memory", {"text": "x", "entities": [{"name": "Ada"}]}, "entities.0.type is missing"),
        ("get_document", {"document_id": "12"}, "document_id is not an id"),
        ("get_document", {"document_id": str(uuid4())}, "not_found: no document has this id"),
        (
            "get_document",
            {"document_id": str(uuid4()), "length": 10**9},
            "length should be less than or equal",
        ),
        ("get_ingestion", {"ingestion_id": str(uuid4())}, "not_found: no ingestion has this id"),
        ("get_stats", {"namespace": "no/such"}, "invalid_namespace: a namespace is"),
        ("ingest_document", {}, "invalid_argument: give either source or text"),
        ("unlearn", {}, "there is no tool unlearn"),
    ],
)
async def test_a_wrong_call_gets_an_error_to_act_on(
    open_client: OpenClient, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async with open_client() as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    text = text_of(result)
    assert expected in text
    assert "nothing was changed; " in text


async def test_a_rejected_argument_is_not_repeated(open_client: OpenClient) -> None:
    secret = "s3cret " * 10_000
    async with open_client() as client:
        result = await client.call_tool(
            "search", {"query": "x", "limit": secret, "document_ids": [secret] * 50}
        )
    assert result.is_error
    assert "s3cret" not in text_of(result)
    assert len(text_of(result)) < 1000


async def test_a_crash_reaches_the_client_as_an_id_and_the_log_without_content(
    open_client: OpenClient, notebook: Notebook, caplog: pytest.LogCaptureFixture
) -> None:
    notebook.crash = RuntimeError("the secret text")
    async with open_client() as client:
        result = await client.call_tool("ingest_document", {"text": "x"})
    assert result.is_error
    assert result.meta is not None
    error_id = result.meta["apex-mcp/error"]["details"]["error_id"]
    assert f"id {error_id}" in text_of(result)
    assert f"unexpected error {error_id}: RuntimeError" in caplog.text
    assert "secret" not in text_of(result) + caplog.text


async def test_a_store_that_is_starting_is_said_to_be_retryable(
    open_client: OpenClient, gateway: NotebookGateway
) -> None:
    gateway.failure = Unavailable("the stores are starting", code=Code.STARTING, retry_after_seconds=3)
    async with open_client() as client:
        result = await client.call_tool("search", {"query": "x"})
    assert text_of(result) == "starting: the stores are starting; nothing was changed; try again in 3 s"
    assert result.meta is not None
    assert result.meta["apex-mcp/error"]["retryable"] is True


async def test_a_failure_brings_the_connections_notices_too(
    open_client: OpenClient, connection: Connection, gateway: NotebookGateway
) -> None:
    connection.notices.append("/ in APEX_ROOTS is a whole drive")
    gateway.failure = InputError("there are no roots")
    async with open_client() as client:
        result = await client.call_tool("ingest_document", {"source": "report.md"})
    assert result.is_error
    assert text_of(result).endswith("\nnote: / in APEX_ROOTS is a whole drive")


async def test_the_connections_notices_come_once(open_client: OpenClient, connection: Connection) -> None:
    connection.notices.append("APEX_EMBEDDER differs from the daemon's: run `apex-mcp stop`")
    async with open_client() as client:
        first, second = await client.call_tool("get_stats", {}), await client.call_tool("get_stats", {})
    assert text_of(first).startswith("note: APEX_EMBEDDER differs")
    assert "note:" not in text_of(second)


async def test_the_pumps_request_id_reaches_memory(open_client: OpenClient, notebook: Notebook) -> None:
    async with open_client() as client:
        await client.call_tool("add_memory", {"text": "x"}, meta={"apex-mcp/request-id": "r-1"})
    assert notebook.calls[-1][1] == Caller(request_id="r-1")


async def test_the_clients_roots_are_added_and_its_first_one_is_the_base(
    open_client: OpenClient, notebook: Notebook, connection: Connection, tmp_path: Path
) -> None:
    asked = 0

    async def roots(_: object) -> ListRootsResult:
        nonlocal asked
        asked += 1
        uris = [(tmp_path / "my work").as_uri(), "file:///"]
        return ListRootsResult(roots=[Root.model_validate({"uri": uri}) for uri in uris])

    connection.caller = Caller(roots=(tmp_path,))
    async with open_client(list_roots_callback=roots) as client:
        data_of(await client.call_tool("ingest_document", {"source": "a.txt"}))
        data_of(await client.call_tool("ingest_document", {"source": "b.txt"}))
        data_of(await client.call_tool("add_memory", {"text": "no path, no question"}))
        asked_for_paths = asked
    caller = notebook.calls[1][1]
    assert caller.roots == (tmp_path / "my work", tmp_path)
    assert caller.base == tmp_path / "my work"
    assert notebook.calls[2][1].roots == (tmp_path,)
    assert asked == asked_for_paths


async def test_a_client_without_roots_is_not_asked(open_client: OpenClient, notebook: Notebook) -> None:
    async with open_client() as client:
        data_of(await client.call_tool("ingest_document", {"source": "a.txt"}))
    assert notebook.calls[-1][1] == Caller()


async def test_resources_show_documents_entities_and_ingestions(open_client: OpenClient) -> None:
    async with open_client() as client:
        stored = data_of(
            await client.call_tool(
                "add_memory", {"text": "Ada leads sales.", "entities": [{"name": "Ada", "type": "person"}]}
            )
        )
        found = data_of(await client.call_tool("get_entities", {"query": "Ada"}))
        texts: list[str] = []
        for uri in (
            f"apex://documents/{stored['document_id']}",
            f"apex://entities/{found['entities'][0]['entity_id']}",
            f"apex://ingestions/{stored['ingestion_id']}",
        ):
            [content] = (await client.read_resource(uri)).contents
            texts.append(content.model_dump()["text"])
    assert ">>>Ada <<<leads sales." in texts[0]
    assert "Ada (person), 1 mention" in texts[1]
    assert texts[2].startswith("ready: note")


async def test_a_client_that_gives_up_ends_its_waiting_only(
    open_client: OpenClient, notebook: Notebook
) -> None:
    notebook.stuck = True
    entered = anyio.Event()

    async def wait_for_ever(caller: Caller, **_: Any) -> Any:
        entered.set()
        await anyio.sleep_forever()
        yield

    notebook.watch_ingestion = wait_for_ever  # pyright: ignore[reportAttributeAccessIssue]
    async with open_client() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "ingest_document", {"text": "kept"})
            with anyio.fail_after(5):
                await entered.wait()
            tasks.cancel_scope.cancel()
        listed = data_of(await client.call_tool("get_ingestion", {}))
    assert [view["state"] for view in listed["ingestions"]] == ["running"]
    assert [text for _, text in notebook.texts.values()] == ["kept"]


async def test_forgetting_tells_first_what_would_go_and_does_it_once_it_is_confirmed(
    open_client: OpenClient, notebook: Notebook
) -> None:
    async with open_client() as client:
        stored = data_of(await client.call_tool("add_memory", {"text": "Ada likes tea.", "title": "Tea"}))
        target = {"document_ids": [stored["document_id"]]}
        would = await client.call_tool("forget", target)
        assert data_of(would)["forgotten"] is False
        assert len(notebook.texts) == 1
        assert "Tea | document " in text_of(would)
        assert "stay: 1 entity, 0 facts: ACME" in text_of(would)
        assert "backup monday.tar" in text_of(would)
        assert text_of(would).endswith("confirm=true.")
        done = await client.call_tool("forget", {**target, "confirm": True})
        assert data_of(done)["forgotten"] is True
        assert notebook.texts == {}
        assert "indexes and tables are rid of it" in text_of(done)
        again = await client.call_tool("forget", {**target, "confirm": True})
    assert again.is_error


async def test_times_and_names_of_what_to_forget_arrive_as_they_are_meant(
    open_client: OpenClient, notebook: Notebook
) -> None:
    async with open_client() as client:
        await client.call_tool("add_memory", {"text": "Ada likes tea."})
        await client.call_tool(
            "forget", {"after": "2026-01-01", "before": "2026-02-01T00:00:00Z", "namespace": "work"}
        )
    given = notebook.calls[-1][2]
    assert given["after"] == moment("", "2026-01-01")
    assert given["before"] == moment("", "2026-02-01")
    assert (given["namespace"], given["confirm"], given["entity_id"]) == ("work", False, None)
