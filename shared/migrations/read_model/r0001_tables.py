"""The tables, where they aren't there yet: SQLite had some before there were revisions."""

from alembic import op
from sqlalchemy import Column, String, Text

from shared.database import BigInt

revision = "0001"
down_revision = None


def upgrade() -> None:
    progress()
    users()
    op.create_table(
        "daily",
        Column("day", String, primary_key=True),
        Column("users", BigInt, nullable=False),
        Column("changes", BigInt, nullable=False),
        if_not_exists=True,
    )


def progress() -> None:
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


def users() -> None:
    op.create_table(
        "users",
        Column("user_id", BigInt, primary_key=True, autoincrement=False),
        Column("first_name", String, nullable=False),
        Column("last_name", String, nullable=False),
        Column("email", String, nullable=False),
        Column("version", BigInt, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "emails",
        Column("user_id", BigInt, primary_key=True, autoincrement=False),
        Column("first_name", String, nullable=False),
        Column("last_name", String, nullable=False),
        Column("email", String, nullable=False),
        Column("version", BigInt, nullable=False),
        Column("key", String, nullable=False),
        if_not_exists=True,
    )
    op.create_index("emails_by_key", "emails", ["key"], if_not_exists=True)
