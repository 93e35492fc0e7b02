"""What the stores hold, read by plain SQL and opened with the keys of people."""

import json
from contextlib import closing, suppress
from typing import Any, NamedTuple

from sqlalchemy import text

from shared.database import engines
from shared.personal.ciphers import Blind, Cipher, Sealed, WrongMasterKey
from shared.settings import Settings
from shared.stores.subjects import Subjects, master_of
from tests.faults.storm import traces

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
PEOPLE = "SELECT stream, key FROM subject_keys"
ERASURES = "SELECT stream, erased_at FROM erasures"
CHECKPOINT = "SELECT max(position) FROM checkpoints WHERE projection = '{}'"


class Command(NamedTuple):
    """`stored`: the data as it rests; `opened`: with null for what doesn't open."""

    seq: int
    command_id: str
    stream: str
    type: str
    data: str
    expected_version: int | None
    accepted_at: str
    idempotency_key: str | None
    stored: str
    opened: str


class Event(NamedTuple):
    """`stored`: the data as it rests; `opened`: with null for what doesn't open."""

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
    opened: str


class Outcome(NamedTuple):
    seq: int
    status: str
    version: int | None
    position: int | None
    handled_at: str
    problem: str | None


class Evidence(NamedTuple):
    """`projected` has each projection's rows by their first column, `checkpoints` how far it came.

    `blind` hashes the values by which `keys` and the idempotency keys rest. `with_key` has the streams whose people
    have a key, `erasures` when the others' were destroyed, `traces` the files in which one stands (traces.py).
    """

    inbox: list[Command]
    outcomes: dict[int, Row]
    aside: set[int]
    events: list[Row]
    keys: dict[str, str]
    projected: dict[str, dict[Any, dict[str, Any]]]
    checkpoints: dict[str, int]
    blind: Blind
    with_key: set[str]
    erasures: dict[str, str]
    traces: dict[str, set[str]]


def read(settings: Settings) -> Evidence:
    outcomes, aside, events, keys = _query(settings.event_store, OUTCOMES, ASIDE, EVENTS, KEYS)
    [inbox] = _query(settings.inbox, INBOX)
    wrapped, erasures = _query(settings.subjects, PEOPLE, ERASURES)
    master = master_of(settings)
    ciphers: dict[str, Cipher] = {}
    for stream, key in wrapped:
        with suppress(WrongMasterKey):
            ciphers[stream] = Cipher(master.unwrap(bytes(key), stream))
    with closing(Subjects.of(settings)) as people:
        blind = people.blind
    projected = {name: _query(settings.read_model_of(name), rows)[0] for name, rows in PROJECTED.items()}

    def opened(row: Row, place: str) -> str:
        return _opened(row.data, ciphers.get(row.stream), f"{row.stream} {place}")

    return Evidence(
        [Command._make([*row, row.data, opened(row, row.command_id)]) for row in inbox],
        {row.seq: Outcome._make([*row[:-1], _named("type", row.problem)]) for row in outcomes},
        {row.seq for row in aside},
        [
            Event._make([*row, _named("command_id", row.metadata), row.data, opened(row, f"{row.version} {row.type}")])
            for row in events
        ],
        dict(map(tuple, keys)),
        {name: {row[0]: dict(row._mapping) for row in rows} for name, rows in projected.items()},
        _checkpoints(settings),
        blind,
        {row.stream for row in wrapped},
        dict(map(tuple, erasures)),
        traces.found(settings),
    )


class Progress(NamedTuple):
    accepted: int
    handled: int
    visible: int
    aside: int
    lag: int
    to_scrub: bool

    @property
    def quiet(self) -> bool:
        return self.accepted == self.handled and not self.aside and not self.lag and not self.to_scrub


def progress(settings: Settings) -> Progress:
    """How far the commands have come. Raises the store's error if it is being recovered."""
    checkpoints = _checkpoints(settings)  # first: none is ahead of the log
    handled = "SELECT count(*) FROM outcomes"
    visible = f"{handled} WHERE coalesce(position, 0) <= {checkpoints['users']}"
    queries = handled, visible, "SELECT max(position) FROM events", "SELECT count(*) FROM set_aside"
    done, shown, last, aside = (rows[0][0] or 0 for rows in _query(settings.event_store, *queries))
    [[[accepted]]] = _query(settings.inbox, "SELECT count(*) FROM commands")
    return Progress(accepted, done, shown, aside, last - min(checkpoints.values()), _is_to_scrub(settings))


def _is_to_scrub(settings: Settings) -> bool:
    """Whether a file may have rests of deleted rows."""
    urls = settings.subjects, *map(settings.read_model_of, ("users", "emails"))
    files = [url for url in urls if url.startswith("sqlite")]
    return any(rows[0][0] for url in files for rows in _query(url, "PRAGMA user_version"))


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
