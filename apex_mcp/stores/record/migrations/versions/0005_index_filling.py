"""Which index is being filled with every version, so that an interrupted filling goes on where it was."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
