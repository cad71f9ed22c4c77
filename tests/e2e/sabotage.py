"""Parsers that die, or wait, when a document tells them to."""

from pathlib import Path

MARK = "lethal-content"
PATIENT = "patient-content"

# Python imports `sitecustomize` from PYTHONPATH in every process that it starts. In the parser's processes this
# one makes `parse` end the whole process, as a bug in native code would, when a document holds the one mark, and wait
# for a file when it holds the other.
_SABOTAGE = f'''
import builtins, os, pathlib, sys, time

_import = builtins.__import__

def _sabotaged(name, *args, **kwargs):
    module = _import(name, *args, **kwargs)
    parsing = sys.modules.get("apex_mcp.ingestion.parsing")
    if parsing is not None and hasattr(parsing, "parse"):
        builtins.__import__ = _import
        parse = parsing.parse

        def lethal(data, *args, **kwargs):
            if b"{MARK}" in data:
                os.abort()
            while b"{PATIENT}" in data and not pathlib.Path(__file__).with_name("go").exists():
                time.sleep(0.01)
            return parse(data, *args, **kwargs)

        parsing.parse = lethal
    return module

if "apex_mcp.ingestion.pool_child" in sys.orig_argv:
    builtins.__import__ = _sabotaged
'''


def sabotage(folder: Path) -> None:
    """Whoever starts a parser with this folder in PYTHONPATH gets one that does; a file `go` in it ends the waiting."""
    (folder / "sitecustomize.py").write_text(_SABOTAGE, "utf-8")
