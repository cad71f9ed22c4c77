"""What a model finds, links between entities, and the queue of a graph index."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

from apex_mcp.ids import core_name

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    connection = op.get_bind()
    names = connection.execute(text("SELECT id, normalised FROM entities")).all()
    if names:
        connection.execute(
            text("UPDATE entities SET core = :core WHERE id = :id"),
            [{"id": row.id, "core": core_name(row.normalised)} for row in names],
        )


def downgrade() -> None:
    """A newer database is refused by older code; a backup is the way back."""
    raise NotImplementedError
