"""Builds that are broken on purpose: see `broken/sitecustomize.py`."""

from pathlib import Path

# The commit point moved, the purge skipped, the outbox bypassed.
BROKEN = ("commit", "compensation", "outbox")


def broken(how: str | None) -> dict[str, str]:
    """The environment of a daemon that is broken so; None leaves it whole."""
    return {"PYTHONPATH": str(Path(__file__).parent / "broken"), "APEX_BROKEN": how} if how else {}
