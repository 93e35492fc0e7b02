"""The first tables of the event store. SQLite may have them already, from before there were revisions."""

from alembic import op
from sqlalchemy import Column, Integer, String, Text, text

from shared.database.statements import BigInt

revision = "0001"
down_revision = None

APPEND_ONLY = {
    "sqlite": [
        """CREATE TRIGGER IF NOT EXISTS events_refuse_update BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        """CREATE TRIGGER IF NOT EXISTS events_refuse_delete BEFORE DELETE ON events
            BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN
                RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'integrity_constraint_violation';
            END $$""",
        """CREATE TRIGGER events_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON events
            FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()""",
    ],
}


def upgrade() -> None:
    """Make the tables, and have the engine refuse changes of events."""
    _make_log()
    _make_outcomes()
    if op.get_context().dialect.name == "postgresql":
        # The note of the command that is being decided, which no rollback undoes; SQLite has a file for it.
        op.execute("CREATE SEQUENCE deciding MINVALUE 0 START 0")


def _make_log() -> None:
    op.create_table(
        "events",
        Column("position", BigInt, primary_key=True, autoincrement=False),
        Column("stream", String, nullable=False),
        Column("version", BigInt, nullable=False),
        Column("type", String, nullable=False),
        Column("data", Text, nullable=False),
        Column("metadata", Text, nullable=False),
        Column("recorded_at", String, nullable=False),
        if_not_exists=True,
    )
    op.create_index("events_by_stream", "events", ["stream", "version"], unique=True, if_not_exists=True)
    op.create_index("events_by_type", "events", ["type", "position"], if_not_exists=True)
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)


def _make_outcomes() -> None:
    op.create_table(
        "outcomes",
        Column("seq", BigInt, primary_key=True, autoincrement=False),
        Column("status", String, nullable=False),
        Column("version", BigInt),
        Column("position", BigInt),
        Column("problem", Text),
        Column("handled_at", String, nullable=False),
        if_not_exists=True,
    )
    failed = text("status = 'failed'")
    op.create_index(
        "outcomes_failed", "outcomes", ["seq"], sqlite_where=failed, postgresql_where=failed, if_not_exists=True
    )
    op.create_table(
        "unique_keys",
        Column("scope", String, primary_key=True),
        Column("value", String, primary_key=True),
        Column("stream", String, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "set_aside",
        Column("seq", BigInt, primary_key=True, autoincrement=False),
        Column("stream", String, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("error", Text),
        if_not_exists=True,
    )
    op.create_index("ix_set_aside_stream", "set_aside", ["stream"], if_not_exists=True)
