"""Who a client is, by its hello: its rights, and what its user should be told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from apex_mcp.caller import Caller
from apex_mcp.config_file import unknown_names, unknown_notice
from apex_mcp.ingestion.sources.roots import usable_root
from apex_mcp.settings import PER_CLIENT, Settings, load_settings


class _ClientSettings(Settings):
    """Settings as that client would have them: its environment and config.toml, not our environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return tuple(
            source
            for source in super().settings_customise_sources(
                settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
            )
            if isinstance(source, TomlConfigSettingsSource) or source is init_settings
        )


@dataclass(frozen=True, slots=True)
class Client:
    """Attributes: caller: its rights. notices: what its user should be told."""

    caller: Caller
    notices: list[str]


def identify(hello: dict[str, Any], settings: Settings) -> Client:
    """Read a hello.

    Args:
        hello: with `env`, `cwd` and `vouched`.
        settings: the daemon's own.

    Raises:
        Rejected: the client's settings are not valid (`settings_invalid`).
    """
    environment = {str(name): str(value) for name, value in dict(hello.get("env", {})).items() if value}
    folder = Path(str(hello.get("cwd") or settings.home))
    if "APEX_ROOTS" in environment:
        environment["APEX_ROOTS"] = _absolute(environment["APEX_ROOTS"], folder)
    wanted = load_client_settings(environment, settings.home)
    roots = tuple(dict.fromkeys(root for root in wanted.roots if usable_root(root)))
    notices = [_refused(root) for root in wanted.roots if not usable_root(root)]
    differing = sorted(
        name
        for name in Settings.model_fields
        if name not in PER_CLIENT and getattr(wanted, name) != getattr(settings, name)
    )
    if differing:
        notices.append(_differing(differing))
    if unknown := unknown_names(settings.home, frozenset(Settings.model_fields)):
        notices.append(unknown_notice(unknown))
    vouched = hello.get("vouched") is True
    base = folder if vouched or any(folder.is_relative_to(root) for root in roots) else None
    return Client(Caller(roots=roots, namespace=wanted.namespace, base=base, vouched=vouched), notices)


def load_client_settings(environment: dict[str, str], home: Path) -> Settings:
    """The settings that `environment` and the data folder's config.toml make together.

    Raises:
        Rejected: a value is not valid (`settings_invalid`).
    """
    given = {name.removeprefix("APEX_").lower(): value for name, value in environment.items()}
    return load_settings(_ClientSettings, **(given | {"home": home}))


def _absolute(roots: str, folder: Path) -> str:
    """The client's relative roots start from its own folder, not from the daemon's."""
    parts = (Path(part).expanduser() for part in roots.split(os.pathsep) if part)
    return os.pathsep.join(str(folder / part) for part in parts)


def _refused(root: Path) -> str:
    return (
        f"{root} in APEX_ROOTS is a whole drive or a system folder, so no file is read from it; "
        "name a folder within it"
    )


def _differing(names: list[str]) -> str:
    variables = ", ".join(f"APEX_{name.upper()}" for name in names)
    differ, are, them = ("differs", "is", "it") if len(names) == 1 else ("differ", "are", "them")
    return (
        f"this client's {variables} {differ} from what the running daemon uses for all, and {are} not used. "
        f"To use {them} run `apex-mcp stop`: the next client starts the daemon with its own settings. "
        f"To have the same everywhere write {them} into config.toml in the data folder instead"
    )
