"""When projections advanced: what became visible in the last hour, and when."""

from alembic import op
from sqlalchemy import Column, String

from shared.database.statements import BigInt

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "advances",
        Column("projection", String, primary_key=True),
        Column("position", BigInt, primary_key=True),
        Column("after", BigInt, nullable=False),
        Column("at", String, nullable=False),
        sqlite_with_rowid=False,
    )
