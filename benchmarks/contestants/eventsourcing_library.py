"""The `eventsourcing` library with its SQLite recorder: its event store, its reading, its projection of users.

It sets WAL and leaves `synchronous` at SQLite's default, FULL: events are as durable as ours. So is its view, and it
has no setting for it; since our read model is NORMAL, its projection is measured that way, too.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Notification, Tracking
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from benchmarks.load.appending import rate

PAGE = 1000
"""Events read at a time."""


class User(Aggregate):
    """The aggregate."""

    class Created(Aggregate.Created):
        first_name: str
        last_name: str
        email: str

    class EmailUpdated(Aggregate.Event):
        new_email: str

    @event(Created)
    def __init__(self, first_name: str, last_name: str, email: str) -> None:
        self.first_name, self.last_name, self.email = first_name, last_name, email

    @event(EmailUpdated)
    def update_email(self, new_email: str) -> None:
        self.email = new_email


class Users(SQLiteTrackingRecorder):
    """The view: users, and how far they are projected, in one file and one transaction."""

    def construct_create_table_statements(self) -> list[str]:
        table = "CREATE TABLE IF NOT EXISTS users (user_id TEXT PRIMARY KEY, first_name, last_name, email, version)"
        return [*super().construct_create_table_statements(), table]

    def write(self, tracking: Tracking, statement: str, values: tuple[Any, ...]) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(statement, values)


class UsersProjection(Projection[Users]):
    """The projection: one event, one transaction."""

    @singledispatchmethod
    def process_event(self, _: Any, tracking: Tracking) -> None:
        self.view.insert_tracking(tracking)

    @process_event.register
    def created(self, event: User.Created, tracking: Tracking) -> None:
        values = event.originator_id.hex, event.first_name, event.last_name, event.email, event.originator_version
        self.view.write(tracking, "INSERT INTO users VALUES (?, ?, ?, ?, ?)", values)

    @process_event.register
    def email_updated(self, event: User.EmailUpdated, tracking: Tracking) -> None:
        values = event.new_email, event.originator_version, event.originator_id.hex
        self.view.write(tracking, "UPDATE users SET email = ?, version = ? WHERE user_id = ?", values)


def append(folder: Path, count: int, *, together: int) -> dict[str, float]:
    """Events appended a second, `together` of them in a transaction, each to an aggregate of its own."""
    app = _application(folder)
    events = [pending for number in range(count) for pending in _person(number).collect_events()]
    return {f"append {together}": rate(events, app.events.put, together)}


def read_and_rebuild(folder: Path, count: int) -> dict[str, float]:
    """Events read and projected a second, of a log of so many."""
    app = _filled(folder, count)
    return {
        "read": _read(app, app.mapper.to_domain_event),
        "rebuild": _rebuild(app, Users(_datastore(folder / "view"))),
        "rebuild NORMAL": _rebuild(app, Users(_datastore(folder / "normal-view", normal=True))),
    }


def _read(app: Application[UUID], do: Callable[[Notification], object]) -> float:
    """Events a second, as its ProjectionRunner reads: it needs a subscription, and the SQLite recorder has none."""
    began = time.perf_counter()
    seen = 0
    while page := app.recorder.select_notifications(seen + 1, PAGE):
        for notification in page:
            do(notification)
        seen = page[-1].id
    return seen / (time.perf_counter() - began)


def _rebuild(app: Application[UUID], view: Users) -> float:
    """Events projected a second into a view that is empty."""
    view.create_table()
    project, decode = UsersProjection(view).process_event, app.mapper.to_domain_event
    return _read(app, lambda each: project(decode(each), Tracking(app.name, each.id)))


def _application(folder: Path) -> Application[UUID]:
    return Application[UUID]({"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "events")})


def _filled(folder: Path, count: int) -> Application[UUID]:
    """Two users are created, then one of them is changed; and again."""
    app = _application(folder)
    users: list[User] = []
    events: list[Any] = []
    for number in range(count):
        if number % 3 == 2:
            users[-1].update_email(f"moved{number}@example.com")
        else:
            users = [_person(number)]
        events += users[-1].collect_events()
    app.events.put(events)
    return app


def _person(number: int) -> User:
    return User(first_name="Zoë", last_name="Müller-Lüdenscheidt", email=f"person{number}@example.com")


def _datastore(file: Path, *, normal: bool = False) -> SQLiteDatastore:
    datastore = SQLiteDatastore(str(file))
    if normal:  # one connection is all that one thread gets from its pool
        with datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA synchronous = NORMAL")
    return datastore
