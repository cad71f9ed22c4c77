"""The server profile with 1, 2 and 4 worker processes: how fast a backlog goes, and whose CPU it takes.

What is to be done is accepted first, over HTTP and with no worker running; then the workers start. The speed is taken from the
record's own times, between the tenth and the ninetieth part of the backlog, so that starting and running out do not count.
BENCH_QDRANT_URL names a real Qdrant; without it the tests' double serves, whose engine is in Python and takes CPU that a real one
would not: the note says so.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import psutil

from benchmarks.context import Context
from benchmarks.figures import Figure
from benchmarks.memory import BenchmarkError
from benchmarks.texts import Texts, write_word_files
from tests.e2e.servers import Site, Stores, new_site, running_stores
from tests.services.redis_server import running_redis

_WORKERS = (1, 2, 4)
_CALLERS = 16
_LONGEST_SECONDS = 300.0
_SPEED = """
SELECT count(*) * 0.8 / greatest(extract(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY finished_at)
    - percentile_disc(0.1) WITHIN GROUP (ORDER BY finished_at)), 0.001) FROM ingestions WHERE state = 'ready'
"""
_LEFT = "SELECT count(*) FROM outbox"


def run(context: Context) -> Iterator[Figure]:
    """Notes, which go in groups, and Word documents, each in a workflow of its own."""
    texts = Texts(seed=11)
    notes = [{"text": texts.note()} for _ in range(context.size(4000, 40))]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="apex-bench-"))).resolve()
        files = write_word_files(folder / "words", context.size(400, 8), seed=12)
        redis = stack.enter_context(running_redis(folder))
        stores = stack.enter_context(running_stores(redis, REDIS_URL=redis.url))
        real = os.environ.get("BENCH_QDRANT_URL")
        if real:
            stores = replace(stores, qdrant_url=real)
        for what, work in (("notes", notes), ("Word documents", [{"source": str(file)} for file in files])):
            for workers in _WORKERS[: context.size(len(_WORKERS), 2)]:
                yield _measure(stores, what, work, workers, roots=folder, double=not real)


def _measure(
    stores: Stores, what: str, work: Sequence[dict[str, str]], workers: int, *, roots: Path, double: bool
) -> Figure:
    with new_site(stores) as site, ExitStack() as stack:
        server = stack.enter_context(site.ready(site.process("apex-mcp", "serve", APEX_ROOTS=str(roots))))
        asyncio.run(_accept(site, work))
        running = [site.process("apex-worker") for _ in range(workers)]
        for worker in running:
            stack.enter_context(worker.says(" works, record "))
        watched = {"serve": server.pid} | {f"worker {n}": one.pid for n, one in enumerate(running, start=1)}
        watched |= {name: pid for name, pid in (("PostgreSQL", stores.postgres.pid),) if pid is not None}
        before, began = _cpu(watched), time.perf_counter()
        while site.number(_LEFT):
            if time.perf_counter() - began > _LONGEST_SECONDS:
                raise BenchmarkError(f"{what} are not done after {_LONGEST_SECONDS:g} s")
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        after = _cpu(watched)
        ready = site.number("SELECT count(*) FROM ingestions WHERE state = 'ready'")
        if ready != len(work):
            raise BenchmarkError(f"{ready} of {len(work)} are ready")
        used = {name: round((after[name] - before[name]) / seconds * 100, 1) for name in watched}
        shown = ", ".join(f"{name} {percent:g}" for name, percent in used.items())
        return Figure(
            name=f"{what} through {workers} worker process{'es' if workers > 1 else ''}, a backlog of {len(work)}",
            value=float(site.rows(_SPEED)[0][0]),
            unit="1/s",
            better="more",
            note=f"CPU in % of a core: {shown}" + ("; Qdrant is the double of the tests" if double else ""),
            details={"seconds": seconds, "cpu_percent": used},
        )


async def _accept(site: Site, work: Sequence[dict[str, str]]) -> None:
    """Have everything accepted, a call each."""
    waiting = iter(work)
    tool = "ingest_document" if "source" in work[0] else "add_memory"
    headers = {
        "Authorization": f"Bearer {site.token}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http, asyncio.TaskGroup() as tasks:

        async def caller() -> None:
            for given in waiting:
                arguments: dict[str, Any] = {**given, "wait_seconds": 0}
                call = {"name": tool, "arguments": arguments}
                request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
                answer = await http.post(f"{site.url}/mcp", json=request)
                if answer.status_code != 200 or '"isError":true' in answer.text:
                    raise BenchmarkError(f"a call was refused: {answer.status_code} {answer.text[:200]}")

        for _ in range(_CALLERS):
            tasks.create_task(caller())


def _cpu(processes: dict[str, int]) -> dict[str, float]:
    """CPU seconds of each, with all that it runs."""
    used: dict[str, float] = {}
    for name, pid in processes.items():
        used[name] = 0.0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    used[name] += times.user + times.system
    return used
