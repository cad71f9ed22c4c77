"""Tombstones, what was forgotten and when, archives that were made, and how far back a namespace is known."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
