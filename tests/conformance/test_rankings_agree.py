"""Edge and the Qdrant client rank alike, whatever is stored, retired and deleted."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from apex_mcp.models import Candidate, IndexFilter, IndexPoint, Retirement
from tests.conformance.conftest import edge_index, qdrant_index
from tests.doubles.qdrant_server import QdrantServer
from tests.stores.index_points import unit_vector, version_of

pytestmark = pytest.mark.anyio

WORDS = ["heron", "boat", "water", "reed", "mill", "contract", "May", "Northwind", "Straße", "予算"]


def some_versions(rng: random.Random) -> list[list[IndexPoint]]:
    versions: list[list[IndexPoint]] = []
    for number in range(40):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(rng.randint(1, 6))]
        dense = [unit_vector(rng) if rng.random() < 0.8 else None for _ in texts]
        versions.append(
            version_of(
                *texts,
                namespace=rng.choice(["mine", "theirs"]),
                source_type=rng.choice(["inline", "local_upload"]),
                metadata={"number": number % 3},
                dense=dense,
            )
        )
    return versions


def alike(some: Sequence[Candidate], others: Sequence[Candidate]) -> None:
    """The same candidates with the same scores; those of nearly equal scores may have changed places."""
    scores = {one.chunk_id: one.score for one in others}
    assert {one.chunk_id for one in some} == set(scores)
    assert [one.score for one in some] == pytest.approx([one.score for one in others], rel=1e-4, abs=1e-5)
    for one in some:
        assert one.score == pytest.approx(scores[one.chunk_id], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("seed", [1, 2])
async def test_both_rank_alike(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    versions = some_versions(rng)
    retired = [
        Retirement(version_id=version[0].version_id, revision_from=number, revision_to=number + 3)
        for number, version in enumerate(versions)
        if rng.random() < 0.3
    ]
    deleted = [version[0].version_id for version in versions if rng.random() < 0.1]
    with QdrantServer() as server:
        async with edge_index(tmp_path / "edge") as edge, qdrant_index(server.url) as qdrant:
            for index in (edge, qdrant):
                await index.upsert([point for version in versions for point in version])
                await index.retire(retired)
                await index.delete_versions(deleted)
            assert await edge.version_ids() == await qdrant.version_ids()
            found = 0
            for _ in range(25):
                where = IndexFilter(
                    namespace=rng.choice(["mine", "theirs"]),
                    revision=rng.choice([None, rng.randint(0, 40)]),
                    source_types=rng.choice([(), ("inline",)]),
                )
                if rng.random() < 0.3:
                    where = replace(where, metadata={"number": (rng.randint(0, 2),)})
                query, vector = " ".join(rng.sample(WORDS, rng.randint(1, 4))), unit_vector(rng)
                by_words = await edge.search_words(query, where, limit=500)
                alike(by_words, await qdrant.search_words(query, where, limit=500))
                by_meaning = await edge.search_dense(vector, where, limit=500)
                alike(by_meaning, await qdrant.search_dense(vector, where, limit=500))
                found += len(by_words) + len(by_meaning)
            assert found > 200
