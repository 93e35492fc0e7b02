"""Events get the schema version that their types had when they were recorded; older ones have 1."""

from alembic import op
from sqlalchemy import Column, Integer, text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, and the index by which shapes are found."""
    op.add_column("events", Column("schema_version", Integer, nullable=False, server_default="1"))
    changed = text("schema_version > 1")
    op.create_index(
        "events_by_shape", "events", ["type", "schema_version"], sqlite_where=changed, postgresql_where=changed
    )
