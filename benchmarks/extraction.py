"""Extraction by an LLM: what it costs beside the model's own time, at a double of an endpoint in a process of its own."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from apex_mcp.ingestion.enriching import Extractor, open_extractor
from apex_mcp.ingestion.enriching.grouping import group_passages
from apex_mcp.ingestion.enriching.protocol import Passage, PassageGroup
from apex_mcp.settings import load_settings
from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, spread
from benchmarks.memory import BenchmarkError
from benchmarks.texts import Texts

_REPOSITORY = Path(__file__).parents[1]
_FACTS_IN_A_PASSAGE = 3
_CONCURRENCY = 4


def run(context: Context) -> Iterator[Figure]:
    """Yield the figures."""
    started = time.perf_counter()
    extractor = _open("http://127.0.0.1:1/v1")
    opened = 1000 * (time.perf_counter() - started)
    asyncio.run(extractor.close())
    yield Figure(
        name="extraction: openai and graphiti-core loaded", value=opened, unit="ms", note="once a process"
    )
    for latency_seconds in (0.0, 1.0):
        with _model(latency_seconds) as base_url:
            times, cpu_seconds, whole = asyncio.run(
                _measure(base_url, alone=context.size(10, 2), at_once=context.size(5, 1) * _CONCURRENCY)
            )
        said = f"model takes {latency_seconds:g} s"
        beside = [1000 * (one - latency_seconds) for one in times]
        yield Figure(
            name=f"extraction: one group of passages beside the model's time, {said}, p50",
            value=percentile(beside, 50),
            unit="ms",
            note="about 2,000 tokens with 21 facts, the double's own work included",
            details=spread(beside),
        )
        yield Figure(
            name=f"extraction: one group of passages, processor time of ours, {said}",
            value=1000 * cpu_seconds,
            unit="ms",
        )
        rounds = whole.groups / _CONCURRENCY
        yield Figure(
            name=f"extraction: {whole.groups} groups, {_CONCURRENCY} at a time, beside the model's time, {said}",
            value=1000 * (whole.seconds - rounds * latency_seconds) / whole.groups,
            unit="ms a group",
            details={"seconds": whole.seconds, "model_seconds": rounds * latency_seconds},
        )


class _Whole:
    def __init__(self, groups: int, seconds: float) -> None:
        self.groups = groups
        self.seconds = seconds


async def _measure(base_url: str, *, alone: int, at_once: int) -> tuple[list[float], float, _Whole]:
    extractor = _open(base_url)
    try:
        groups = _groups(alone + at_once + 1)
        await extractor.extract(groups[0])
        times: list[float] = []
        busy = time.process_time()
        for group in groups[1 : alone + 1]:
            started = time.perf_counter()
            found, _ = await extractor.extract(group)
            times.append(time.perf_counter() - started)
            if not found.facts:
                raise BenchmarkError("the model found nothing")
        cpu_seconds = (time.process_time() - busy) / alone
        started = time.perf_counter()
        await asyncio.gather(*(extractor.extract(group) for group in groups[alone + 1 :]))
        return times, cpu_seconds, _Whole(at_once, time.perf_counter() - started)
    finally:
        await extractor.close()


def _open(base_url: str) -> Extractor:
    settings = load_settings(llm="openai", openai_base_url=base_url, llm_concurrency=_CONCURRENCY)
    extractor = open_extractor(settings)
    if extractor is None:
        raise BenchmarkError("no extractor")
    return extractor


def _groups(count: int) -> list[PassageGroup]:
    """Full groups of passages, each passage with a few facts among other words."""
    texts = Texts(seed=4)
    groups: list[PassageGroup] = []
    number = 0
    while len(groups) < count:
        passages: list[Passage] = []
        for ordinal in range(7):
            said: list[str] = []
            for _ in range(_FACTS_IN_A_PASSAGE):
                number += 1
                said.append(
                    f"Person {number} works at Company {number % 97} since 2024-0{number % 9 + 1}-01."
                )
                said.append(texts.paragraph(4))
            passages.append(Passage(ordinal=ordinal, text=" ".join(said)))
        groups += [PassageGroup(title="Generated", passages=group) for group in group_passages(passages)]
    return groups


@contextmanager
def _model(latency_seconds: float) -> Generator[str]:
    """The address of a double that takes so long for each answer."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.doubles.openai_server",
            "--port=0",
            f"--latency-seconds={latency_seconds}",
        ],
        cwd=_REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = process.stderr.readline().strip()
        if not address.startswith("http"):
            raise BenchmarkError("the double of a model did not start")
        yield address
    finally:
        process.kill()
        process.communicate()
