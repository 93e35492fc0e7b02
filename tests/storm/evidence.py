"""What the stores hold, read by plain SQL; and what the log adds up to, folded without the service's own logic."""

import json
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
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
STREAMS = "SELECT stream, version FROM streams"
KEYS = "SELECT value, stream FROM unique_keys WHERE scope = 'email'"
ASIDE = "SELECT seq FROM set_aside"
USERS = "SELECT user_id, first_name, last_name, email, version FROM users"
CHECKPOINT = "SELECT position FROM checkpoints WHERE projection = 'users'"


class Evidence(NamedTuple):
    inbox: list[Row]
    outcomes: dict[int, Row]
    aside: set[int]
    events: list[Row]
    streams: dict[str, int]
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

    users, checkpoints = query(settings.read_model, USERS, CHECKPOINT)
    outcomes, aside, events, streams, keys = query(settings.event_store, OUTCOMES, ASIDE, EVENTS, STREAMS, KEYS)
    [inbox] = query(settings.inbox, INBOX)
    return Evidence(
        inbox,
        {row.seq: row for row in outcomes},
        {row.seq for row in aside},
        events,
        dict(map(tuple, streams)),
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

    [checkpoint] = numbers(settings.read_model, f"SELECT max(position) FROM ({CHECKPOINT})")
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


class Holding(NamedTuple):
    """A stream held a key from one time to another, "" if it still does; both ends belong to it."""

    stream: str
    since: str
    until: str


@dataclass
class Fold:
    """The log's sum: users, who held which key when, and where two held one."""

    users: dict[int, dict[str, Any]] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    holdings: dict[str, list[Holding]] = field(default_factory=lambda: defaultdict(list))
    conflicts: list[Row] = field(default_factory=list)


def fold(evidence: Evidence) -> Fold:
    """Times are those at which the commands were handled: what was rejected in the same transaction bears the same."""
    seqs = {row.command_id: row.seq for row in evidence.inbox}
    sums = Fold()
    for event in evidence.events:
        data = json.loads(event.data)
        outcome = evidence.outcomes.get(seqs.get(event.command_id, 0))
        when = outcome.handled_at if outcome else event.recorded_at
        before = sums.users.get(data["user_id"], {"user_id": data["user_id"]})
        change = {"email": data.pop("new_email")} if event.type == "UserEmailUpdated" else data
        after = sums.users[data["user_id"]] = {**before, **change, "version": event.version}
        old, new = key_of(before.get("email")), key_of(after["email"])
        if old == new:
            continue
        if old and sums.holders.get(old) == event.stream:
            del sums.holders[old]
            sums.holdings[old][-1] = sums.holdings[old][-1]._replace(until=when)
        if new in sums.holders:
            sums.conflicts.append(event)
        sums.holders[new] = event.stream
        sums.holdings[new].append(Holding(event.stream, when, ""))
    return sums


def key_of(email: str | None) -> str:
    return unicodedata.normalize("NFC", email or "").casefold()
