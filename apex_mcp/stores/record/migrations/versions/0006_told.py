"""How far the indexes were told, so that one that comes back older, or is of a later record, is known as such."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
