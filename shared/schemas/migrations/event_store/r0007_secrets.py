"""A copy of the installation's secret: it outlives a loss of the store of people's keys, and with it unique keys do."""

from alembic import op
from sqlalchemy import Column, LargeBinary, String

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "secret_copies", Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False)
    )
