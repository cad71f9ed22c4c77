"""What a model finds, links between entities, and the queue of a graph index."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
