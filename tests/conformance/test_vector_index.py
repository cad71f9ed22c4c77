"""What every vector index must do; the contract is `VectorIndex`'s docstring."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.protocol import MAX_DEPTH, VectorIndex
from tests.stores.foreign_points import foreign_payloads, put_foreign
from tests.stores.index_points import MINE, retirement, unit_vector, version_of

pytestmark = pytest.mark.anyio


async def words(
    index: VectorIndex, query: str, where: IndexFilter = MINE, limit: int = 100
) -> dict[UUID, float]:
    """Scores to three decimals, by id."""
    found = await index.search_words(query, where, limit=limit)
    return {candidate.chunk_id: round(candidate.score, 3) for candidate in found}


def ids(*points: IndexPoint) -> set[UUID]:
    return {one.id for one in points}


async def test_what_is_written_is_found_at_once_best_first(index: VectorIndex) -> None:
    often, once, other = version_of(
        "the heron and the heron again", "a heron stood in the water", "a boat on the water"
    )
    await index.upsert([once, other, often])
    found = await index.search_words("heron", MINE, limit=10)
    assert [candidate.chunk_id for candidate in found] == [often.id, once.id]
    assert found[0].score > found[1].score > 0


async def test_an_upsert_replaces_a_point_whole(index: VectorIndex) -> None:
    rng = random.Random(1)
    vector = unit_vector(rng)
    [old] = version_of("heron", dense=[vector], metadata={"colour": "grey"})
    [new] = version_of("kingfisher", version_id=old.version_id)
    await index.upsert([old])
    await index.retire([retirement([old], 1, 2)])
    await index.upsert([new])
    assert new.id == old.id
    assert await index.count() == 1
    assert await words(index, "heron") == {}
    assert set(await words(index, "kingfisher")) == ids(new)
    assert await index.search_dense(vector, MINE, limit=10) == []
    assert (
        await words(index, "kingfisher", IndexFilter(namespace="mine", metadata={"colour": ("grey",)})) == {}
    )


async def test_deleting_removes_the_named_versions_only(index: VectorIndex) -> None:
    gone, other, stays = version_of("heron one", "heron two"), version_of("heron"), version_of("heron")
    await index.upsert([*gone, *other, *stays])
    assert await index.version_ids() == {gone[0].version_id, other[0].version_id, stays[0].version_id}
    assert await index.count(version_id=gone[0].version_id) == 2
    await index.delete_versions([gone[0].version_id, other[0].version_id, uuid4()])
    await index.delete_versions([])
    assert await index.count(version_id=gone[0].version_id) == 0
    assert await index.version_ids() == {stays[0].version_id}
    assert set(await words(index, "heron")) == ids(*stays)


async def test_a_namespace_finds_and_counts_its_own_points_only(index: VectorIndex) -> None:
    rng = random.Random(2)
    [mine] = version_of("heron", dense=[unit_vector(rng)])
    [theirs] = version_of("heron", namespace="theirs", dense=[unit_vector(rng)])
    await index.upsert([mine, theirs])
    assert set(await words(index, "heron")) == ids(mine)
    found = await index.search_dense(unit_vector(rng), IndexFilter(namespace="theirs"), limit=10)
    assert [candidate.chunk_id for candidate in found] == [theirs.id]
    assert [
        await index.count(namespace="mine"),
        await index.count(namespace="none"),
        await index.count(),
    ] == [1, 0, 2]
    assert await words(index, "heron", IndexFilter(namespace="none")) == {}


async def test_a_rare_words_score_does_not_change_when_another_namespace_stores_it_a_thousand_times(
    index: VectorIndex,
) -> None:
    mine = version_of("the heron stood still", *(f"a boat of number {number}" for number in range(30)))
    await index.upsert(mine)
    before = await words(index, "heron boat")
    assert len(before) == 31
    await index.upsert(version_of(*["heron"] * 1_000, namespace="theirs"))
    assert await words(index, "heron boat") == before


async def test_sixty_retired_copies_neither_crowd_out_current_hits_nor_change_their_scores(
    index: VectorIndex,
) -> None:
    rng = random.Random(3)
    vector = unit_vector(rng)
    current = version_of(
        "the contract with Northwind ends in May",
        "a boat on the water",
        "the contract with Contoso",
        dense=[unit_vector(rng) for _ in range(3)],
    )
    await index.upsert(current)
    before = await words(index, "contract Northwind")
    copies = [version_of("the contract with Northwind ends in May", dense=[vector]) for _ in range(60)]
    await index.upsert([point for copy in copies for point in copy])
    await index.retire([retirement(copy, number, number + 1) for number, copy in enumerate(copies)])
    assert await words(index, "contract Northwind", limit=5) == before
    found = await index.search_dense(vector, MINE, limit=5)
    assert {candidate.chunk_id for candidate in found} == ids(*current)
    assert await index.count(namespace="mine") == 63


async def test_a_past_revision_finds_what_was_current_then_with_the_scores_of_then(
    index: VectorIndex,
) -> None:
    rng = random.Random(4)
    first, second, third = (
        version_of(f"heron {name}", dense=[unit_vector(rng)]) for name in ("one", "two", "three")
    )
    await index.upsert(first)
    then = await words(index, "heron")
    await index.retire([retirement(first, 3, 5)])
    await index.upsert(second)
    await index.retire([retirement(second, 5, 9)])
    for revision, expected in {2: [], 3: first, 4: first, 5: second, 8: second, 9: []}.items():
        at = IndexFilter(namespace="mine", revision=revision)
        assert set(await words(index, "heron", at)) == ids(*expected), revision
        dense = await index.search_dense(unit_vector(rng), at, limit=10)
        assert {candidate.chunk_id for candidate in dense} == ids(*expected), revision
    assert await words(index, "heron", IndexFilter(namespace="mine", revision=4)) == then
    # Retired in another namespace, at the same revision.
    theirs = version_of("heron", namespace="theirs")
    await index.upsert([*third, *theirs])
    await index.retire([retirement(theirs, 3, 5)])
    assert set(await words(index, "heron", IndexFilter(namespace="mine", revision=4))) == ids(*first, *third)
    assert set(await words(index, "heron")) == ids(*third)


async def test_what_is_past_as_it_is_written_is_as_if_it_was_retired_afterwards(index: VectorIndex) -> None:
    before, then = version_of("heron one"), version_of("heron two")
    await index.upsert([*before, *(replace(one, retirement=retirement(then, 3, 5)) for one in then)])
    await index.retire([retirement(before, 3, 5)])
    at = IndexFilter(namespace="mine", revision=4)
    assert set(await words(index, "heron", at)) == ids(*before, *then)
    assert set(await words(index, "heron")) == set()
    assert await held(index) == {
        Holding(before[0].version_id, (3, 5), False): 1, Holding(then[0].version_id, (3, 5), False): 1,
    }  # fmt: skip


async def test_retiring_what_is_not_there_or_again_changes_nothing_else(index: VectorIndex) -> None:
    old, stays = version_of(*["heron"] * 230), version_of("heron")
    await index.upsert([*old, *stays])
    await index.retire([Retirement(version_id=uuid4(), revision_from=1, revision_to=2)])
    await index.retire([])
    for _ in range(2):
        await index.retire([retirement(old, 1, 2)])
        assert set(await words(index, "heron", limit=500)) == ids(*stays)
        assert len(await words(index, "heron", IndexFilter(namespace="mine", revision=1), limit=500)) == 231


async def test_narrowing_filters_choose_candidates_and_leave_scores_alone(index: VectorIndex) -> None:
    pdf, note, mail = (
        version_of("heron report", source_type="local_upload", media_type="application/pdf")[0],
        version_of("heron note", document_time=datetime(2026, 3, 1, tzinfo=UTC))[0],
        version_of("heron mail", document_time=datetime(2026, 4, 1, 12, 30, tzinfo=UTC))[0],
    )
    await index.upsert([pdf, note, mail])
    everything = await words(index, "heron")
    march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, 12, 30, tzinfo=UTC)
    cases: list[tuple[IndexFilter, set[UUID]]] = [
        (IndexFilter(namespace="mine", source_types=("local_upload",)), ids(pdf)),
        (IndexFilter(namespace="mine", source_types=("local_upload", "inline")), ids(pdf, note, mail)),
        (IndexFilter(namespace="mine", media_types=("application/pdf", "text/html")), ids(pdf)),
        (IndexFilter(namespace="mine", document_ids=(note.document_id, mail.document_id)), ids(note, mail)),
        (IndexFilter(namespace="mine", after=march, before=april), ids(note)),
        (IndexFilter(namespace="mine", after=april), ids(mail)),
        (IndexFilter(namespace="mine", before=datetime(9999, 12, 31, tzinfo=UTC)), ids(note, mail)),
        (IndexFilter(namespace="mine", source_types=("inline",), before=march), set()),
        (IndexFilter(namespace="theirs", document_ids=(note.document_id,)), set()),
    ]
    for where, expected in cases:
        found = await words(index, "heron", where)
        assert found == {chunk_id: everything[chunk_id] for chunk_id in expected}, where


async def test_metadata_filters_tell_types_apart_and_take_any_field_name(index: VectorIndex) -> None:
    tagged, other = (
        version_of(
            "heron",
            metadata={"year": 2026, "price": 2.5, "draft": True, "a.b[0]": "x", 'quote"d key': "ü", "n": 1.0},
        )[0],
        version_of("heron", metadata={"year": "2026", "draft": False, "n": True})[0],
    )
    await index.upsert([tagged, other])
    cases: list[tuple[dict[str, tuple[str | int | float | bool, ...]], set[UUID]]] = [
        ({"year": (2026,)}, ids(tagged)),
        ({"year": ("2026",)}, ids(other)),
        ({"year": (2026, "2026")}, ids(tagged, other)),
        ({"price": (2.5,)}, ids(tagged)),
        ({"draft": (True,)}, ids(tagged)),
        ({"draft": (False,)}, ids(other)),
        ({"n": (1,)}, ids(tagged)),
        ({"a.b[0]": ("x",), 'quote"d key': ("ü",)}, ids(tagged)),
        ({"year": (2026,), "draft": (False,)}, set()),
        ({"absent": ("x",)}, set()),
    ]
    for metadata, expected in cases:
        assert set(await words(index, "heron", IndexFilter(namespace="mine", metadata=metadata))) == expected


@pytest.mark.parametrize(
    ("stored", "query"),
    [
        ("The contracts were approved in running meetings", "contract"),
        ("Der Vertrag wurde in München geprüft", "munchen"),
        ("Le café est ouvert", "cafe\u0301"),
        ("Совещание утвердило новый бюджет", "БЮДЖЕТ"),
        ("서울에서 열린 회의에서 김철수는 예산을 승인했다", "김철수"),
        ("서울에서 열린 회의에서 김철수는 예산을 승인했다", "예산"),
        ("ישראל חתמה על הסכם שלום", "הסכם"),
        ("בְּרֵאשִׁית בָּרָא אֱלֹהִים", "בראשית"),
        ("وافَقَ الاجتماعُ على الميزانية", "وافق"),
        ("北京的会议批准了新的预算方案", "预算"),
        ("我喜欢茶", "茶"),
        ("東京の会議で新しい予算が承認されました", "予算"),
        ("การประชุมที่กรุงเทพอนุมัติงบประมาณ", "กรุงเทพ"),
        ("दिल्ली में बैठक ने बजट को मंजूरी दी", "दिल्ली"),
        ("\uff21\uff22\uff23\uff11 in full width", "abc1"),
        ("ticket ACME-1234 is open", "ACME-1234"),
        ("ticket ACME-1234 is open", "1234"),
    ],
)
async def test_words_are_found_in_many_scripts(index: VectorIndex, stored: str, query: str) -> None:
    [point] = version_of(stored)
    await index.upsert([point, *version_of("something else", "另一句话", "다른 문장", "משפט אחר")])
    assert set(await words(index, query)) == ids(point)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   \n\t",
        "the of and",
        "\x00\x01\x02",
        "\ud800",
        "!?#$%",
        "x" * 200_000,
        "word " * 100_000,
        "字" * 100_000,
        "' OR 1=1; --",
    ],
    ids=[
        "empty",
        "blank",
        "stop words",
        "control",
        "surrogate",
        "signs",
        "long word",
        "long",
        "long han",
        "quotes",
    ],
)
async def test_a_strange_query_finds_nothing_and_harms_nothing(index: VectorIndex, query: str) -> None:
    [point] = version_of("heron")
    await index.upsert([point])
    assert await index.search_words(query, MINE, limit=10) == []
    assert set(await words(index, query[:3_000] + " heron")) == ids(point)


async def test_a_passage_without_words_is_kept_and_found_by_its_vector(index: VectorIndex) -> None:
    vector = unit_vector(random.Random(5))
    texts = ["", "the of", "\x00", "\ud800", "🙂"]
    points = version_of(*texts, dense=[vector] * len(texts))
    await index.upsert(points)
    assert await index.count() == len(texts)
    assert len(await index.search_dense(vector, MINE, limit=10)) == len(texts)


async def test_equal_scores_come_in_the_order_of_their_ids_and_pages_fit_together(index: VectorIndex) -> None:
    rng = random.Random(6)
    vector = unit_vector(rng)
    points = version_of(*["the same heron"] * 130, dense=[vector] * 130)
    await index.upsert(rng.sample(points, len(points)))
    expected = sorted(ids(*points))
    for search in (partial(index.search_words, "heron", MINE), partial(index.search_dense, vector, MINE)):
        pages: list[Candidate] = []
        for offset, limit in ((0, 10), (10, 20), (30, 40), (70, 100)):
            pages += await search(limit=limit, offset=offset)
        assert [candidate.chunk_id for candidate in pages] == expected


async def test_growing_pages_are_parts_of_one_ranking(index: VectorIndex) -> None:
    rng = random.Random(7)
    texts = [
        " ".join(rng.choices(["heron", "boat", "water", "reed", "mill"], k=rng.randint(3, 40)))
        for _ in range(150)
    ]
    await index.upsert(version_of(*texts, dense=[unit_vector(rng) for _ in texts]))
    vector = unit_vector(rng)
    whole = await index.search_words("heron reed", MINE, limit=150)
    assert whole == sorted(whole, key=lambda candidate: (-candidate.score, candidate.chunk_id))
    assert whole == [
        *await index.search_words("heron reed", MINE, limit=7),
        *await index.search_words("heron reed", MINE, limit=21, offset=7),
        *await index.search_words("heron reed", MINE, limit=200, offset=28),
    ]
    nearest = await index.search_dense(vector, MINE, limit=150)
    assert len(nearest) == 150
    assert nearest == [
        *await index.search_dense(vector, MINE, limit=50),
        *await index.search_dense(vector, MINE, limit=100, offset=50),
    ]


async def test_limits_and_offsets_out_of_bounds_are_no_errors(index: VectorIndex) -> None:
    vector = unit_vector(random.Random(8))
    [point] = version_of("heron", dense=[vector])
    await index.upsert([point])
    for limit, offset, expected in (
        (0, 0, 0),
        (-1, 0, 0),
        (1, -5, 1),
        (1_000_000, 0, 1),
        (1, 1, 0),
        (10, MAX_DEPTH, 0),
        (10, 10**12, 0),
    ):
        assert len(await index.search_words("heron", MINE, limit=limit, offset=offset)) == expected
        assert len(await index.search_dense(vector, MINE, limit=limit, offset=offset)) == expected


async def test_dense_search_ranks_as_plain_cosine_does(index: VectorIndex) -> None:
    rng = random.Random(9)
    points = version_of(
        *[f"text {number}" for number in range(400)], dense=[unit_vector(rng) for _ in range(400)]
    )
    unembedded = version_of("no vector yet")
    await index.upsert([*points, *unembedded])
    await index.delete_versions([unembedded[0].version_id])
    for _ in range(20):
        query = unit_vector(rng)
        expected = sorted(
            (-sum(a * b for a, b in zip(query, one.dense or [], strict=True)), one.id) for one in points
        )[:25]
        found = await index.search_dense(query, MINE, limit=25)
        assert [candidate.chunk_id for candidate in found] == [chunk_id for _, chunk_id in expected]
        assert [candidate.score for candidate in found] == pytest.approx(
            [-score for score, _ in expected], abs=1e-5
        )


async def test_a_chunk_without_a_vector_is_found_by_words_only(index: VectorIndex) -> None:
    rng = random.Random(10)
    [with_vector] = version_of("heron", dense=[unit_vector(rng)])
    [without] = version_of("heron")
    await index.upsert([with_vector, without])
    found = await index.search_dense(unit_vector(rng), MINE, limit=10)
    assert [candidate.chunk_id for candidate in found] == [with_vector.id]
    assert set(await words(index, "heron")) == ids(with_vector, without)


async def test_the_position_is_noted_by_a_flush_and_stays_until_another(index: VectorIndex) -> None:
    assert index.position() is None
    await index.flush()
    assert index.position() is None
    await index.upsert(version_of("heron"))
    await index.flush("17")
    await index.flush()
    assert index.position() == "17"
    await index.flush("18")
    assert index.position() == "18"


async def held(
    index: VectorIndex, version_ids: list[UUID] | None = None
) -> dict[Holding | ForeignPoint, int]:
    every: Counter[Holding | ForeignPoint] = Counter()
    async for page in index.inventory(version_ids):
        every.update(page)
    return dict(every)


async def test_an_inventory_tells_of_each_version_how_many_points_it_has_and_how_they_are_held(
    index: VectorIndex,
) -> None:
    rng = random.Random(9)
    assert await held(index) == {}
    both = version_of("heron", "stork", dense=[unit_vector(rng), None])
    past = version_of("heron", "stork", "crane", namespace="past times")
    await index.upsert([*both, *past])
    await index.retire([retirement(past, 3, 7)])
    of_both = {Holding(both[0].version_id, None, True): 1, Holding(both[0].version_id, None, False): 1}
    of_past = {Holding(past[0].version_id, (3, 7), False): 3}
    assert await held(index) == of_both | of_past
    assert await held(index, [past[0].version_id, uuid4()]) == of_past
    assert await held(index, []) == {}
    await index.upsert([past[0]])
    assert await held(index, [past[0].version_id]) == {
        Holding(past[0].version_id, None, False): 1, Holding(past[0].version_id, (3, 7), False): 2,
    }  # fmt: skip


async def test_an_inventory_tells_passages_without_words_which_no_search_finds(index: VectorIndex) -> None:
    points = version_of("heron", "the of and", "...")
    await index.upsert(points)
    version_id = points[0].version_id
    assert [page async for page in index.inventory()] == [
        {Holding(version_id, None, False, found=True): 1, Holding(version_id, None, False, found=False): 2}
    ]


async def test_an_inventory_of_many_points_misses_none(index: VectorIndex) -> None:
    many = version_of(*[f"heron {number}" for number in range(1_500)])
    few = version_of("heron", "stork")
    await index.upsert([*many, *few])
    assert await held(index) == {
        Holding(many[0].version_id, None, False): 1_500, Holding(few[0].version_id, None, False): 2,
    }  # fmt: skip


async def test_what_is_as_no_versions_points_are_is_told_one_by_one_and_removed_by_its_id(
    index: VectorIndex,
) -> None:
    points = version_of("heron", "stork")
    await index.upsert(points)
    ours = Holding(points[0].version_id, None, False)
    payloads = list(foreign_payloads(points[0]).values())
    put: dict[PointId, dict[str, Any] | None] = {
        **{uuid4(): one for one in payloads},
        **dict(enumerate(payloads)),
    }
    await put_foreign(index, put)
    foreign = [ForeignPoint(one) for one in put]
    assert await held(index) == {ours: 2, **dict.fromkeys(foreign, 1)}
    assert (await held(index, [points[0].version_id]))[ours] == 2
    assert await index.version_ids() == {points[0].version_id}
    gone = list(put)[::2]
    await index.delete_points([*gone, uuid4(), 2**60])
    await index.delete_points([])
    stay = [ForeignPoint(one) for one in put if one not in gone]
    assert await held(index) == {ours: 2, **dict.fromkeys(stay, 1)}
    await index.delete_points([*put, points[1].id])
    assert await held(index) == {ours: 1}
    assert await index.count() == 1


async def test_a_version_goes_with_whatever_carries_its_tags(index: VectorIndex) -> None:
    points = version_of("heron", "stork")
    await index.upsert(points)
    await put_foreign(index, {7: {"tags": layout.payload(points[0])["tags"]}})
    await index.delete_versions([points[0].version_id])
    assert await index.count() == 0
