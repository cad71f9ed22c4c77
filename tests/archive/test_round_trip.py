"""What is exported and imported is the same memory: its history, its facts in time, its vectors."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apex_mcp.models import IndexFilter
from apex_mcp.presenting import present_ingestion
from apex_mcp.retrieval.search import Searcher, SearchRequest
from apex_mcp.stores.health import Health
from tests.archive.memories import Kept, kept, lines, members, without_ids
from tests.archive.telling import named, tell, tell_history
from tests.ingestion.embedders import embedder_of
from tests.record.graphs import look
from tests.record.notes import claim, note, version

pytestmark = pytest.mark.anyio


async def seen(memory: Kept, moments: list[datetime], namespace: str = "default") -> list[Any]:
    """What is found and known, now and at each moment."""
    answers: list[Any] = []
    for known_at in (None, *moments):
        for query in ("Ann", "Bob", "Acme", "Initech"):
            for as_of in ("", "2022-06-01", "2023-06-01"):
                views = await look(memory.record, query, as_of=as_of, known_at=known_at, namespace=namespace)
                answers.append([
                    (
                        view.name,
                        view.type,
                        sorted(one.name for one in view.merged_from),
                        sorted((one.subject, one.predicate, one.object, one.current) for one in view.facts),
                    )
                    for view in views
                ])
        for words in ("Ann works", "herons", "Initech"):
            request = SearchRequest(
                query=words, where=IndexFilter(namespace=namespace), limit=10, known_at=known_at
            )
            hits = (await Searcher(memory.record, memory.keeper, None).search(request)).passages
            answers.append(sorted(row["text"] for _, row in hits))
    return answers


async def test_an_imported_memory_answers_as_the_one_that_it_came_from(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    moments = await tell_history(one)
    await one.export(tmp_path / "all.zip")
    result = await other.take_in(tmp_path / "all.zip")
    assert result.documents == {"imported": 4, "unchanged": 0, "kept": 0, "forgotten": 0}
    assert (result.versions, result.times_kept) == (5, True)
    assert await seen(other, moments) == await seen(one, moments)
    listed = await other.record.ingestions.recent("default", state=None, limit=10, before=None)
    views = [present_ingestion(each, Health()) for each in listed]
    assert [(view.state, view.finished) for view in views] == [("ready", True)] * 5
    await other.export(tmp_path / "again.zip")
    assert without_ids(tmp_path / "again.zip") == without_ids(tmp_path / "all.zip")


async def test_the_same_archive_twice_adds_nothing(one: Kept, other: Kept, tmp_path: Path) -> None:
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    await other.take_in(tmp_path / "all.zip")
    await other.export(tmp_path / "first.zip")
    result = await other.take_in(tmp_path / "all.zip")
    assert result.documents == {"imported": 0, "unchanged": 4, "kept": 0, "forgotten": 0}
    assert (result.versions, result.times_kept) == (0, True)
    await other.export(tmp_path / "second.zip")
    assert without_ids(tmp_path / "second.zip") == without_ids(tmp_path / "first.zip")
    assert await other.keeper.vectors.count() == 5


async def test_a_memory_takes_its_own_archive_for_what_it_has(one: Kept, tmp_path: Path) -> None:
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    result = await one.take_in(tmp_path / "all.zip")
    assert result.documents["unchanged"] == 4
    assert result.versions == 0
    await one.export(tmp_path / "again.zip")
    assert without_ids(tmp_path / "again.zip") == without_ids(tmp_path / "all.zip")


async def test_it_goes_into_a_namespace_of_another_name(one: Kept, tmp_path: Path) -> None:
    moments = await tell_history(one)
    await one.export(tmp_path / "all.zip", namespace="default")
    result = await one.take_in(tmp_path / "all.zip", into="copy")
    assert (result.namespaces, result.documents["imported"]) == (["copy"], 4)
    assert await seen(one, moments, "copy") == await seen(one, moments)
    again = await one.take_in(tmp_path / "all.zip", into="copy")
    assert again.versions == 0


async def test_vectors_come_along_and_those_of_another_embedder_are_owed(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    async with embedder_of(8) as embedder, embedder_of(4, model="another") as another:
        async with kept(new_database(), tmp_path / "one", embedder=embedder) as one:
            await one.keeper.vectors.enable_dense(embedder.name, 8)
            await tell_history(one, embedder=embedder)
            await one.export(tmp_path / "all.zip")
        assert len(lines(tmp_path / "all.zip", "vectors")) == 5
        async with kept(new_database(), tmp_path / "same", embedder=embedder) as same:
            result = await same.take_in(tmp_path / "all.zip")
            assert result.waiting_for_vectors == 0
            await same.export(tmp_path / "same.zip")
            assert without_ids(tmp_path / "same.zip") == without_ids(tmp_path / "all.zip")
            (vector,) = await embedder.embed_documents(["A note about herons."])
            hits = await same.keeper.vectors.search_dense(vector, IndexFilter(namespace="default"), limit=9)
            assert len(hits) == 4
        async with kept(new_database(), tmp_path / "differs", embedder=another) as differs:
            result = await differs.take_in(tmp_path / "all.zip")
            assert result.waiting_for_vectors == 4


async def test_a_memory_that_holds_something_keeps_what_is_newer_and_says_that_times_are_its_own(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    await tell(other, "mine", "Here first.")
    await tell(other, "stale", "An old text.")
    await tell(other, "same", "The same text.")
    for text in ("First.", "Second."):
        await tell(one, "stale", text, named("Globex Inc"))
    await tell(one, "same", "The same text.")
    await tell(one, "fresh", "From the archive.")
    await tell(one, "new", "Only there.")
    await tell(other, "fresh", "Newer here.", named("Globex"))
    before = datetime.now(UTC)
    await one.export(tmp_path / "all.zip")
    result = await other.take_in(tmp_path / "all.zip")
    assert result.documents == {"imported": 2, "unchanged": 1, "kept": 1, "forgotten": 0}
    assert (result.versions, result.times_kept) == (3, False)
    titles = await current_titles(other)
    assert titles == ["Here first.", "Newer here.", "Only there.", "Second.", "The same text."]
    assert await current_titles(other, before) == [
        "An old text.",
        "Here first.",
        "Newer here.",
        "The same text.",
    ]
    # Spellings of one name are one, whichever memory they are from.
    (globex,) = await look(other.record, "Globex")
    assert [view.name for view in globex.merged_from] == ["Globex Inc"]
    again = await other.take_in(tmp_path / "all.zip")
    assert again.versions == 0
    assert await current_titles(other) == titles


async def current_titles(memory: Kept, known_at: datetime | None = None) -> list[str]:
    async with memory.record.reader.view("default", known_at=known_at) as view:
        rows = await view.list_documents(source_types=[], limit=100, before=None)
    return sorted(row["title"] for row in rows)


async def test_what_was_accepted_here_is_never_overtaken_by_an_archive(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    await tell(one, "doc", "From the archive.")
    await one.export(tmp_path / "all.zip")
    (waiting,) = await other.record.ingestions.accept([note("doc", "Accepted here.")])
    await other.take_in(tmp_path / "all.zip")
    token, _ = await claim(other.record)
    (ingestion,) = await other.record.ingestions.get([waiting])
    await other.commit(version(ingestion, token, "Accepted here."), token)
    assert await current_titles(other) == ["Accepted here."]


async def test_without_the_past_an_archive_holds_what_is_current(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    await tell_history(one)
    made = await one.export(tmp_path / "now.zip", past=False)
    assert (made.documents, made.versions) == (4, 4)
    assert b"Ann works at Initech" not in b"".join(members(tmp_path / "now.zip").values())
    result = await other.take_in(tmp_path / "now.zip")
    assert result.documents["imported"] == 4
    assert await current_titles(other) == await current_titles(one)
