"""The table of keys that callers are let in by."""

from alembic import op
from sqlalchemy import Column, String, Text

from shared.database.statements import BigInt

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table of keys."""
    op.create_table(
        "access_keys",
        Column("id", String, primary_key=True),
        Column("name", String, nullable=False),
        Column("roles", String, nullable=False),
        Column("digest", String, nullable=False),
        Column("created_at", String, nullable=False),
        Column("created_by", Text, nullable=False),
        Column("expires_at", String),
        Column("revoked_at", String),
        Column("old_digest", String),
        Column("old_until", String),
        Column("change", BigInt, nullable=False),
    )
    op.create_index("access_keys_by_change", "access_keys", ["change"])
