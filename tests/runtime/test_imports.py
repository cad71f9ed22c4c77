import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apex_mcp.runtime.imports import load


def test_two_threads_that_enter_a_package_by_different_modules_both_get_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "entered_twice"
    package.mkdir()
    # The pause is for the other thread to come in by its own module, were it let in.
    outer = "import time\ntime.sleep(0.2)\nfrom entered_twice.inner import VALUE\n"
    (package / "__init__.py").write_text(outer, "utf-8")
    (package / "inner.py").write_text("import entered_twice\nVALUE = 1\n", "utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with ThreadPoolExecutor() as threads:
        loaded = list(threads.map(load, ["entered_twice", "entered_twice.inner"]))
    assert [module.VALUE for module in loaded] == [1, 1]
