import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.runtime.sessions import REPOSITORY, control, daemons, eventually


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of the test's own; whatever runs on it is ended, and is asserted to be."""
    folder = tmp_path / "home"
    monkeypatch.setenv("APEX_HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    yield folder
    if (folder / "staging").is_dir():
        (folder / "staging" / "go").touch()
    with contextlib.suppress(Exception), control(folder, start=False) as client:
        client.stop()
    try:
        eventually(lambda: not daemons(folder))
    finally:
        for process in daemons(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
