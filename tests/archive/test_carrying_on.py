"""An import that is interrupted, or comes upon what was forgotten."""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from apex_mcp.archiving import importing
from apex_mcp.errors import ApexError, Code, Unavailable
from apex_mcp.ingestion.verifying import of_vectors
from apex_mcp.models import EntityInput, Extraction, IngestionState, Lane, SourceType
from apex_mcp.retrieval.cached import AnswerCache
from apex_mcp.stores.cache.process import ProcessCache
from apex_mcp.stores.record.enrichments import Enriched, Link
from apex_mcp.stores.record.forgetting import Selection
from apex_mcp.stores.record.import_course import IMPORTING
from apex_mcp.stores.record.versions import NewVersion, content_hash
from tests.archive.memories import USER, Kept, kept, lines, members, without_ids
from tests.archive.telling import named, tell, tell_history, told_by_model
from tests.archive.test_round_trip import current_titles, seen
from tests.record.graphs import entity, fact, id_of, look, names
from tests.record.notes import claim, note, version
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_an_interrupted_import_is_carried_on(
    one: Kept, other: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_VERSIONS_AT_ONCE", 1)
    moments = await tell_history(one)
    await one.export(tmp_path / "all.zip")
    rng = random.Random(5)
    for stored in range(1, 6):
        steps = other.memory.import_archive(USER, path=tmp_path / "all.zip")
        async for step in steps:
            if step.what == "storing" and step.done == stored:
                break
        # As when the client that asked for it is gone, or the process dies, between two commits.
        await steps.aclose()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if rng.random() < 0.5:
            await other.export(tmp_path / f"half-{stored}.zip")
    result = await other.take_in(tmp_path / "all.zip")
    assert result.times_kept
    assert await seen(other, moments) == await seen(one, moments)
    await other.export(tmp_path / "again.zip")
    assert without_ids(tmp_path / "again.zip") == without_ids(tmp_path / "all.zip")


async def test_an_import_that_is_cut_off_anywhere_is_carried_on(
    one: Kept, other: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_VERSIONS_AT_ONCE", 2)
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    rng = random.Random(7)
    for _ in range(6):
        task = asyncio.create_task(other.take_in(tmp_path / "all.zip"))
        await asyncio.wait([task], timeout=rng.random() * 0.2)
        task.cancel()
        with suppress(asyncio.CancelledError, ApexError):
            await task
    await other.take_in(tmp_path / "all.zip")
    await other.export(tmp_path / "again.zip")
    assert without_ids(tmp_path / "again.zip") == without_ids(tmp_path / "all.zip")


async def test_what_is_accepted_amid_an_import_is_committed_and_nothing_is_lost(
    one: Kept, other: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_VERSIONS_AT_ONCE", 1)
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    result = None
    async for step in other.memory.import_archive(USER, path=tmp_path / "all.zip"):
        if step.what == "storing" and step.done == 2 and step.result is None:
            await tell(other, "mine", "Mine.", named("Acme Inc"))
        result = step.result
    assert result is not None
    assert not result.times_kept
    assert await current_titles(other) == sorted([*await current_titles(one), "Mine."])
    (bob,) = await look(other.record, "Bob")
    assert [view.name for view in bob.merged_from] == ["Robert"]
    for row in await other.record.database.fetch_all(
        "SELECT 1 FROM versions v JOIN namespaces n ON n.name = v.namespace "
        "WHERE v.revision_from > n.revision OR v.enriched_from > n.revision OR v.revision_to <= v.revision_from"
    ):
        pytest.fail(f"a revision that is not there: {row}")


@pytest.mark.parametrize("held_before", [False, True])
async def test_an_answer_that_was_kept_amid_an_import_is_not_given_when_it_is_over(
    one: Kept, other: Kept, tmp_path: Path, *, held_before: bool
) -> None:
    await tell(one, "robert", "Robert leads.", named("Robert"))
    await tell(one, "bob", "Bob leads.", named("Bob"), enrich=True)
    link = Link(name="Bob", other_id=id_of("Robert"), reason="model")
    await told_by_model(one, Enriched(extraction=named("Bob"), links=(link,), usage={}), "bob")
    await tell(one, "last", "The last revision is not the model's.")
    await one.export(tmp_path / "all.zip")
    if held_before:
        await tell(other, "mine", "Mine.")
    other.memory._answers = AnswerCache(ProcessCache(), other.record.database, None)

    async def leading() -> set[str]:
        return {hit.text for hit in (await other.memory.search(USER, query="leads", entity="Bob")).hits}

    amid: set[str] = set()
    async for step in other.memory.import_archive(USER, path=tmp_path / "all.zip"):
        if step.what == "storing" and step.result is None:
            amid = await leading()
    assert amid == {"Bob leads."}
    assert await leading() == {"Robert leads.", "Bob leads."}


async def test_two_imports_at_once_are_refused(one: Kept, tmp_path: Path) -> None:
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    async with one.record.index_log.alone(IMPORTING) as alone:
        assert alone
        with pytest.raises(ApexError) as caught:
            await one.take_in(tmp_path / "all.zip")
    assert caught.value.code == Code.ALREADY_RUNNING


async def test_what_an_import_has_written_but_not_committed_yet_is_not_taken_for_nobodys(
    one: Kept, other: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_vectors, "_PAUSES_SECONDS", (0.01,))
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    await tell(other, "mine", "Mine.")
    verifier = of_vectors.VectorVerifier(other.record, other.keeper)

    async def written() -> bool:
        return await other.keeper.vectors.count() > 1

    async with other.record.database.transaction() as connection:
        # As by a commit that takes long.
        await connection.execute("SELECT 1 FROM namespaces FOR NO KEY UPDATE")
        taking_in = asyncio.create_task(other.take_in(tmp_path / "all.zip"))
        await eventually(written)
        assert await verifier.remove_orphans() == 0
    await taking_in
    assert await other.keeper.vectors.count() == 1 + await one.keeper.vectors.count()


async def test_an_import_that_comes_upon_a_document_while_it_is_removed_can_be_run_again(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    await tell(other, "mine", "Mine.")
    await tell(other, "plain", "To be forgotten.")
    await other.record.forgetting.forget(Selection(namespace="default", keys=["plain"]))
    due = await other.record.purges.due()
    await other.record.purges.delete_rows([purge.version_id for purge in due])

    async def waiting() -> bool:
        return await other.record.database.fetch_all("SELECT 1 FROM pg_locks WHERE NOT granted") != []

    async with other.record.database.transaction() as connection:
        # As the purge does it.
        await connection.execute("SELECT 1 FROM documents WHERE key = 'plain' FOR UPDATE")
        taking_in = asyncio.create_task(other.take_in(tmp_path / "all.zip"))
        await eventually(waiting)
        await connection.execute("DELETE FROM documents WHERE key = 'plain'")
    with pytest.raises(Unavailable, match="removed meanwhile"):
        await taking_in
    result = await other.take_in(tmp_path / "all.zip")
    assert result.documents == {"imported": 3, "unchanged": 0, "kept": 0, "forgotten": 1}


async def test_what_was_forgotten_here_does_not_come_back(one: Kept, other: Kept, tmp_path: Path) -> None:
    await tell_history(one)
    await one.export(tmp_path / "all.zip")
    await other.take_in(tmp_path / "all.zip")
    (initech,) = await look(other.record, "Initech")
    await other.record.forgetting.forget_entity("default", UUID(str(initech.entity_id)))
    await other.record.forgetting.forget(Selection(namespace="default", keys=["plain", "letter"]))
    for _ in range(2):
        result = await other.take_in(tmp_path / "all.zip")
        assert result.documents == {"imported": 0, "unchanged": 2, "kept": 0, "forgotten": 2}
    copy = await other.take_in(tmp_path / "all.zip", into="copy")
    assert copy.documents == {"imported": 2, "unchanged": 0, "kept": 0, "forgotten": 2}
    for namespace in ("default", "copy"):
        assert await look(other.record, "Bob", namespace=namespace) == []
        assert await look(other.record, "Initech", namespace=namespace) == []
        assert names(await look(other.record, "Ann", namespace=namespace)) == ["Ann"]
    assert await other.keeper.vectors.count(namespace="copy") == 3


@pytest.mark.parametrize("forgotten", ["before", "after"])
@pytest.mark.parametrize(
    "extraction",
    [
        Extraction(entities=(entity("Acme"),)),
        Extraction(entities=(entity("Ann", "Person"),), facts=(fact("Ann", "works_at", "Acme"),)),
        Extraction(entities=(entity("Ann", "Person", "Acme"),)),
    ],
    ids=["named", "told of", "alias"],
)
async def test_what_lacks_a_forgotten_entity_since_it_was_imported_is_not_the_same_given_once_more(
    one: Kept, other: Kept, tmp_path: Path, extraction: Extraction, forgotten: str
) -> None:
    async def give() -> IngestionState:
        acme = EntityInput(name="Acme", type="Organization")
        (id_,) = await other.record.ingestions.accept([note("note", "same", entities=(acme,))])
        token, _ = await claim(other.record)
        (ingestion,) = await other.record.ingestions.get([id_])
        await other.commit(replace(version(ingestion, token, "same"), extraction=extraction), token)
        (ingestion,) = await other.record.ingestions.get([id_])
        return ingestion.state

    await tell(one, "note", "same", extraction)
    await one.export(tmp_path / "all.zip")
    await tell(other, "mine", "Of Acme.", Extraction(entities=(entity("Acme"),)))
    if forgotten == "after":
        await other.take_in(tmp_path / "all.zip")
    await other.record.forgetting.forget_entity("default", id_of("Acme"))
    if forgotten == "before":
        await other.take_in(tmp_path / "all.zip")
    assert [await give(), await give()] == [IngestionState.READY, IngestionState.UNCHANGED]


async def test_what_was_forgotten_where_an_archive_is_from_does_not_come_by_an_older_one(
    one: Kept, other: Kept, tmp_path: Path
) -> None:
    await tell_history(one)
    await one.export(tmp_path / "older.zip")
    await one.record.forgetting.forget(Selection(namespace="default", keys=["plain"]))
    await one.export(tmp_path / "newer.zip")
    for member in members(tmp_path / "newer.zip").values():
        assert b"herons" not in member
    assert len(lines(tmp_path / "newer.zip", "tombstones")) == 1
    assert (await other.take_in(tmp_path / "newer.zip")).documents["imported"] == 3
    result = await other.take_in(tmp_path / "older.zip")
    assert (result.documents["forgotten"], result.documents["imported"]) == (1, 0)
    # Until the user adds it again by hand.
    await tell(other, "plain", "Added again.")
    assert "Added again." in await current_titles(other)


async def test_originals_come_along_where_they_are_unchanged(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    async with kept(new_database(), tmp_path / "one") as one:
        for name in ("same", "changed", "gone"):
            path = tmp_path / f"{name}.txt"
            path.write_text(f"The file {name}.", "utf-8")
            request = note(name, "", source_type=SourceType.LOCAL_UPLOAD, path=str(path), lane=Lane.FAST)
            (id_,) = await one.record.ingestions.accept([request])
            token, _ = await claim(one.record)
            (ingestion,) = await one.record.ingestions.get([id_])
            await one.commit(
                file_version(version(ingestion, token, f"The file {name}."), f"The file {name}."), token
            )
        (tmp_path / "changed.txt").write_text("Other words.", "utf-8")
        (tmp_path / "gone.txt").unlink()
        made = await one.export(tmp_path / "all.zip", originals=True)
    assert (made.originals, made.originals_missing) == (1, 2)
    digest = hashlib.sha256(b"The file same.").hexdigest()
    assert members(tmp_path / "all.zip")[f"originals/{digest}"] == b"The file same."
    by_key = {line["key"]: line["original"] for line in lines(tmp_path / "all.zip", "versions")}
    assert by_key == {"same": digest, "changed": None, "gone": None}
    told = json.loads(members(tmp_path / "all.zip")["manifest.json"])["originals"]
    assert [one["key"] for one in told["named"]] == ["changed", "gone"]
    async with kept(new_database(), tmp_path / "other") as other:
        assert (await other.take_in(tmp_path / "all.zip")).documents["imported"] == 3


def file_version(made: NewVersion, content: str) -> NewVersion:
    """As a file's content, and what was given with it, are hashed."""
    given: dict[str, Any] = {"title": "", "document_time": None, "metadata": {}, "entities": [], "facts": []}
    hashed = content_hash(hashlib.sha256(content.encode()).hexdigest(), given)
    return replace(made, content_hash=hashed, source_type=SourceType.LOCAL_UPLOAD)
