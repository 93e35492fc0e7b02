"""The first tables of the inbox. SQLite may have them already, from before there were revisions."""

from alembic import op
from sqlalchemy import Column, String, Text

from shared.database.statements import BigInt

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "commands",
        Column("seq", BigInt, primary_key=True, autoincrement=False),
        Column("command_id", String, nullable=False, unique=True),
        Column("stream", String, nullable=False),
        Column("type", String, nullable=False),
        Column("data", Text, nullable=False),
        Column("expected_version", BigInt),
        Column("accepted_at", String, nullable=False),
        Column("idempotency_key", String, unique=True),
        Column("fingerprint", String),
        if_not_exists=True,
    )
    op.create_table(
        "sequences",
        Column("name", String, primary_key=True),
        Column("value", BigInt, nullable=False),
        if_not_exists=True,
    )
