"""What may import what: arrows go one way, and what must start in milliseconds loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"apex_mcp": REPOSITORY / "apex_mcp", "apex_worker": REPOSITORY / "worker" / "apex_worker"}

# From the bottom up. A module may import what stands in its own layer and in those below; the longest name counts.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("apex_mcp", "apex_mcp.errors", "apex_mcp.models", "apex_mcp.ids", "apex_mcp.times", "apex_mcp.batches", "apex_mcp.wording",
     "apex_mcp.settings", "apex_mcp.config_file", "apex_mcp.caller", "apex_mcp.views", "apex_mcp.paging",
     "apex_mcp.child_process", "apex_mcp.faults", "apex_mcp.left_overs", "apex_mcp.logs", "apex_mcp.signals",
     "apex_mcp.addresses"),
    ("apex_mcp.stores",),
    ("apex_mcp.ingestion", "apex_mcp.archiving", "apex_mcp.retrieval", "apex_mcp.presenting"),
    ("apex_mcp.memory", "apex_mcp.operations", "apex_mcp.stats"),
    ("apex_mcp.server", "apex_mcp.cli", "apex_mcp.runtime", "apex_mcp.app", "apex_mcp.entry", "apex_worker"),
)  # fmt: skip

# Among those of one layer: who may not know whom.
STRANGERS: dict[str, tuple[str, ...]] = {
    "apex_mcp.ingestion": ("apex_mcp.retrieval",),
    "apex_mcp.server": ("apex_mcp.cli", "apex_mcp.app", "apex_mcp.runtime", "apex_worker"),
    "apex_mcp.cli": ("apex_mcp.server", "apex_mcp.app", "apex_worker"),
    "apex_mcp.runtime": ("apex_mcp.cli", "apex_worker"),
    "apex_mcp.app": ("apex_mcp.cli", "apex_mcp.server", "apex_worker"),
    "apex_mcp.entry": ("apex_mcp.server", "apex_mcp.app", "apex_worker"),
    "apex_worker": (
        "apex_mcp.cli",
        "apex_mcp.server",
        "apex_mcp.memory",
        "apex_mcp.operations",
        "apex_mcp.runtime",
        "apex_mcp.retrieval",
    ),
}

# Words that the pump and the server share; nothing but the standard library behind them.
SHARED = "apex_mcp.runtime.wire"

DRIVERS = {
    "psycopg": ("apex_mcp.stores.record", "apex_mcp.runtime"),
    "psycopg_pool": ("apex_mcp.stores.record",),
    "qdrant_edge": ("apex_mcp.stores.vectors",),
    "kreuzberg": ("apex_mcp.ingestion",),
    "fastembed": ("apex_mcp.ingestion.embedding",),
    "openai": ("apex_mcp.ingestion.enriching",),
    "graphiti_core": ("apex_mcp.ingestion.enriching",),
    "yaml": ("apex_mcp.ingestion.enriching",),
    "qdrant_client": ("apex_mcp.stores.vectors",),
    "httpx": ("apex_mcp.ingestion.embedding", "apex_mcp.stores.vectors"),
    "redis": ("apex_mcp.stores.cache",),
    "boto3": ("apex_mcp.ingestion.staging_s3",),
    "botocore": ("apex_mcp.ingestion.staging_s3",),
    "neo4j": ("apex_mcp.stores.graph",),
    "mcp": ("apex_mcp.server", "apex_mcp.runtime"),
    "temporalio": ("apex_worker", "apex_mcp.app", "apex_mcp.runtime"),
}

HEAVY = {
    "anyio", "alembic", "asyncio", "boto3", "redis", "fastembed", "httpx", "kreuzberg", "mcp", "neo4j", "numpy", "onnxruntime",
    "openai", "platformdirs", "psutil", "psycopg", "pydantic", "pydantic_settings", "qdrant_client", "qdrant_edge", "rich",
    "sqlalchemy", "temporalio", "typer", "graphiti_core", "yaml",
}  # fmt: skip


def _modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(_modules())


@cache
def _imports(path: Path) -> list[str]:
    """Everything that a module imports, wherever in it."""
    return list(_walk(path))


def _walk(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if full in MODULES else module


def _below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _layer(module: str) -> int:
    names = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    named = [name for name in names if _below(module, (name,)) and (name != "apex_mcp" or module == name)]
    assert named, f"{module} has no layer"
    return names[max(named, key=len)]


def _ours() -> list[tuple[str, str]]:
    return [
        (module, imported)
        for module, path in MODULES.items()
        for imported in _imports(path)
        if imported.split(".")[0] in PACKAGES
    ]


def test_imports_go_one_way() -> None:
    wrong = [arrow for arrow in _ours() if _layer(arrow[1]) > _layer(arrow[0])]
    assert wrong == []


def test_nobody_knows_his_strangers() -> None:
    wrong = [
        (module, imported)
        for module, imported in _ours()
        for package, strangers in STRANGERS.items()
        if _below(module, (package,)) and _below(imported, strangers) and imported != SHARED
    ]
    assert wrong == []


def test_shared_words_import_errors_only() -> None:
    assert {one for one in _imports(MODULES[SHARED]) if one.split(".")[0] in PACKAGES} == {"apex_mcp.errors"}


def test_nothing_in_apex_mcp_names_the_worker() -> None:
    """The daemon finds it by its entry point."""
    assert [(module, imported) for module, imported in _ours()
            if module.startswith("apex_mcp") and _below(imported, ("apex_worker",))] == []  # fmt: skip


def test_workflows_import_words_errors_and_contract_only() -> None:
    allowed = ("apex_mcp.models", "apex_mcp.errors", "apex_mcp.ingestion.contract", "temporalio", "datetime")
    assert [one for one in _imports(MODULES["apex_worker.workflows"]) if not _below(one, allowed)] == []


def test_the_contract_imports_nothing_of_ours() -> None:
    imported = set(_imports(MODULES["apex_mcp.ingestion.contract"]))
    assert [one for one in imported if one.split(".")[0] in PACKAGES] == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_used_in_its_own_place_only(driver: str) -> None:
    users = {module for module, path in MODULES.items() for one in _imports(path) if _below(one, (driver,))}
    assert [user for user in sorted(users) if not _below(user, DRIVERS[driver])] == []
    assert users, "a driver that nobody uses needs no rule"


@pytest.mark.parametrize(
    "module", ["apex_mcp", "apex_mcp.entry", "apex_mcp.runtime.pump", "apex_mcp.runtime.client"]
)
def test_what_starts_in_milliseconds_imports_nothing_heavy(module: str) -> None:
    assert _loaded_by(f"import {module}") & HEAVY == set()


def test_the_daemon_listens_before_it_imports_anything_heavy() -> None:
    assert _loaded_by("import apex_mcp.runtime.daemon") & (HEAVY - {"asyncio"}) == set()


def test_a_parser_process_starts_without_what_it_may_not_need() -> None:
    assert _loaded_by("import apex_mcp.ingestion.pool_child") & HEAVY == set()


def _loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    # -S would hide the installed packages; -P keeps the current folder out.
    ran = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())
