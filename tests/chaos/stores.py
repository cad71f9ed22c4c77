"""The last look: every store read directly, and asked about by the product's own commands, when nothing is under way."""

import json
import time
from typing import LiteralString
from uuid import UUID

import anyio

from tests.chaos.model import Model
from tests.chaos.system import System

# Each counts what must not be there. Whoever forgets a document takes its ingestions away and hides its versions at once.
NEVER: dict[str, LiteralString] = {
    "ingestions that never ended": "SELECT count(*) FROM ingestions WHERE state IN ('pending', 'running')",
    "entries of the outbox": "SELECT count(*) FROM outbox",
    "purges that never ran": "SELECT count(*) FROM purges WHERE passes = 0",
    "failures without a reason": "SELECT count(*) FROM ingestions WHERE state = 'rolled_back' AND failure IS NULL",
    "versions that were never published": "SELECT count(*) FROM versions WHERE revision_from IS NULL",
    "versions of an ingestion that is not ready": """
        SELECT count(*) FROM versions v JOIN ingestions i ON i.id = v.ingestion_id WHERE i.state <> 'ready'""",
    "ingestions that are ready without a version": """
        SELECT count(*) FROM ingestions i WHERE i.state = 'ready' AND NOT EXISTS (
            SELECT FROM versions v WHERE v.ingestion_id = i.id)""",
    "versions without all their passages": """
        SELECT count(*) FROM versions v
        WHERE v.chunk_count <> (SELECT count(*) FROM chunks c WHERE c.version_id = v.id)""",
    "versions without their text": """
        SELECT count(*) FROM versions v WHERE NOT EXISTS (SELECT FROM version_texts t WHERE t.version_id = v.id)""",
    "versions that were purged": "SELECT count(*) FROM versions v JOIN purges p ON p.version_id = v.id",
    "entities without a source": """
        SELECT count(*) FROM entities e WHERE NOT EXISTS (SELECT FROM entity_sources s WHERE s.entity_id = e.id)""",
    "facts without a source": """
        SELECT count(*) FROM facts f WHERE NOT EXISTS (SELECT FROM fact_sources s WHERE s.fact_id = f.id)""",
    "gaps between versions": """
        SELECT count(*) FROM versions v
        WHERE v.revision_to IS NOT NULL AND v.tombstoned_at IS NULL AND NOT EXISTS (
            SELECT FROM versions n WHERE n.document_id = v.document_id AND n.revision_from = v.revision_to)""",
    "changes that the graph was never told": "SELECT count(*) FROM graph_changes",
}
_CURRENT: LiteralString = """
SELECT d.namespace, d.key, t.text FROM versions v JOIN documents d ON d.id = v.document_id
JOIN version_texts t ON t.version_id = v.id
WHERE v.revision_from IS NOT NULL AND v.revision_to IS NULL AND v.tombstoned_at IS NULL AND d.key LIKE 'log/%'
"""
_SIZES: LiteralString = "SELECT id, chunk_count FROM versions"
_OVER: LiteralString = """
SELECT id FROM ingestions WHERE state NOT IN ('pending', 'running', 'rolled_back', 'cancelled')
  AND finished_at < clock_timestamp() - interval '2 minutes'
"""
_SAID_CHARS = 2000


async def check_stores(system: System, model: Model, *, seconds: float) -> list[str]:
    """What is wrong. The embedded index is read while nothing runs; the command after it starts the daemon again.

    Commands come last: the daemon mends what it finds, and maintenance removes what must not be there.

    Args:
        system: whose stores.
        model: what must be in them.
        seconds: what is owed (purges, the graph) may take so long.
    """
    deadline = time.monotonic() + seconds
    while wrong := await anyio.to_thread.run_sync(lambda: _record(system, model)):
        if time.monotonic() > deadline:
            break
        await anyio.sleep(0.5)
    return [
        *wrong,
        *await anyio.to_thread.run_sync(lambda: system.other_stores(model)),
        *await _index(system),
        *await anyio.to_thread.run_sync(lambda: _verified(system)),
        *await anyio.to_thread.run_sync(lambda: _maintained(system)),
        *await anyio.to_thread.run_sync(lambda: _staged(system)),
    ]


def _verified(system: System) -> list[str]:
    status, said = system.run("verify", "--json")
    return [f"verify ended with status {status}: {said[-_SAID_CHARS:]}"] if status else []


def _maintained(system: System) -> list[str]:
    status, said = system.run("maintain", "--json")
    if status:
        return [f"maintain ended with status {status}: {said[-_SAID_CHARS:]}"]
    done = json.loads(said[said.index("{") :])
    return [f"maintain found {done[what]} {what}" for what in ("orphans", "stuck") if done[what]]


def _staged(system: System) -> list[str]:
    """What nobody comes for any more; the last step of what is just over may still be under way."""
    over = {str(row[0]) for row in system.rows(_OVER)}
    left = over & {path.name for path in system.staging.iterdir()}
    return [f"staging: {len(left)} contents of ingestions that are over"] if left else []


def _record(system: System, model: Model) -> list[str]:
    wrong = [
        f"record: {count} {what}" for what, query in NEVER.items() if (count := system.rows(query)[0][0])
    ]
    current: dict[tuple[str, str], list[str]] = {}
    for namespace, key, text in system.rows(_CURRENT):
        current.setdefault((namespace, key), []).append(text)
    for document in model.documents.values():
        texts = current.get((document.namespace, document.key), [])
        versions = [sorted(document.versions_in(text)) for text in texts]
        expected = document.expected()
        if versions != ([[expected]] if expected is not None else []):
            wrong.append(
                f"record: document {document.number} is current as {versions}, and is to be {expected}"
            )
    return wrong


async def _index(system: System) -> list[str]:
    sizes: dict[UUID, int] = dict(await anyio.to_thread.run_sync(lambda: system.rows(_SIZES)))
    points = await system.points()
    orphans = [one for one, count in points.items() if count and one not in sizes]
    incomplete = [one for one, size in sizes.items() if points.get(one, 0) != size]
    return [
        *([f"index: {len(orphans)} versions have points and are not in the record"] if orphans else []),
        *([f"index: {len(incomplete)} versions lack points or have too many"] if incomplete else []),
    ]
