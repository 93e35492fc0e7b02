"""Projections can be paused."""

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("checkpoints", Column("paused", Boolean, nullable=False, server_default=false()))
