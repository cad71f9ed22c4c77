"""Entities that are one, split and joined by hand, as `Memory` shows them."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from apex_mcp.errors import Conflict
from apex_mcp.models import EntityInput, FactInput
from apex_mcp.server import rendering
from tests.e2e.apps import CALLER, app_without_worker, remember, working

pytestmark = pytest.mark.anyio


async def test_two_spellings_are_one_until_the_user_says_otherwise(tmp_path: Path) -> None:
    async with app_without_worker(tmp_path / "home") as app, working(app):
        for name, made in (("ACME Corp.", "anvils"), ("ACME Corporation", "rockets")):
            await remember(
                app,
                f"{name} makes {made}.",
                key=made,
                entities=[EntityInput(name=name, type="Organization")],
                facts=[FactInput(subject=name, predicate="makes", object=made)],
            )
        (acme,) = (await app.memory.get_entities(CALLER, query="ACME Corporation")).entities
        (merged,) = acme.merged_from
        assert (acme.name, merged.name, merged.reason) == ("ACME Corp.", "ACME Corporation", "name")
        assert sorted(fact.object for fact in acme.facts) == ["anvils", "rockets"]
        assert {fact.subject_id for fact in acme.facts} == {acme.entity_id}
        assert len(acme.sources) == 2
        shown = rendering.entities(await app.memory.get_entities(CALLER, query="ACME"))
        assert f"the same as ACME Corporation (by name), entity {merged.entity_id}" in shown
        hits = (await app.memory.search(CALLER, query="anvils rockets", entity="ACME Corporation")).hits
        assert len(hits) == 2

        for question in ("Who runs ACME Corporation?", "what does acme make"):
            (named,) = (await app.memory.get_entities(CALLER, query=question)).entities
            assert named.entity_id == acme.entity_id
        assert (await app.memory.get_entities(CALLER, query="Who runs it?")).entities == []
        assert (await app.memory.get_entities(CALLER, query="Who runs ACME?", type="Person")).entities == []

        split = partial(app.memory.split_entity, CALLER, entity_id=acme.entity_id, other_id=merged.entity_id)
        join = partial(app.memory.join_entity, CALLER, entity_id=acme.entity_id, other_id=merged.entity_id)
        apart = await split()
        assert [(one.name, len(one.sources), one.merged_from) for one in apart.entities] == [
            ("ACME Corp.", 1, []),
            ("ACME Corporation", 1, []),
        ]
        with pytest.raises(Conflict):
            await split()
        (again,) = (await join()).entities
        assert again.merged_from == [merged]


async def test_what_a_caller_gives_in_other_words_meets_and_ends_as_what_a_text_says(tmp_path: Path) -> None:
    async with app_without_worker(tmp_path / "home") as app, working(app):
        await remember(app, "ACME Corp. hires.", entities=[EntityInput(name="ACME Corp.", type="startup")])
        await remember(app, "ACME Corporation acquired Foo Ltd. in 2023.")
        for type_ in ("startup", "Organization", None):
            found = (await app.memory.get_entities(CALLER, query="acme", type=type_)).entities
            assert [(one.name, len(one.merged_from)) for one in found] == [("ACME Corp.", 1)]
        for year, said in enumerate(("employer", "works for", "is employed by", "WORKS_AT"), 2020):
            fact = FactInput(
                subject="Jane Roe",
                predicate=said,
                object=f"Firm {year}",
                valid_at=datetime(year, 1, 1, tzinfo=UTC),
            )
            await remember(app, f"note {year}", facts=[fact])
        employs = FactInput(
            subject="Hooli", predicate="employs", object="Jane Roe", valid_at=datetime(2024, 1, 1, tzinfo=UTC)
        )
        await remember(app, "note 2024", facts=[employs])
        (jane,) = (await app.memory.get_entities(CALLER, query="Jane Roe")).entities
        assert [(one.predicate, one.object) for one in jane.facts if one.current] == [("works_at", "Hooli")]
        assert len(jane.facts) == 5
        assert [one.name for one in (await app.memory.get_entities(CALLER, query="Hooli")).entities] == [
            "Hooli"
        ]


async def test_who_came_back_was_there_before_though_the_same_sentence_says_both(tmp_path: Path) -> None:
    async with app_without_worker(tmp_path / "home") as app, working(app):
        for year, employer in ((2023, "Initech"), (2024, "Globex"), (2025, "Initech")):
            await remember(
                app, f"Jane Doe works at {employer}.", document_time=datetime(year, 1, 1, tzinfo=UTC)
            )

        async def employers(year: int) -> list[str]:
            found = await app.memory.get_entities(
                CALLER, query="Jane Doe", as_of=datetime(year, 7, 1, tzinfo=UTC)
            )
            return [fact.object for one in found.entities for fact in one.facts if fact.current]

        assert [await employers(year) for year in (2023, 2024, 2025)] == [
            ["Initech"],
            ["Globex"],
            ["Initech"],
        ]
        stats = await app.memory.get_stats(CALLER)
        assert (stats.documents, stats.versions) == (3, 3)
