"""Commands get the metadata that their events will have."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("commands", Column("metadata", Text, nullable=False, server_default="{}"))
