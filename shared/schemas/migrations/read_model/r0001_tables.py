"""The first tables of the read model. SQLite may have them already, from before there were revisions."""

from alembic import op
from sqlalchemy import Column, String, Text

from shared.database.statements import BigInt

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "checkpoints",
        Column("projection", String, primary_key=True),
        Column("position", BigInt, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "stops",
        Column("projection", String, primary_key=True),
        Column("position", BigInt, nullable=False),
        Column("error", Text, nullable=False),
        if_not_exists=True,
    )
