"""What a command's events are to know beside its id."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("commands", Column("metadata", Text, nullable=False, server_default="{}"))
