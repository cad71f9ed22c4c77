"""What stands in docker/: the compose file as data, the Dockerfile as instructions, the example of .env."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, cast

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
COMPOSE = DOCKER / "compose.yaml"
DOCKERFILE = DOCKER / "Dockerfile"
EXAMPLE = DOCKER / ".env.example"

Service = dict[str, Any]
# `${NAME}`, `${NAME:-default}`, `${NAME:?what to do}`; `$$` stands for a dollar sign.
_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def compose() -> dict[str, Any]:
    """The compose file with its anchors followed, and nothing filled in."""
    return cast("dict[str, Any]", yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))


def services() -> dict[str, Service]:
    return cast("dict[str, Service]", compose()["services"])


def variables() -> dict[str, set[tuple[str, str]]]:
    """Every variable of the compose file, with the ways in which it is asked for: (`-` or `?` or nothing, the rest)."""
    found: dict[str, set[tuple[str, str]]] = {}
    for match in _VARIABLE.finditer(COMPOSE.read_text(encoding="utf-8")):
        found.setdefault(match["name"], set()).add((match["kind"] or "", match["rest"] or ""))
    return found


def example() -> dict[str, str]:
    """What .env.example sets."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(value: str, environment: dict[str, str]) -> str:
    """A value of the compose file as Compose hands it to the container."""

    def one(match: re.Match[str]) -> str:
        given = environment.get(match["name"], "")
        if match["kind"] == "?":
            assert given, match["name"]
        return given or ((match["rest"] or "") if match["kind"] == "-" else "")

    return _VARIABLE.sub(one, value).replace("$$", "$")


def environment_of(name: str, environment: dict[str, str]) -> dict[str, str]:
    """What a service finds in its environment."""
    given = cast("dict[str, Any]", services()[name].get("environment", {}))
    return {key: filled(str(value), environment) for key, value in given.items()}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def image_environment() -> dict[str, str]:
    """The settings that the image carries."""
    [line] = [rest for word, rest in instructions() if word == "ENV" and "APEX_HOME" in rest]
    return dict(pair.split("=", 1) for pair in line.split() if pair.startswith("APEX_"))


def image_command() -> list[str]:
    """What the image runs when the compose file says nothing else."""
    [line] = [rest for word, rest in instructions() if word == "CMD"]
    return cast("list[str]", json.loads(line))


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """A finished program, whatever became of it."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, check=False, **more
    )
