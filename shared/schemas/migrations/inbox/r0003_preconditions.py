"""What a command asks of its stream's version, where that is more than one number."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("commands", Column("precondition", Text))
