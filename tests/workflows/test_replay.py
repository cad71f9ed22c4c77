"""Recorded histories of each workflow replay: a change of a workflow that would break running ones fails here.

`pytest tests/workflows/test_workflows.py --record-histories` records them anew. That is right for new shapes only:
a history that users' servers may hold stays until no supported version writes it.
"""

from pathlib import Path

import anyio
import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from apex_worker.embedded import WORKFLOWS
from tests.workflows.conftest import HISTORIES, SANDBOX

pytestmark = pytest.mark.anyio

RECORDED = sorted(HISTORIES.glob("*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, await anyio.Path(path).read_text("utf-8"))
    await Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX).replay_workflow(history)


def test_every_workflow_has_a_recorded_history() -> None:
    recorded = {path.name.split(".")[0] for path in RECORDED}
    assert recorded == {_name(one) for one in WORKFLOWS}


def _name(defined: type) -> str:
    name = workflow._Definition.must_from_class(defined).name
    assert name is not None
    return name
