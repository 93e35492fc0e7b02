"""The table of streams goes: the version of a stream is that of its last event."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Drop the table of streams."""
    if op.get_context().dialect.name == "sqlite":  # PostgreSQL never had it: a table there is another's
        op.drop_table("streams", if_exists=True)
