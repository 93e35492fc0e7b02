"""What the stores hold, read by plain SQL and opened with the keys of people."""

import json
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import text

from shared.database import engines
from shared.personal.ciphers import Blind, Cipher, Sealed
from shared.settings import Settings
from shared.stores.subjects import Subjects

Row = Any

INBOX = """SELECT seq, command_id, stream, type, data, expected_version, accepted_at, idempotency_key
    FROM commands ORDER BY seq"""
EVENTS = """SELECT position, stream, version, type, data, recorded_at, schema_version, hash, metadata
    FROM events ORDER BY position"""
OUTCOMES = "SELECT seq, status, version, position, handled_at, problem FROM outcomes"
KEYS = "SELECT value, stream FROM unique_keys WHERE scope = 'email'"
ASIDE = "SELECT seq FROM set_aside"
PROJECTED = {
    "users": "SELECT user_id, first_name, last_name, email, version, active FROM users",
    "emails": "SELECT user_id, first_name, last_name, email, version, key, active FROM emails",
    "stats": "SELECT day, users, changes FROM daily",
}
CHECKPOINT = "SELECT max(position) FROM checkpoints WHERE projection = '{}'"


class Command(NamedTuple):
    """`stored`: the data as it rests."""

    seq: int
    command_id: str
    stream: str
    type: str
    data: str
    expected_version: int | None
    accepted_at: str
    idempotency_key: str | None
    stored: str


class Event(NamedTuple):
    """`stored`: the data as it rests."""

    position: int
    stream: str
    version: int
    type: str
    data: str
    recorded_at: str
    schema_version: int
    hash: bytes | None
    metadata: str
    command_id: str
    stored: str


class Outcome(NamedTuple):
    seq: int
    status: str
    version: int | None
    position: int | None
    handled_at: str
    problem: str | None


class Evidence(NamedTuple):
    """`projected` has each projection's rows by their first column, `checkpoints` how far it came.

    `blind` hashes the values by which `keys` and the idempotency keys rest.
    """

    inbox: list[Command]
    outcomes: dict[int, Row]
    aside: set[int]
    events: list[Row]
    keys: dict[str, str]
    projected: dict[str, dict[Any, dict[str, Any]]]
    checkpoints: dict[str, int]
    blind: Blind


def read(settings: Settings) -> Evidence:
    outcomes, aside, events, keys = _query(settings.event_store, OUTCOMES, ASIDE, EVENTS, KEYS)
    [inbox] = _query(settings.inbox, INBOX)
    with closing(Subjects.of(settings)) as people:
        ciphers, blind = people.ciphers({row.stream for row in (*inbox, *events)}), people.blind
    projected = {name: _query(settings.read_model_of(name), rows)[0] for name, rows in PROJECTED.items()}
    return Evidence(
        [
            Command._make([*row, row.data])._replace(
                data=_opened(row.data, ciphers.get(row.stream), f"{row.stream} {row.command_id}")
            )
            for row in inbox
        ],
        {row.seq: Outcome._make([*row[:-1], _named("type", row.problem)]) for row in outcomes},
        {row.seq for row in aside},
        [
            Event._make([*row, _named("command_id", row.metadata), row.data])._replace(
                data=_opened(row.data, ciphers.get(row.stream), f"{row.stream} {row.version} {row.type}")
            )
            for row in events
        ],
        dict(map(tuple, keys)),
        {name: {row[0]: dict(row._mapping) for row in rows} for name, rows in projected.items()},
        _checkpoints(settings),
        blind,
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
    checkpoints = _checkpoints(settings)  # first: none is ahead of the log
    handled = "SELECT count(*) FROM outcomes"
    visible = f"{handled} WHERE coalesce(position, 0) <= {checkpoints['users']}"
    queries = handled, visible, "SELECT max(position) FROM events", "SELECT count(*) FROM set_aside"
    done, shown, last, aside = (rows[0][0] or 0 for rows in _query(settings.event_store, *queries))
    [[[accepted]]] = _query(settings.inbox, "SELECT count(*) FROM commands")
    return Progress(accepted, done, shown, aside, last - min(checkpoints.values()))


def _checkpoints(settings: Settings) -> dict[str, int]:
    return {name: _query(settings.read_model_of(name), CHECKPOINT.format(name))[0][0][0] or 0 for name in PROJECTED}


def _query(url: str, *statements: str) -> list[list[Row]]:
    """The rows of each."""
    with engines.reading(url) as connection:
        return [list(connection.execute(text(statement))) for statement in statements]


def _opened(stored: str, cipher: Cipher | None, place: str) -> str:
    """The JSON as it was sent; null stands for what doesn't open."""
    found = Sealed.found(stored)
    return found.shown(cipher, place) if found else stored


def _named(name: str, encoded: str | None) -> str | None:
    """What a JSON object has by that name."""
    value: str | None = json.loads(encoded or "{}").get(name)
    return value
