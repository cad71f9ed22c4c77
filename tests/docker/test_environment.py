"""make-env.sh: secrets of one's own, once."""

import os
import re
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.docker.files import DOCKER, EXAMPLE, example, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for source in (EXAMPLE, DOCKER / "make-env.sh"):
        shutil.copy(source, tmp_path)
    return tmp_path


def _written(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_secret_is_made_and_everything_else_is_copied(folder: Path) -> None:
    done = run("sh", folder / "make-env.sh")
    assert done.returncode == 0, done.stderr
    written = _written(folder)
    secrets = [name for name, value in example().items() if value == "generate"]
    made = [written[name] for name in secrets]
    assert len(set(made)) == len(secrets) == 7
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in made)
    assert {name: written[name] for name in written if name not in secrets} == {
        name: value for name, value in example().items() if name not in secrets
    }


def test_no_secret_is_printed_and_no_other_user_can_read_them(folder: Path) -> None:
    os.chmod(folder, 0o755)
    done = run("sh", folder / "make-env.sh")
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert not re.search("[0-9a-f]{48}", done.stdout + done.stderr)
    assert not (folder / ".env.new").exists()


def test_a_second_run_keeps_the_secrets_that_the_stores_were_set_up_with(folder: Path) -> None:
    run("sh", folder / "make-env.sh")
    before = (folder / ".env").read_bytes()
    done = run("sh", folder / "make-env.sh")
    assert done.returncode != 0
    assert "there already" in done.stderr
    assert (folder / ".env").read_bytes() == before
