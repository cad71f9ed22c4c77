import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from apex_mcp import ids
from apex_mcp.errors import Conflict, NotFound, Unavailable
from apex_mcp.ingestion.enriching.answers import Answers
from apex_mcp.models import EntityInput, Extraction, FactInput, IngestionState
from apex_mcp.stores.record import Record, forgetting_entities
from apex_mcp.stores.record.forgetting import Forgetting, Selection
from apex_mcp.stores.record.graph_changes import GraphMark
from apex_mcp.stores.record.in_use import set_read_by_model
from tests.record.graphs import begin, enrich, entity, id_of, look, names, tell, works_at
from tests.record.leftovers import everything, forgotten_keys, forgotten_names, tables_with
from tests.record.notes import claim, commit, note, remember, version, visible_texts

pytestmark = pytest.mark.anyio

CANARY = "canary-7d1f"


def documents(*keys: str, namespace: str = "default") -> Selection:
    return Selection(namespace=namespace, keys=keys)


async def forget(record: Record, selection: Selection) -> Forgetting:
    """Both phases, the second as a purge does it."""
    done = await record.forgetting.forget(selection)
    assert done is not None
    await remove(record)
    return done


async def remove(record: Record) -> None:
    while due := await record.purges.due():
        versions = [one.version_id for one in due]
        await record.purges.delete_rows(versions)
        await record.purges.delete_documents(due)
        await record.purges.passed(versions, again_after_seconds=[3600])


# --- documents -------------------------------------------------------------------------------------------------------


async def test_a_forgotten_document_is_invisible_at_once_at_every_revision(record: Record) -> None:
    await remember(record, "Ann works at Acme, it was said")
    then = datetime.now(UTC)
    await remember(record, "Ann works at Acme still")
    await remember(record, "kept", key="other")
    assert await record.forgetting.forget(documents("note")) is not None
    assert await visible_texts(record) == ["kept"]
    for when in (None, then):
        async with record.reader.view("default", known_at=when) as view:
            rows = await view.list_documents(source_types=[], limit=10, before=None)
            assert [row["title"] for row in rows] == (["kept"] if when is None else [])
            assert await view.document(ids.document_id("default", "note"), 1) is None
            assert await view.versions(ids.document_id("default", "note")) == []
        assert await look(record, "acme", known_at=when) == []


async def test_nothing_of_a_forgotten_document_is_left_in_any_table(record: Record) -> None:
    for number in range(2):
        await tell(
            record,
            f"{CANARY}/key",
            replace(
                works_at(f"{CANARY} Ann", f"{CANARY} Corp."),
                entities=(entity(f"{CANARY} Ann", "Person", f"{CANARY} alias"), entity(f"{CANARY} Corp.")),
            ),
            text=f"{CANARY} {number}",
            enrich=True,
        )
    work = await begin(record)
    await record.enrichments.keep_answer(work.version_id, "question", {"entities": [CANARY]})
    await record.name_vectors.keep("test", {id_of(f"{CANARY} Ann"): b"\0\0\0\0"})
    (failed,) = await record.ingestions.accept([note(f"{CANARY}/key", f"{CANARY} failing", title=CANARY)])
    token, _ = await claim(record)
    await record.ingestions.finish(
        failed, state=_rolled_back(), claim=token, error=Conflict(f"{CANARY} broke")
    )
    assert len(await tables_with(record, CANARY)) > 5
    done = await forget(record, documents(f"{CANARY}/key"))
    assert await tables_with(record, CANARY) == []
    assert (done.documents, done.versions, done.entities, done.facts) == (1, 2, 2, 1)
    after = await record.forgetting.get(done.id)
    assert after is not None
    assert after.removed_at is not None
    assert await record.database.fetch_all("SELECT 1 FROM documents") == []


def _rolled_back() -> Any:
    from apex_mcp.models import IngestionState

    return IngestionState.ROLLED_BACK


async def test_entities_and_facts_that_others_name_too_stay_with_exactly_the_others_sources(
    record: Record,
) -> None:
    await tell(record, "one", works_at("Ann", "ACME Corp."))
    await tell(record, "two", works_at("Ann", "ACME Corporation"))
    (acme,) = await look(record, "acme")
    assert [one.name for one in acme.merged_from] == ["ACME Corporation"]
    await forget(record, documents("one"))
    (acme,) = await look(record, "acme")
    (ann,) = await look(record, "ann")
    assert (acme.name, acme.merged_from, acme.mentions) == ("ACME Corporation", [], 1)
    assert [source.title[:3] for source in acme.sources] == ["two"]
    assert [(one.object, len(one.sources)) for one in ann.facts] == [("ACME Corporation", 1)]
    assert await tables_with(record, "acme corp.") == []


async def test_an_end_that_the_forgotten_told_is_undone(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme", since="2020-01-01"))
    await tell(record, "two", works_at("Ann", "Globex", since="2021-01-01"))
    (ann,) = await look(record, "ann")
    assert sorted((one.object, one.current) for one in ann.facts) == [("Acme", False), ("Globex", True)]
    await forget(record, documents("two"))
    (ann,) = await look(record, "ann")
    assert [(one.object, one.current) for one in ann.facts] == [("Acme", True)]


async def test_an_alias_that_only_the_forgotten_gave_finds_nothing_any_more(record: Record) -> None:
    await tell(
        record,
        "one",
        replace(
            works_at("Ann", "Acme"),
            entities=(entity("Ann", "Person"), entity("Acme", "Organization", "The Mill")),
        ),
    )
    await tell(record, "two", works_at("Ann", "Acme"))
    await forget(record, documents("one"))
    assert await look(record, "the mill") == []
    assert await tables_with(record, "the mill") == []
    assert names(await look(record, "acme")) == ["Acme"]


async def test_what_was_accepted_before_is_taken_back_and_its_run_commits_nothing(record: Record) -> None:
    running, waiting, other = await record.ingestions.accept([note("a"), note("b"), note("c")])
    token, claimed = await claim(record, limit=1)
    assert claimed == [running]
    (run,) = await record.ingestions.get([running])
    done = await record.forgetting.forget(documents("a", "b"))
    assert done is not None
    assert set(done.ingestion_ids) == {running, waiting}
    due = {one.version_id: one for one in await record.purges.due()}
    assert ids.version_id(run.document_id, running, token) in due
    assert {one.ingestion_id for one in due.values()} == {running, waiting}
    assert all(one.forgets for one in due.values())
    result = await record.versions.commit([version(run, token, "late")], token)
    assert result.lost == [running]
    with pytest.raises(NotFound, match="forgotten"):
        await record.ingestions.get_one(running)
    await remove(record)
    assert [row["key"] for row in await record.database.fetch_all("SELECT key FROM documents")] == ["c"]
    assert (await claim(record))[1] == [other]


async def test_a_model_that_reads_the_forgotten_publishes_nothing(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), enrich=True)
    work = await begin(record)
    assert await record.forgetting.forget(documents("one")) is not None
    assert await record.enrichments.owned(work.version_id, work.claim) is None
    await remove(record)
    assert await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) == []
    assert await record.database.fetch_all("SELECT 1 FROM enrichments") == []


async def test_only_what_was_stored_in_the_asked_time_is_forgotten_whole(record: Record) -> None:
    await remember(record, "early", key="early")
    await remember(record, "changing", key="changing")
    start = datetime.now(UTC)
    await remember(record, "changed", key="changing")
    await remember(record, "early", key="early")
    end = datetime.now(UTC)
    await remember(record, "late", key="late")
    done = await forget(record, Selection(namespace="default", after=start, before=end))
    assert (done.documents, done.versions, done.kind) == (1, 2, "time_range")
    assert await visible_texts(record) == ["early", "late"]


async def test_a_forgotten_namespace_is_gone_with_its_name_and_comes_back_empty(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "ACME Corp."), namespace=CANARY)
    await tell(record, "two", works_at("Ann", "ACME Corporation"), namespace=CANARY)
    await record.splits.split(CANARY, id_of("ACME Corp.", CANARY), id_of("ACME Corporation", CANARY))
    await remember(record, "kept")
    done = await forget(record, Selection(namespace=CANARY, whole=True))
    assert (done.documents, done.kind) == (2, "namespace")
    assert await tables_with(record, CANARY) == []
    assert await record.reader.namespaces() == ["default"]
    await remember(record, "new", namespace=CANARY)
    assert await visible_texts(record, CANARY) == ["new"]
    assert await visible_texts(record) == ["kept"]


async def test_a_namespace_that_was_emptied_before_can_be_forgotten(record: Record) -> None:
    await remember(record, "one", namespace="other")
    await forget(record, documents("note", namespace="other"))
    assert await record.reader.namespaces() == ["other"]
    done = await forget(record, Selection(namespace="other", whole=True))
    assert done.removed_at is not None
    assert await record.reader.namespaces() == []
    assert await record.forgetting.forget(Selection(namespace="other", whole=True)) is None


async def test_looking_changes_nothing_and_tells_what_goes_and_what_stays(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), text="first")
    await tell(record, "two", replace(works_at("Bob", "Acme"), facts=()), text="second")
    await record.ingestions.accept([note("one", "again")])
    before = await everything(record)
    prospect = await record.forgetting.look(documents("one"))
    assert prospect is not None
    assert (prospect.documents, prospect.versions, prospect.unfinished) == (1, 1, 1)
    assert [one.title for one in prospect.first] == ["first"]
    assert (prospect.entities.first_going, prospect.entities.first_staying) == (["Ann"], ["Acme"])
    assert (prospect.facts.going, prospect.facts.staying) == (1, 0)
    assert await everything(record) == before
    assert await record.forgetting.look(documents("three")) is None


async def test_forgetting_again_finds_nothing_and_the_same_call_again_is_the_same(record: Record) -> None:
    await remember(record, "one")
    first = await record.forgetting.forget(documents("note"), request_id="call")
    again = await record.forgetting.forget(documents("note"), request_id="call")
    assert first is not None
    assert again is not None
    assert first.id == again.id
    assert await record.forgetting.forget(documents("note")) is None


async def test_a_document_that_came_again_while_its_removal_waits_stays(record: Record) -> None:
    await remember(record, "old")
    assert await record.forgetting.forget(documents("note")) is not None
    await remember(record, "new")
    await remove(record)
    assert await visible_texts(record) == ["new"]
    assert len(await record.database.fetch_all("SELECT 1 FROM ingestions")) == 1


# --- at the same time ------------------------------------------------------------------------------------------------


async def test_commits_models_and_removals_at_the_same_time_leave_nothing_half(record: Record) -> None:
    stop = asyncio.Event()

    async def write(number: int) -> None:
        round_ = 0
        while not stop.is_set():
            round_ += 1
            try:
                await record.ingestions.accept([
                    note(f"{key}", f"{number} {round_} {key}") for key in range(number % 3, 6)
                ])
                token, claimed = await claim(record, limit=6, owner=str(number))
                await commit(record, token, {one: f"Ann works at Acme {round_} {one}" for one in claimed})
            except Unavailable:
                await asyncio.sleep(0.01)

    async def clean() -> None:
        while not stop.is_set():
            try:
                await remove(record)
            except Unavailable:
                pass
            await asyncio.sleep(0.01)

    async def forget_some() -> None:
        for round_ in range(8):
            keys = [str(key) for key in range(round_ % 6 + 1)]
            try:
                await record.forgetting.forget(documents(*keys))
                if round_ % 3 == 0:
                    await record.forgetting.forget_entity("default", id_of("Acme"))
            except Unavailable:
                pass
            await asyncio.sleep(0.02)
        stop.set()

    async with asyncio.timeout(150):
        await asyncio.gather(*(write(number) for number in range(3)), clean(), forget_some())
    await record.database.fetch_all("UPDATE outbox SET lease_owner = NULL RETURNING 1")
    done = await forget(record, Selection(namespace="default", whole=True))
    assert done is not None
    left = {name: rows for name, rows in (await everything(record)).items() if rows}
    assert left.keys() <= {"identity", "forgettings", "tombstones", "purges", "index_log"}


async def test_what_is_accepted_while_it_is_forgotten_is_whole_or_gone(record: Record) -> None:
    async def accept(number: int) -> None:
        await record.ingestions.accept([note("note", f"text {number}")])

    for start in range(0, 40, 4):
        await remember(record, f"text of {start}")
        outcomes = await asyncio.gather(
            record.forgetting.forget(documents("note")),
            *(accept(start + number) for number in range(4)),
            remove(record),
            return_exceptions=True,
        )
        assert [
            one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, Unavailable)
        ] == []
        waiting = await record.database.fetch_all(
            "SELECT i.id FROM ingestions i JOIN documents d ON d.id = i.document_id"
        )
        entries = await record.database.fetch_all("SELECT ingestion_id AS id FROM outbox")
        assert {row["id"] for row in entries} == {row["id"] for row in waiting}
        gone = await forgotten_keys(record, "default", ["note"])
        assert gone == (set() if waiting else {"note"})
        if waiting:
            await record.forgetting.forget(documents("note"))
        await remove(record)


async def test_a_try_that_failed_in_a_time_takes_no_version_of_another_time_along(record: Record) -> None:
    await remember(record, "good")
    start = datetime.now(UTC)
    (failed,) = await record.ingestions.accept([note("note", "damaged")])
    (alone,) = await record.ingestions.accept([note("never", "damaged")])
    token, _ = await claim(record)
    for one in (failed, alone):
        await record.ingestions.finish(one, IngestionState.ROLLED_BACK, claim=token)
    done = await forget(record, Selection(namespace="default", after=start))
    assert (done.documents, done.versions) == (1, 0)
    assert await visible_texts(record) == ["good"]


# --- tombstones ------------------------------------------------------------------------------------------------------


async def test_a_tombstone_keeps_a_document_away_until_the_user_gives_it_again(record: Record) -> None:
    await remember(record, "one")
    await forget(record, documents("note"))
    assert await forgotten_keys(record, "default", ["note", "other"]) == {"note"}
    assert await forgotten_keys(record, "elsewhere", ["note"]) == set()
    await record.ingestions.accept([note("note", "by hand")])
    assert await forgotten_keys(record, "default", ["note"]) == set()


async def test_no_older_word_from_an_archive_counts_against_what_was_given_again(record: Record) -> None:
    await remember(record, "one")
    await forget(record, documents("note"))
    older = await record.tombstones.keys_and_tombstones()
    await remember(record, "by hand")
    await record.tombstones.adopt(*older)
    assert await forgotten_keys(record, "default", ["note"]) == set()
    assert (await record.tombstones.keys_and_tombstones())[1] == []
    await forget(record, documents("note"))
    newer = await record.tombstones.keys_and_tombstones()
    await record.ingestions.accept([note("note", "once more")])
    assert newer[1][0].forgotten_at > older[1][0].forgotten_at
    await record.tombstones.adopt(*older)
    assert await forgotten_keys(record, "default", ["note"]) == set()


async def test_tombstones_count_in_a_record_that_adopts_them_and_it_makes_new_ones_of_its_own(
    record: Record, empty_conninfo: str
) -> None:
    from apex_mcp.stores.record import open_record

    await remember(record, "one")
    await forget(record, documents("note"))
    keys, tombstones = await record.tombstones.keys_and_tombstones()
    assert len(tombstones) == 1
    async with open_record(empty_conninfo) as other:
        for _ in range(2):
            await other.tombstones.adopt(keys, tombstones)
        assert await forgotten_keys(other, "default", ["note"]) == {"note"}
        await remember(other, "two", key="second")
        await forget(other, documents("second"))
        both = await other.tombstones.keys_and_tombstones()
        assert {one.key_id for one in both[1]} == {key.id for key in both[0]}
        assert [key.id for key in both[0] if key.own] != [key.id for key in keys]


async def test_what_the_user_gave_again_stays_whatever_an_archive_from_before_says(record: Record) -> None:
    await remember(record, "one")
    await forget(record, documents("note"))
    before = await record.tombstones.keys_and_tombstones()
    await remember(record, "by hand")
    assert (await record.tombstones.keys_and_tombstones())[1] == []
    await record.tombstones.adopt(*before)
    assert await forgotten_keys(record, "default", ["note"]) == set()
    later = [replace(one, forgotten_at=datetime.now(UTC)) for one in before[1]]
    await record.tombstones.adopt(before[0], later)
    assert await forgotten_keys(record, "default", ["note"]) == {"note"}
    await record.ingestions.accept([note("note", "once more")])
    await forget(record, documents("note"))
    assert await forgotten_keys(record, "default", ["note"]) == {"note"}


# --- entities --------------------------------------------------------------------------------------------------------


async def test_a_forgotten_entity_goes_from_every_version_with_its_facts_and_links(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "ACME Corp."), text="first")
    then = datetime.now(UTC)
    await tell(record, "one", works_at("Ann", "Globex"), text="second")
    await tell(record, "two", works_at("Bob", "ACME Corporation"), text="third")
    prospect = await record.forgetting.look_at_entity("default", id_of("ACME Corporation"))
    assert prospect is not None
    assert sorted(prospect.members.values()) == ["ACME Corp.", "ACME Corporation"]
    assert sorted(one.title for one in prospect.mentioned_in) == ["second", "third"]
    assert prospect.mentioning == 2
    done = await record.forgetting.forget_entity("default", id_of("ACME Corporation"))
    assert done is not None
    assert (done.entities, done.facts, done.kind) == (2, 2, "entity")
    assert done.removed_at is not None
    assert await look(record, "acme") == []
    assert await look(record, "acme", known_at=then) == []
    assert [one.facts for one in await look(record, "bob")] == [[]]
    assert await tables_with(record, "acme") == []
    assert await visible_texts(record) == ["second", "third"]
    assert await record.forgetting.forget_entity("default", id_of("ACME Corporation")) is None


async def test_a_forgotten_entity_is_not_extracted_again_by_rules_or_a_model(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), text="first", enrich=True)
    await record.forgetting.forget_entity("default", id_of("Acme"))
    await enrich(record, works_at("Ann", "ACME"))
    await tell(record, "two", works_at("Bob", "acme"), text="second")
    assert await look(record, "acme") == []
    assert [one.facts for one in await look(record, "bob")] == [[]]
    assert await forgotten_names(record, "default", ["ACME.", "Globex"]) == {"acme"}


@pytest.mark.parametrize("given", ["entity", "fact"])
async def test_a_forgotten_entity_is_back_once_the_caller_gives_it(record: Record, given: str) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), text="first")
    await record.forgetting.forget_entity("default", id_of("Acme"))
    more: dict[str, Any] = (
        {"entities": (EntityInput(name="ACME", type="Organization"),)}
        if given == "entity"
        else {"facts": (FactInput(subject="Bob", predicate="owns", object="Acme"),)}
    )
    (ingestion_id,) = await record.ingestions.accept([note("two", "second", **more)])
    token, _ = await claim(record)
    (ingestion,) = await record.ingestions.get([ingestion_id])
    made = replace(version(ingestion, token, "second"), extraction=works_at("Bob", "Acme"))
    await record.versions.commit([made], token)
    assert names(await look(record, "acme")) == ["Acme"]
    assert [source.title for source in (await look(record, "acme"))[0].sources] == ["second"]


async def test_the_same_document_brings_a_forgotten_entity_back_once_the_caller_gives_both_again(
    record: Record,
) -> None:
    async def give() -> IngestionState:
        acme = EntityInput(name="Acme", type="Organization")
        (ingestion_id,) = await record.ingestions.accept([note("note", "same", entities=(acme,))])
        token, _ = await claim(record)
        (ingestion,) = await record.ingestions.get([ingestion_id])
        made = replace(version(ingestion, token, "same"), extraction=Extraction(entities=(entity("Acme"),)))
        return (await record.versions.commit([made], token)).states[ingestion_id]

    assert [await give(), await give()] == [IngestionState.READY, IngestionState.UNCHANGED]
    await record.forgetting.forget_entity("default", id_of("Acme"))
    assert [await give(), await give()] == [IngestionState.READY, IngestionState.UNCHANGED]
    assert names(await look(record, "acme")) == ["Acme"]


async def test_what_callers_and_models_said_of_a_forgotten_entity_goes_as_well(record: Record) -> None:
    given = note(
        "one",
        "text",
        entities=(
            EntityInput(name=CANARY, type="Thing"),
            EntityInput(name="Ann", type="Person", aliases=(CANARY,)),
        ),
        facts=(FactInput(subject="Ann", predicate="knows", object=CANARY),),
    )
    (ingestion_id,) = await record.ingestions.accept([given])
    token, _ = await claim(record)
    (ingestion,) = await record.ingestions.get([ingestion_id])
    extraction = replace(
        works_at("Ann", "Acme"), entities=(entity("Ann", "Person"), entity(CANARY, "Thing"), entity("Acme"))
    )
    made = replace(version(ingestion, token, "text"), extraction=extraction)
    await set_read_by_model(record.database, True)
    await record.versions.commit([made], token)
    answers = Answers(record.enrichments, await begin(record))
    content: dict[str, Any] = {
        "ungrounded": 1,
        "entities": [{"name": CANARY, "aliases": []}, {"name": "Ann", "aliases": [CANARY]}],
        "facts": [{"subject": CANARY, "object": "Ann"}, {"subject": "Ann", "object": "Acme"}],
    }
    small = {"same": True, "ended": [0]}
    for question, answer in {"extract": content, **small}.items():
        await answers.keep(question, answer)
    await record.forgetting.forget_entity("default", id_of(CANARY))
    assert await tables_with(record, CANARY) == []
    assert await answers.find("extract") == {
        "ungrounded": 1,
        "entities": [{"name": "Ann", "aliases": []}],
        "facts": [{"subject": "Ann", "object": "Acme"}],
    }
    assert {question: await answers.find(question) for question in small} == small
    # It was asked before, and answered only now.
    await answers.keep("late", content)
    assert await answers.find("late") == await answers.find("extract")
    assert await tables_with(record, CANARY) == []


async def test_an_answer_of_an_archive_that_nobody_can_read_keeps_nothing_from_being_forgotten(
    record: Record,
) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), enrich=True)
    answers = Answers(record.enrichments, await begin(record))
    unreadable: dict[str, Any] = {
        "no facts": {"entities": []},
        "no names": {"entities": [{}], "facts": []},
        "a number for a name": {"entities": [{"name": 1, "aliases": []}], "facts": []},
        "words": {"entities": ["Acme"], "facts": ["Acme"]},
    }
    for question, content in unreadable.items():
        await answers.keep(question, content)
    assert await record.forgetting.forget_entity("default", id_of("Acme")) is not None
    assert await record.database.fetch_all("SELECT key FROM model_answers") == []
    for question, content in unreadable.items():
        await answers.keep(question, content)
    assert await record.database.fetch_all("SELECT key FROM model_answers") == []


async def test_whatever_is_given_and_answered_is_looked_through_page_by_page(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting_entities, "_ROWS_AT_ONCE", 2)
    content: dict[str, Any] = {"entities": [{"name": CANARY, "aliases": []}], "facts": []}
    given = (EntityInput(name=CANARY, type="Thing"),)
    for number in range(5):
        key, text = f"note{number}", f"text {number}"
        (ingestion_id,) = await record.ingestions.accept([note(key, text, entities=given)])
        token, _ = await claim(record)
        (ingestion,) = await record.ingestions.get([ingestion_id])
        made = replace(
            version(ingestion, token, text), extraction=Extraction(entities=(entity(CANARY, "Thing"),))
        )
        await set_read_by_model(record.database, True)
        await record.versions.commit([made], token)
        await Answers(record.enrichments, await begin(record)).keep("question", content)
    await record.forgetting.forget_entity("default", id_of(CANARY))
    assert await tables_with(record, CANARY) == []


async def test_an_alias_that_another_entity_has_of_a_forgotten_name_goes(record: Record) -> None:
    await tell(
        record,
        "one",
        replace(
            works_at("Ann", "Globex"), entities=(entity("Globex", "Organization", "The Firm", "G"),), facts=()
        ),
    )
    await tell(
        record,
        "two",
        replace(
            works_at("Bob", "Initech"), entities=(entity("Initech", "Organization", "The Firm"),), facts=()
        ),
    )
    await tell(record, "three", replace(works_at("Bob", "Initech"), entities=(entity("The Firm"),), facts=()))
    await record.forgetting.forget_entity("default", id_of("The Firm"))
    assert await look(record, "the firm") == []
    assert [one.aliases for one in await look(record, "globex")] == [["G"]]


async def test_an_entity_of_another_namespace_cannot_be_forgotten_here(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme"), namespace="theirs")
    assert await record.forgetting.forget_entity("default", id_of("Acme", "theirs")) is None
    assert names(await look(record, "acme", namespace="theirs")) == ["Acme"]


async def test_a_fact_of_a_forgotten_entity_no_longer_ends_others(record: Record) -> None:
    await tell(record, "one", works_at("Ann", "Acme", since="2020-01-01"))
    await tell(record, "two", works_at("Ann", "Globex", since="2021-01-01"))
    await record.forgetting.forget_entity("default", id_of("Globex"))
    (ann,) = await look(record, "ann")
    assert [(one.object, one.current) for one in ann.facts] == [("Acme", True)]


async def test_the_graph_hears_of_all_that_a_forgotten_entity_was_part_of(record: Record) -> None:
    version_id = await tell(record, "one", works_at("Ann", "Acme"))
    await record.graph_queue.begin("graph")
    await record.database.fetch_all("DELETE FROM graph_changes RETURNING 1")
    await record.forgetting.forget_entity("default", id_of("Acme"))
    changes = (await record.graph_queue.take(1000)).by_namespace["default"]
    assert id_of("Acme") in changes.entities
    assert changes.facts == [(id_of("Ann"), "works_at", id_of("Acme"))]
    assert changes.chunks == [ids.chunk_id(version_id, 0)]


async def test_what_the_graph_hears_of_a_forgotten_document_names_all_of_it(record: Record) -> None:
    version_id = await tell(record, "one", works_at("Ann", "Acme"))
    await record.graph_queue.begin("graph")
    await record.database.fetch_all("DELETE FROM graph_changes RETURNING 1")
    await record.forgetting.forget(documents("one"))
    changes = (await record.graph_queue.take(1000)).by_namespace["default"]
    assert set(changes.entities) == {id_of("Ann"), id_of("Acme")}
    assert changes.facts == [(id_of("Ann"), "works_at", id_of("Acme"))]
    assert changes.chunks == [ids.chunk_id(version_id, 0)]


@pytest.mark.parametrize("what", ["document", "entity"])
async def test_nothing_is_removed_before_the_graph_was_told_however_often_that_is_begun_anew(
    record: Record, what: str
) -> None:
    await tell(record, "one", works_at("Ann", "Acme"))
    await record.graph_queue.begin("graph")
    done = (
        await record.forgetting.forget(documents("one"))
        if what == "document"
        else await record.forgetting.forget_entity("default", id_of("Acme"))
    )
    assert done is not None
    await remove(record)

    async def waits() -> tuple[bool, bool]:
        now = await record.forgetting.get(done.id)
        assert now is not None
        assert now.removed_at is not None
        return now.graph_waits, now.removed

    assert await waits() == (True, False)
    await record.graph_queue.begin_anew()
    assert await waits() == (True, False)
    await record.graph_queue.begin("another")
    assert await waits() == (True, False)
    # By whoever was at it before it was begun anew.
    await record.graph_queue.done(await record.graph_queue.take(1000), GraphMark("graph", told=1))
    assert await waits() == (True, False)
    while (page := await record.graph_queue.take(1)).seqs:
        await record.graph_queue.done(page, GraphMark("another", told=1))
    assert await waits() == (False, True)


async def test_where_there_is_no_graph_none_is_waited_for_and_one_that_is_not_begun_is(
    record: Record,
) -> None:
    for key in ("one", "two", "three"):
        await remember(record, key, key=key)
    plain = await record.forgetting.forget(documents("one"))
    awaited = await record.forgetting.forget(documents("two"), graph_in_use=True)
    assert plain is not None
    assert awaited is not None
    assert (plain.graph_waits, awaited.graph_waits) == (False, True)
    await record.graph_queue.end()
    assert await record.graph_queue.waiting() == 0
    now = await record.forgetting.get(awaited.id)
    assert now is not None
    assert not now.graph_waits
