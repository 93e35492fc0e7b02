"""What the stores hold, read by plain SQL."""

from typing import Any, NamedTuple

from sqlalchemy import text

from shared import database
from shared.settings import Settings

Row = Any

INBOX = """SELECT seq, command_id, stream, type, data, expected_version, accepted_at, idempotency_key
    FROM commands ORDER BY seq"""
EVENTS = """SELECT position, stream, version, type, data, recorded_at, metadata ->> 'command_id' AS command_id
    FROM events ORDER BY position"""
OUTCOMES = "SELECT seq, status, version, position, problem ->> 'type' AS problem, handled_at FROM outcomes"
KEYS = "SELECT value, stream FROM unique_keys WHERE scope = 'email'"
ASIDE = "SELECT seq FROM set_aside"
USERS = "SELECT user_id, first_name, last_name, email, version FROM users"
CHECKPOINT = "SELECT position FROM checkpoints WHERE projection = 'users'"


class Evidence(NamedTuple):
    inbox: list[Row]
    outcomes: dict[int, Row]
    aside: set[int]
    events: list[Row]
    keys: dict[str, str]
    users: dict[int, dict[str, Any]]
    checkpoint: int


def read(settings: Settings) -> Evidence:
    def query(url: str, *statements: str) -> list[list[Row]]:
        engine = database.reader(url)
        with engine.connect() as connection:
            answers = [list(connection.execute(text(statement))) for statement in statements]
        engine.dispose()
        return answers

    users, checkpoints = query(settings.read_model_of("users"), USERS, CHECKPOINT)
    outcomes, aside, events, keys = query(settings.event_store, OUTCOMES, ASIDE, EVENTS, KEYS)
    [inbox] = query(settings.inbox, INBOX)
    return Evidence(
        inbox,
        {row.seq: row for row in outcomes},
        {row.seq for row in aside},
        events,
        dict(map(tuple, keys)),
        {row.user_id: dict(row._mapping) for row in users},
        checkpoints[0].position if checkpoints else 0,
    )


class Progress(NamedTuple):
    accepted: int
    handled: int
    visible: int
    aside: int
    lag: int

    @property
    def quiet(self) -> bool:
        return self.accepted == self.handled and not self.aside and not self.lag


def progress(settings: Settings) -> Progress:
    """How far the commands have come. Raises the store's error if it is being recovered."""

    def numbers(url: str, statement: str, **values: int) -> list[int]:
        engine = database.reader(url)
        try:
            with engine.connect() as connection:
                return [number or 0 for number in connection.execute(text(statement), values).one()]
        finally:
            engine.dispose()

    [checkpoint] = numbers(settings.read_model_of("users"), f"SELECT max(position) FROM ({CHECKPOINT})")
    handled, visible, last, aside = numbers(
        settings.event_store,
        """SELECT (SELECT count(*) FROM outcomes),
                  (SELECT count(*) FROM outcomes WHERE coalesce(position, 0) <= :checkpoint),
                  (SELECT max(position) FROM events),
                  (SELECT count(*) FROM set_aside)""",
        checkpoint=checkpoint,
    )
    [accepted] = numbers(settings.inbox, "SELECT count(*) FROM commands")
    return Progress(accepted, handled, visible, aside, last - checkpoint)
