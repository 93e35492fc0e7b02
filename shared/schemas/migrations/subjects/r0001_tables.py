"""The first tables of the store of people's keys."""

from alembic import op
from sqlalchemy import Column, LargeBinary, String

from shared.database.statements import BigInt

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "subject_keys",
        Column("stream", String, primary_key=True),
        Column("key", LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "erasures",
        Column("number", BigInt, primary_key=True, autoincrement=False),
        Column("stream", String, nullable=False, unique=True),
        Column("erased_at", String, nullable=False),
    )
    op.create_table("secrets", Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False))
