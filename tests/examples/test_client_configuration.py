import json
from pathlib import Path

from apex_mcp.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_example_configuration_names_only_settings_that_exist() -> None:
    config = json.loads((REPOSITORY / "claude_desktop_config.example.json").read_text(encoding="utf-8"))
    server = config["mcpServers"]["apex-mcp"]

    assert (server["command"], server["args"]) == ("uvx", ["apex-mcp"])
    assert set(server["env"]) <= {f"APEX_{name.upper()}" for name in Settings.model_fields}
