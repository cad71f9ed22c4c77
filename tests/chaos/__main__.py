"""`python -m tests.chaos`: kills, pauses and starves a memory under load; exit status 0 only if it kept its promises."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.chaos.breaking import BROKEN, broken
from tests.chaos.embedded import EmbeddedSystem, embedded_system
from tests.chaos.plan import make_plan
from tests.chaos.report import printed, write_report
from tests.chaos.run import run_chaos
from tests.chaos.servers import ServersSystem, servers_system
from tests.chaos.system import System

_RESULTS = Path(__file__).parents[2] / ".cache" / "chaos"
_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_SETTLE_SECONDS = 180.0

Open = Callable[..., AbstractContextManager[System]]
PROFILES: dict[str, tuple[type[System], Open]] = {
    "embedded": (EmbeddedSystem, embedded_system),
    "servers": (ServersSystem, servers_system),
}


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="operations of the client stream")
    parser.add_argument("--kills", type=int, default=15, help="processes that are killed one by one")
    parser.add_argument("--seed", type=int, default=1, help="of everything random")
    parser.add_argument("--profile", choices=PROFILES, default="embedded")
    parser.add_argument("--keep", action="store_true", help="write picture and report into docs/")
    parser.add_argument("--broken", choices=BROKEN, help="break the build so; the run must find it out")
    given = parser.parse_args()
    system_class, open_system = PROFILES[given.profile]
    plan = make_plan(
        seed=given.seed, n=given.n, kills=given.kills, profile=given.profile, targets=system_class.targets
    )

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    with open_system(**broken(given.broken)) as system:
        outcome = asyncio.run(run_chaos(plan, system, settle_seconds=_SETTLE_SECONDS, say=say))
    sys.stderr.write(printed(outcome))
    _RESULTS.mkdir(parents=True, exist_ok=True)
    write_report(outcome, _RESULTS)
    if given.keep:
        write_report(outcome, _IMAGES)
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
