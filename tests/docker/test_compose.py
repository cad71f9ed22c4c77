"""compose.yaml: valid, closed, and of nothing that does not exist. No container engine is needed."""

import re
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from apex_mcp.settings import Settings
from tests.docker.files import (
    COMPOSE,
    DOCKER,
    REPOSITORY,
    compose,
    environment_of,
    example,
    run,
    services,
    variables,
)

OURS = {"server", "worker", "s3-bucket"}
ONE_SHOT = {"temporal-schema", "temporal-namespace", "s3-bucket"}
# What their images need, and why they can't do without, stands in compose.yaml.
WRITABLE = {"neo4j", "temporal-ui"}
each = pytest.mark.parametrize("name", sorted(services()))


def test_it_fits_the_schema_of_the_compose_specification() -> None:
    done = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert done.returncode == 0, done.stdout


def test_the_services_are_those_of_the_server_profile() -> None:
    assert set(services()) == OURS | ONE_SHOT | {
        "postgres",
        "qdrant",
        "neo4j",
        "redis",
        "temporal",
        "temporal-ui",
        "s3",
    }
    assert str(services()["worker"]["deploy"]["replicas"]) == "${WORKERS:-2}"


@each
def test_images_are_pinned_to_a_whole_version(name: str) -> None:
    tag = services()[name]["image"].rpartition(":")[2]
    # PostgreSQL counts in two parts.
    assert re.match(r"v?\d+\.\d+\.\d+\b|18\.\d+\b", tag), tag


def test_our_image_carries_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.M)
    assert version
    assert {services()[name]["image"] for name in OURS} == {f"apex-mcp:{version[1]}"}


@each
def test_ports_are_published_on_loopback_only_and_those_of_stores_not_at_all(name: str) -> None:
    ports = cast("list[str]", services()[name].get("ports", []))
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert bool(ports) == (name in {"server", "temporal-ui"})


@each
def test_stores_have_no_way_out(name: str) -> None:
    networks = set(services()[name]["networks"])
    outside = {"stores", "outside"}
    assert networks == (outside if name in {"server", "worker", "temporal-ui"} else {"stores"})
    assert compose()["networks"]["stores"] == {"internal": True}


@each
def test_containers_can_gain_no_rights_and_write_only_where_they_must(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) != (name in WRITABLE)


@each
def test_services_that_stay_are_started_again_and_those_that_end_are_not(name: str) -> None:
    assert services()[name]["restart"] == ("on-failure:5" if name in ONE_SHOT else "unless-stopped")


@each
def test_services_that_others_wait_for_have_a_health_check(name: str) -> None:
    conditions = {
        condition["condition"]
        for service in services().values()
        for waited_for, condition in cast("dict[str, Any]", service.get("depends_on", {})).items()
        if waited_for == name
    }
    assert ("service_completed_successfully" in conditions) == (name in ONE_SHOT)
    if "service_healthy" in conditions:
        assert services()[name]["healthcheck"]["test"]


def test_every_dependency_is_a_service() -> None:
    for service in services().values():
        assert service.get("depends_on", {}).keys() <= services().keys()


def test_what_is_started_by_a_profile_only_is_no_requirement_of_the_rest() -> None:
    needs = cast("dict[str, Any]", services()["server"]["depends_on"])
    assert needs["s3-bucket"]["required"] is False
    assert [name for name, service in services().items() if service.get("profiles")] == ["s3", "s3-bucket"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_that_is_given_exists(name: str) -> None:
    known = {f"APEX_{field.upper()}" for field in Settings.model_fields}
    given = cast("dict[str, Any]", services()[name]["environment"])
    assert {key for key in given if key.startswith("APEX_")} <= known


def test_whatever_says_what_the_memory_does_reaches_the_containers() -> None:
    what = ("llm", "openai", "embedder", "ontology", "max", "parse", "staging_ttl", "keep", "erase")
    fields = [field for field in Settings.model_fields if field.startswith(what)]
    given = environment_of("worker", example())
    assert {f"APEX_{field.upper()}" for field in fields} <= given.keys()
    # And where `.env` says nothing else, it is what holds without containers.
    read = Settings.model_validate({
        field: given[f"APEX_{field.upper()}"] for field in fields if given[f"APEX_{field.upper()}"]
    })
    assert {field: getattr(read, field) for field in fields} == {
        field: Settings.model_fields[field].default for field in fields
    }


def test_server_and_workers_get_the_same_settings_but_for_those_of_clients_and_of_the_machine() -> None:
    server, worker = (services()[name]["environment"] for name in ("server", "worker"))
    assert server.keys() - worker.keys() == {"APEX_HTTP_TOKEN", "APEX_HTTP_ALLOWED_HOSTS"}
    assert worker.keys() - server.keys() == {"APEX_CHILDREN"}
    assert all(server[key] == worker[key] for key in server.keys() & worker.keys())


def test_the_example_of_env_has_every_variable_and_nothing_else() -> None:
    assert example().keys() == variables().keys()


def test_what_the_example_says_is_what_holds_without_it() -> None:
    for name, ways in variables().items():
        assert len(ways) == 1, name
        [(kind, rest)] = ways
        if kind == "?":
            # Every secret, and no other variable, must be set.
            assert example()[name] == "generate"
            assert rest
        else:
            assert (kind, rest) == ("-", example()[name])


@each
def test_no_password_stands_in_the_file(name: str) -> None:
    given = cast("dict[str, Any]", services()[name].get("environment", {}))
    secret = re.compile(r"PASSWORD|PWD|AUTH$|_KEY$|TOKEN$|SECRET|DATABASE_URL|REDIS_URL")
    for key in filter(secret.search, given):
        assert re.search(r"\$\{\w+:[?-]", given[key]), key
        # What may be left out has no default either.
        assert not re.search(r"\$\{\w+:-[^}]", given[key]), key


@each
def test_files_that_are_mounted_exist_and_volumes_are_declared(name: str) -> None:
    volumes = cast("list[str]", services()[name].get("volumes", []))
    for source, _, rest in (volume.partition(":") for volume in volumes):
        if source.startswith("."):
            assert (DOCKER / source).exists(), source
            assert rest.endswith(":ro"), source
        else:
            assert source in compose()["volumes"], source


def test_every_declared_volume_is_used() -> None:
    used = {volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])}
    assert set(compose()["volumes"]) <= used


def test_scripts_that_containers_run_exist() -> None:
    for name in ("temporal-schema", "temporal-namespace"):
        shell, script = services()[name]["entrypoint"]
        assert shell == "/bin/sh"
        assert (DOCKER / "temporal" / Path(script).name).is_file()
    dynamic = services()["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    assert (DOCKER / "temporal" / Path(dynamic).name).is_file()
