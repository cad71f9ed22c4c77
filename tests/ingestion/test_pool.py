import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import psutil
import pytest

from apex_mcp.errors import Code, InputError, Invariant, Unavailable
from apex_mcp.ingestion.pool import ChildPool

pytestmark = pytest.mark.anyio

HERE = "tests.ingestion.pool_functions:"


@pytest.fixture
async def pool() -> AsyncIterator[ChildPool]:
    pool = ChildPool(size=2, memory_mb=200, name="test")
    yield pool
    await pool.close()


async def run(pool: ChildPool, name: str, *args: object, limit: float = 30, priority: int = 0) -> object:
    return await pool.run(HERE + name, *args, timeout_seconds=limit, priority=priority)


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_call_returns_what_the_function_returns(pool: ChildPool) -> None:
    assert await asyncio.gather(*(run(pool, "double", n) for n in range(20))) == [2 * n for n in range(20)]


async def test_one_child_serves_calls_that_come_one_after_another(pool: ChildPool) -> None:
    assert len({await run(pool, "process_id") for _ in range(5)}) == 1


@pytest.mark.parametrize("name", ["abort", "leave"])
async def test_a_call_that_kills_its_child_fails_alone(pool: ChildPool, name: str) -> None:
    results = await asyncio.gather(
        *(run(pool, "double", n) for n in range(4)),
        run(pool, name),
        *(run(pool, "double", n) for n in range(4)),
        return_exceptions=True,
    )
    crash = results.pop(4)
    assert isinstance(crash, InputError)
    assert crash.code is Code.PARSER_CRASHED
    assert results == [0, 2, 4, 6] * 2
    assert await run(pool, "double", 21) == 42


async def test_a_child_that_died_while_it_was_idle_is_no_calls_fault(pool: ChildPool) -> None:
    for _ in range(3):
        child = psutil.Process(cast("int", await run(pool, "process_id")))
        child.kill()
        await eventually(lambda child=child: gone(child.pid))
        assert await run(pool, "double", 21) == 42


async def test_a_call_whose_child_is_killed_from_outside_is_tried_once_more(
    pool: ChildPool, tmp_path: Path
) -> None:
    assert await run(pool, "be_killed_once", str(tmp_path / "sign")) == "done"


async def test_a_call_that_kills_its_child_twice_is_not_tried_again(pool: ChildPool, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        await run(pool, "count_and_abort", str(tmp_path))
    assert caught.value.code is Code.PARSER_CRASHED
    assert len(os.listdir(tmp_path)) == 2


async def test_a_call_over_its_time_fails_alone(pool: ChildPool, tmp_path: Path) -> None:
    hanging = asyncio.create_task(run(pool, "hang", str(tmp_path / "pid"), limit=0.5))
    assert await run(pool, "double", 1) == 2
    with pytest.raises(InputError) as caught:
        await hanging
    assert caught.value.code is Code.PARSER_TIMEOUT
    assert await run(pool, "double", 21) == 42


async def test_a_call_over_its_memory_fails_alone(pool: ChildPool) -> None:
    swelling = asyncio.create_task(run(pool, "swell", 100_000))
    assert await run(pool, "double", 1) == 2
    with pytest.raises(InputError) as caught:
        await swelling
    assert caught.value.code is Code.PARSER_MEMORY
    assert await run(pool, "double", 21) == 42


async def test_an_allocation_that_the_system_refuses_is_a_memory_error(pool: ChildPool) -> None:
    with pytest.raises(InputError) as caught:
        await run(pool, "ask_for_the_impossible")
    assert caught.value.code is Code.PARSER_MEMORY


async def test_a_child_that_grew_large_is_replaced(pool: ChildPool) -> None:
    before = await run(pool, "process_id")
    assert await run(pool, "swell", 20) == 20
    assert await run(pool, "process_id") == before
    await pool.run("builtins:exec", "import sys; sys.held = b'x' * 120_000_000", timeout_seconds=30)
    assert await run(pool, "process_id") != before


async def test_errors_of_ours_come_back_whole(pool: ChildPool) -> None:
    with pytest.raises(InputError, match="three pages are scanned") as caught:
        await run(pool, "raise_apex_error")
    assert (caught.value.code, caught.value.details) == (Code.NO_TEXT, {"pages": 3})


@pytest.mark.parametrize(
    ("name", "named"), [("raise_with_content", "KeyError"), ("no_such_function", "AttributeError")]
)
async def test_other_errors_come_back_as_their_name_only(pool: ChildPool, name: str, named: str) -> None:
    with pytest.raises(Invariant) as caught:
        await run(pool, name)
    assert named in caught.value.message
    assert "secret" not in str(caught.value)


async def test_a_result_that_does_not_pickle_fails_alone(pool: ChildPool) -> None:
    with pytest.raises(Invariant):
        await run(pool, "make_lambda")
    assert await run(pool, "double", 21) == 42


async def test_what_a_child_prints_or_reads_does_not_disturb_the_conversation(
    pool: ChildPool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run(pool, "print_to_stdout") == "done"
    assert capfd.readouterr().out == ""


async def test_urgent_calls_overtake_those_that_wait(tmp_path: Path) -> None:
    pool = ChildPool(size=1, memory_mb=200, name="test")
    first = asyncio.create_task(run(pool, "hold", str(tmp_path / "started"), str(tmp_path / "go")))
    await eventually((tmp_path / "started").exists)
    late = [asyncio.create_task(run(pool, "note_order", str(tmp_path), "b", priority=5)) for _ in range(3)]
    soon = [asyncio.create_task(run(pool, "note_order", str(tmp_path), "a", priority=1)) for _ in range(3)]
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    await asyncio.gather(first, *late, *soon)
    assert (tmp_path / "order").read_text(encoding="utf-8") == "aaabbb"
    await pool.close()


async def test_cancelling_a_call_ends_it_in_the_child_too(pool: ChildPool, tmp_path: Path) -> None:
    hanging = asyncio.create_task(run(pool, "hang", str(tmp_path / "pid")))
    await eventually(
        lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text(encoding="utf-8"))
    )
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    await eventually(lambda: gone(pid))
    assert await run(pool, "double", 21) == 42


async def test_a_call_cancelled_before_its_turn_never_runs(tmp_path: Path) -> None:
    pool = ChildPool(size=1, memory_mb=200, name="test")
    first = asyncio.create_task(run(pool, "hold", str(tmp_path / "started"), str(tmp_path / "go")))
    await eventually((tmp_path / "started").exists)
    waiting = asyncio.create_task(run(pool, "note_order", str(tmp_path), "x"))
    await asyncio.sleep(0)
    waiting.cancel()
    (tmp_path / "go").touch()
    await first
    assert await run(pool, "double", 1) == 2
    assert not (tmp_path / "order").exists()
    await pool.close()


async def test_an_idle_child_ends_and_the_next_call_starts_another() -> None:
    pool = ChildPool(size=1, memory_mb=200, name="test", idle_seconds=0.2)
    pid = await run(pool, "process_id")
    assert isinstance(pid, int)
    await eventually(lambda: gone(pid))
    assert await run(pool, "process_id") != pid
    await pool.close()


async def test_closing_ends_children_and_fails_what_runs_or_waits(tmp_path: Path) -> None:
    pool = ChildPool(size=1, memory_mb=200, name="test")
    calls = [asyncio.create_task(run(pool, "hang", str(tmp_path / "pid"))) for _ in range(3)]
    await eventually(
        lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text(encoding="utf-8"))
    )
    await pool.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert gone(int((tmp_path / "pid").read_text(encoding="utf-8")))
    with pytest.raises(Unavailable):
        await run(pool, "double", 1)


async def test_a_child_starts_without_the_heavy_modules(pool: ChildPool) -> None:
    loaded = await run(pool, "loaded_modules")
    heavy = {"mcp", "temporalio", "psycopg", "pydantic", "kreuzberg", "psutil", "asyncio"}
    assert not heavy & set(cast("list[str]", loaded))


@pytest.mark.skipif(sys.platform == "win32", reason="the priority class is given by the parent there")
async def test_children_give_way_to_the_daemon(pool: ChildPool) -> None:
    niceness = await run(pool, "niceness")
    assert isinstance(niceness, int)
    assert niceness > os.nice(0)


async def test_a_process_that_forgets_its_pool_ends_all_the_same(tmp_path: Path) -> None:
    script = f"""
        import asyncio, pathlib
        from apex_mcp.ingestion.pool import ChildPool
        async def main():
            pool = ChildPool(size=1, memory_mb=200, name="test")
            run = pool.run("{HERE}hang", {str(tmp_path / "pid")!r}, timeout_seconds=600)
            main.task = asyncio.create_task(run)
            while not pathlib.Path({str(tmp_path / "pid")!r}).exists():
                await asyncio.sleep(0.01)
            raise SystemExit(7)
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(script), cwd=Path(__file__).parents[2]
    )
    assert await asyncio.wait_for(process.wait(), 30) == 7


async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = f"""
        import asyncio
        from apex_mcp.ingestion.pool import ChildPool
        pool = ChildPool(size=1, memory_mb=200, name="test")
        asyncio.run(pool.run("{HERE}hang", {str(tmp_path / "pid")!r}, timeout_seconds=600))
    """
    parent = subprocess.Popen(  # noqa: ASYNC220  (it returns at once)
        [sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[2]
    )
    try:
        await eventually(
            lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text(encoding="utf-8"))
        )
    finally:
        parent.kill()
        parent.wait()
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    await eventually(lambda: gone(pid))
