"""What an assistant sees of a model's entities and facts, over MCP; and a daemon that is killed while the model reads."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.openai_server import OpenAIServer
from tests.e2e.enriching import environment
from tests.e2e.homes import Home, Session, new_home, session
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

REFERENCE = Path(__file__).parents[3] / "shared" / "corpus" / "reference" / "acme-q4-2024.txt"
PARTS = 12
PLAIN = "the herb lovage grows behind the shed, where nobody looks for it. "


@pytest.fixture(scope="module")
def model() -> Generator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
def enriching_home(model: OpenAIServer) -> Generator[Home]:
    with new_home(**environment(model)) as home:
        yield home


async def enriched(client: Session, tool: str, **arguments: Any) -> dict[str, Any]:
    """Ingest, and wait until the model has read it."""
    return await read(client, await client.ended(tool, **arguments))


async def read(client: Session, view: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    async def done() -> bool:
        asked = await client.call(
            "get_ingestion", ingestion_id=view["ingestion_id"], namespace=view["namespace"]
        )
        view.update(asked["ingestions"][0])
        assert view["enrichment"] not in ("failed", "superseded", "none"), view
        return view["enrichment"] == "done"

    await eventually(done, seconds)
    return view


async def entity(client: Session, name: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call("get_entities", query=name, **arguments))["entities"][0]


def current(shown: dict[str, Any], predicate: str) -> list[str]:
    return [fact["object"] for fact in shown["facts"] if fact["predicate"] == predicate and fact["current"]]


@pytest.mark.skipif(not REFERENCE.exists(), reason="the shared corpus is not beside the repository")
async def test_the_reference_report_gives_typed_entities_and_named_facts(
    enriching_home: Home, model: OpenAIServer
) -> None:
    async with session(enriching_home.reading(REFERENCE.parent, namespace="report")) as client:
        await enriched(client, "ingest_document", source=REFERENCE.name)
        before = (await client.call("get_entities", limit=50))["entities"]
        types = {one["name"]: one["type"] for one in before}
        assert types["ACME Corporation"] == types["Bosch Technologies"] == "Organization"
        assert types["John Smith"] == "Person"
        assert types["Widget Manufacturing"] == "Contract"
        assert "Amount" in types.values()
        assert len({one["entity_id"] for one in before}) == len(before)
        facts = [fact for one in before for fact in one["facts"]]
        assert {"ceo_of", "partnered_with"} <= {fact["predicate"] for fact in facts}
        assert "relates_to" not in {fact["predicate"] for fact in facts}
        assert all(fact["sources"] for fact in facts)

        asked = len(model.requests)
        assert enriching_home.run("reindex").returncode == 0
        assert (await client.call("get_entities", limit=50))["entities"] == before
        assert len(model.requests) == asked


async def test_where_somebody_works_depends_on_when_it_is_asked(enriching_home: Home) -> None:
    async with session(enriching_home.reading(enriching_home.root, namespace="work")) as client:
        await enriched(
            client, "add_memory", text="Jane Doe works at Initech.", document_time="2023-03-01T00:00:00Z"
        )
        await enriched(
            client, "add_memory", text="In May Jane Doe joined Globex.", document_time="2024-06-01T00:00:00Z"
        )
        assert current(await entity(client, "Jane Doe", as_of="2023-07-01T00:00:00Z"), "works_at") == [
            "Initech"
        ]
        today = await entity(client, "Jane Doe")
        assert current(today, "works_at") == ["Globex"]
        history = {
            fact["object"]: (fact.get("valid_at"), fact.get("invalid_at"))
            for fact in today["facts"]
            if fact["predicate"] == "works_at"
        }
        assert history["Globex"] == ("2024-05-01T00:00:00Z", None)
        assert history["Initech"][1] == "2024-05-01T00:00:00Z"


async def test_status_says_where_texts_go(enriching_home: Home) -> None:
    enriching_home.run("ls")  # which starts the daemon
    status = enriching_home.run("status")
    assert "texts of documents go to gpt-5-mini at 127.0.0.1" in " ".join(status.stdout.split())


async def test_doctor_asks_the_model(enriching_home: Home) -> None:
    doctor = enriching_home.run("doctor")
    assert "gpt-5-mini and gpt-5-nano" in " ".join(doctor.stdout.split())


async def test_a_killed_daemon_goes_on_and_asks_only_what_was_not_answered(model: OpenAIServer) -> None:
    text = "\n\n".join(
        f"Person{letter} Doe works at Company{letter}. {PLAIN * 70}" for letter in "ABCDEFGHIJKL"[:PARTS]
    )
    already = len(model.chats())
    model.latency_seconds = 0.5
    with new_home(**environment(model, APEX_LLM_CONCURRENCY="1")) as home:
        async with session(home) as client:
            view = await client.ended("add_memory", text=text)
            await eventually(lambda: len(model.chats()) - already >= 3)
            home.daemon().kill()
            model.latency_seconds = 0
            await read(client, view)
            assert current(await entity(client, "PersonA Doe"), "works_at") == ["CompanyA"]
            assert current(await entity(client, "PersonL Doe"), "works_at") == ["CompanyL"]
        bodies = [str(request.body["messages"]) for request in model.chats()[already:]]
        # Only what was being asked when it was killed may be asked once more.
        assert len(bodies) - len(set(bodies)) <= 1
        assert home.number("SELECT count(*) FROM model_answers") == len(set(bodies))


async def test_what_was_stored_before_is_read_by_a_command(model: OpenAIServer) -> None:
    with new_home() as home:
        assert home.run("add", "Jane Doe joined Initech in May 2023.").returncode == 0
        refused = home.run("enrich")
        assert refused.returncode != 0
        assert "APEX_LLM" in refused.stderr
        assert home.run("stop").returncode == 0
        home.environment.update(environment(model))
        asked = home.run("enrich", "--json")
        assert asked.returncode == 0, asked.stderr
        assert '"done": 1' in asked.stdout
