"""The data folder's `config.toml`, read so that what is wrong with it can be said."""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic_settings import TomlConfigSettingsSource

from apex_mcp.errors import Code, Rejected

CONFIG_FILE = "config.toml"

_LINE = re.compile(r"\(at line (\d+), column \d+\)$")
_SHOWN_CHARS = 40


class ConfigFileSource(TomlConfigSettingsSource):
    """The settings that `config.toml` gives."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return read_config(Path(file_path))


def read_config(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is none. A byte order mark, as Windows editors write it, is passed over.

    Raises:
        Rejected: it cannot be read, or is not TOML (`settings_invalid`); the message names the line, never what is in it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _invalid(f"{CONFIG_FILE} in the data folder cannot be read ({type(error).__name__})") from error
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _invalid(f"{CONFIG_FILE} in the data folder is not UTF-8 text, see line {line}") from None
    except tomllib.TOMLDecodeError as error:
        # Without the cause: it may quote a value.
        found = _LINE.search(str(error))
        where = f"line {found[1]}" if found else "its last line"
        raise _invalid(f"{CONFIG_FILE} in the data folder is not valid TOML, see {where}") from None


def unknown_names(home: Path, known: frozenset[str]) -> list[str]:
    """The names in the data folder's file that no setting has, short enough to be shown.

    Raises:
        Rejected: as `read_config`.
    """
    return sorted(name[:_SHOWN_CHARS] for name in read_config(home / CONFIG_FILE) if name not in known)


def unknown_notice(names: list[str]) -> str:
    """What the user should know about names that no setting has."""
    return (
        f"{CONFIG_FILE} in the data folder names what is no setting, and it is not used: {', '.join(names)}; "
        "names there are without APEX_, in small letters (docs/configuration.md lists them)"
    )


def _invalid(message: str) -> Rejected:
    return Rejected(
        message,
        code=Code.SETTINGS_INVALID,
        next_step='correct the file; docs/configuration.md shows how a setting is written there, mostly as name = "value"',
    )
