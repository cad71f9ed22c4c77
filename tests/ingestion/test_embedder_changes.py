"""Another embedder, or another model behind its name: what is owed then comes by itself, and what does not fit is said."""

from collections.abc import Sequence

import pytest

from apex_mcp.models import Extraction
from apex_mcp.retrieval.search import Searcher, SearchRequest
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.graph_changes import GraphMark
from tests.doubles.openai_server import OpenAIServer, Status
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.embedders import embedder_at, embedder_of, owed_none
from tests.ingestion.keepers import EVERYTHING, process, reindexed, remember, running, server
from tests.record import graphs
from tests.record.conftest import conninfo, postgres, record
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio

NAMES = {"Ostmere Harbour Board", "Globex Corporation"}


async def names_with_vectors(record: Record) -> dict[str, set[str]]:
    """Normalised names by embedder."""
    rows = await record.database.fetch_all(
        "SELECT x.embedder, array_agg(e.normalised) AS names FROM entity_vectors x JOIN entities e ON e.id = x.entity_id "
        "GROUP BY x.embedder"
    )
    return {row["embedder"]: set(row["names"]) for row in rows}


async def enriched(record: Record) -> None:
    """A text whose names a model found, and whose vectors nobody kept."""
    await graphs.tell(record, "one", Extraction(entities=(graphs.entity("Found By Rules"),)), enrich=True)
    found = (*(graphs.entity(name) for name in NAMES), graphs.entity("4 million", "Amount"))
    await graphs.enrich(record, Extraction(entities=found))


async def test_names_that_a_model_found_get_vectors_after_the_fact_and_after_a_switch_and_the_graph_is_told(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    await enriched(record)
    wanted = {name.lower() for name in NAMES}
    await record.graph_queue.begin("a graph")
    while (page := await record.graph_queue.take(100)).seqs:
        await record.graph_queue.done(page, GraphMark("graph", told=1))
    async with embedder_of(16) as before, embedder_of(24) as after:
        async with process(conninfo, server, before) as keeper, running(keeper):

            async def brought() -> bool:
                return await names_with_vectors(record) == {before.name: wanted}

            await eventually(brought)
        told = (await record.graph_queue.take(100)).by_namespace["default"].entities
        assert set(told) == {graphs.id_of(name) for name in NAMES}
        async with process(conninfo, server, after) as keeper, running(keeper):
            await eventually(lambda: keeper._upkeep.keeping)
            await reindexed(keeper)

            async def switched() -> bool:
                return await names_with_vectors(record) == {after.name: wanted}

            await eventually(switched)
            assert not (await record.name_vectors.owed(after.name, limit=5)).versions


async def test_more_names_than_go_at_a_time_are_brought_one_after_another(record: Record) -> None:
    await enriched(record)
    brought: set[str] = set()
    for _ in range(2):
        owed = await record.name_vectors.owed("model", limit=1)
        brought |= set(owed.names.values())
        assert await record.name_vectors.bring("model", owed, [b"1234"])
    assert brought == NAMES
    assert not (await record.name_vectors.owed("model", limit=1)).versions


async def test_a_search_has_its_vectors_at_once_when_another_process_has_made_the_index_for_its_embedder(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    request = SearchRequest(query="heron", where=EVERYTHING, limit=5)
    async with embedder_of(16) as small, embedder_of(24) as large:
        async with process(conninfo, server, small) as keeper, running(keeper):
            await remember(record, keeper, "note", "heron first")
            await eventually(lambda: owed_none(record, small.name))
        async with (
            process(conninfo, server, large) as reader,
            process(conninfo, server, large) as keeper,
            running(keeper),
        ):
            search = Searcher(record, reader, large)
            changed = "search is by words only: the embedder was changed; run `apex-mcp reindex`"

            async def said() -> bool:
                return (await search.search(request)).degraded == [changed]

            await eventually(said)
            await reindexed(keeper)
            assert changed not in (await search.search(request)).degraded


async def test_another_model_under_the_same_name_is_named_until_a_reindex_takes_it(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    request = SearchRequest(query="heron", where=EVERYTHING, limit=5)
    with OpenAIServer(dimensions=16) as endpoint:
        async with (
            embedder_at(endpoint) as embedder,
            process(conninfo, server, embedder) as keeper,
            running(keeper),
        ):
            await remember(record, keeper, "note", "heron first")
            await eventually(lambda: owed_none(record, embedder.name))
        endpoint.dimensions = 24
        async with (
            embedder_at(endpoint) as embedder,
            process(conninfo, server, embedder) as keeper,
            running(keeper),
        ):
            await remember(record, keeper, "other", "heron second")
            search = Searcher(record, keeper, embedder)

            async def caught_up() -> Sequence[str]:
                found = await search.search(request)
                return found.degraded if len(found.passages) == 2 and len(found.degraded) == 1 else []

            [said] = await eventually(caught_up)
            assert "have 16 numbers" in said
            assert "gives 24" in said
            assert "apex-mcp reindex" in said
            assert await record.passage_vectors.count_owed(embedder.name) == 1

            await reindexed(keeper)
            await eventually(lambda: owed_none(record, embedder.name))
            assert keeper.meaning.lacking() is None
            assert (await record.index_log.identity()).dimension == 24

            async def whole() -> bool:
                found = await search.search(request)
                return not found.degraded and len(found.passages) == 2

            await eventually(whole)


async def test_while_the_endpoint_refuses_an_answer_says_that_it_is_by_words_only_and_why(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    with OpenAIServer(dimensions=16) as endpoint:
        async with (
            embedder_at(endpoint) as embedder,
            process(conninfo, server, embedder) as keeper,
            running(keeper),
        ):
            await remember(record, keeper, "note", "heron first")
            await eventually(lambda: owed_none(record, embedder.name))
            endpoint.fail_next(*[Status(429, "rate_limit_exceeded")] * 20)
            search = Searcher(record, keeper, embedder)
            found = await search.search(SearchRequest(query="heron", where=EVERYTHING, limit=5))
    assert found.degraded == ["search is by words only: the embedder did not answer"]
    assert len(found.passages) == 1
