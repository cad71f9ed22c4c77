"""Which collection the index in use is, of those that bear its name on different servers."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
