"""Sessions of people who sign in to the console."""

from alembic import op
from sqlalchemy import Column, String

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sessions",
        Column("digest", String, primary_key=True),
        Column("principal", String, nullable=False),
        Column("credential", String, nullable=False),
        Column("began_at", String, nullable=False),
        Column("ends_at", String, nullable=False),
    )
