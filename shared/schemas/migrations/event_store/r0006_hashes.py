"""Events get hashes, each made of the one before it. Those that have none get theirs in the same transaction."""

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0006"
down_revision = "0005"

COLUMNS = ("position", "stream", "version", "type", "data", "metadata", "recorded_at", "schema_version")

CHANGED = (
    f"old.hash IS NOT NULL OR ({', '.join(f'new.{name}' for name in COLUMNS)})"
    f" IS {{}} ({', '.join(f'old.{name}' for name in COLUMNS)})"
)

APPEND_ONLY = {
    "sqlite": [
        "DROP TRIGGER events_refuse_update",
        f"""CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events WHEN {CHANGED.format("NOT")}
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    ],
    "postgresql": [
        "DROP TRIGGER events_refuse ON events",
        """CREATE TRIGGER events_refuse BEFORE DELETE OR TRUNCATE ON events
            FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()""",
        f"""CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
            FOR EACH ROW WHEN ({CHANGED.format("DISTINCT FROM")}) EXECUTE FUNCTION events_refuse()""",
    ],
}
"""Have the engine refuse any change of an event but one: it gets a hash, and had none."""


def upgrade() -> None:
    """Add the column, and let it be filled once."""
    op.add_column("events", Column("hash", LargeBinary))
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
