"""Commands get preconditions, for what a single expected version can't express."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("commands", Column("precondition", Text))
