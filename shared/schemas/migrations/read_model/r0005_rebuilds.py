"""The last rebuild of each projection: who asked for it, how far it is, how it ended."""

from alembic import op
from sqlalchemy import Boolean, Column, String, Text

from shared.database.statements import BigInt

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rebuilds",
        Column("projection", String, primary_key=True),
        Column("seen", BigInt, nullable=False),
        Column("is_due", Boolean, nullable=False),
        Column("stage", String, nullable=False),
        Column("by", Text),
        Column("began_at", String),
        Column("told_at", String),
        Column("first", BigInt),
        Column("reached", BigInt),
        Column("upto", BigInt),
        Column("problem", Text),
        Column("differences", Text),
    )
