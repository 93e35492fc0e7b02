"""Versions of streams are where their events end; the table that had them is dead."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":  # in a database of PostgreSQL it would be another's
        op.drop_table("streams", if_exists=True)
