"""Contested keys: under older rules two streams may hold one. They are found when the unique keys are made anew."""

from alembic import op
from sqlalchemy import Column, String

from shared.database.statements import BigInt

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table of contested keys."""
    op.create_table(
        "contested_keys",
        Column("scope", String, primary_key=True),
        Column("value", String, primary_key=True),
        Column("stream", String, primary_key=True),
        Column("since", BigInt, nullable=False),
        sqlite_with_rowid=False,
    )
