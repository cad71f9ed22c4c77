"""Writes versions to an index until it is killed: `python edge_writer.py FOLDER FIRST`. Says on stdout what is done."""

import asyncio
import random
import sys
from pathlib import Path
from uuid import UUID, uuid5

from apex_mcp.models import IndexPoint
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from tests.stores.index_points import retirement, unit_vector, version_of

RECORD = UUID(int=1)
DIMENSION = 16
CHUNKS = 30


def version(number: int) -> list[IndexPoint]:
    """The same points for the same number, in any process."""
    rng = random.Random(number)
    texts = [f"version{number} " + " ".join(rng.choices("abcdefgh", k=20)) for _ in range(CHUNKS)]
    return version_of(
        *texts,
        version_id=uuid5(RECORD, str(number)),
        document_id=RECORD,
        dense=[unit_vector(rng, DIMENSION) for _ in texts],
    )


async def apply(index: EdgeVectorIndex, number: int) -> None:
    """What the record would have done at this number: a version comes, one becomes past, one goes."""
    await index.upsert(version(number))
    if number % 3 == 0 and number > 3:
        await index.retire([retirement(version(number - 2), number - 2, number)])
    if number % 5 == 0:
        await index.delete_versions([version(number - 4)[0].version_id])


def expected(last: int) -> tuple[set[int], set[int]]:
    """Numbers of the current and of the past versions after `last`."""
    current: set[int] = set()
    past: set[int] = set()
    for number in range(1, last + 1):
        current.add(number)
        if number % 3 == 0 and number > 3 and number - 2 in current:
            current.remove(number - 2)
            past.add(number - 2)
        if number % 5 == 0:
            current.discard(number - 4)
            past.discard(number - 4)
    return current, past


async def main(folder: Path, first: int) -> None:
    index = await EdgeVectorIndex.open(folder, record_id=RECORD, embedder="test", dimension=DIMENSION)
    number = first
    while True:
        await apply(index, number)
        print("applied", number, flush=True)  # noqa: T201  (the test reads it)
        if number % 4 == 0:
            print("flushing", number, flush=True)  # noqa: T201
            await index.flush(str(number))
            print("flushed", number, flush=True)  # noqa: T201
        number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
