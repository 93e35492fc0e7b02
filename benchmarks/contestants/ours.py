"""The product's own functions, on files of their own."""

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.fill import fill
from cli.init import init
from shared import database, event_store, inbox, projection
from shared.event_store import Append, NewEvent
from shared.inbox import Submission
from shared.settings import Settings
from shared.users.read_model import users
from workers import projections
from workers.commands import CommandHandler
from workers.watch import Watch

PAGE = 1000
"""Events read at a time."""


def append(folder: Path, count: int, *, together: int) -> float:
    """Events appended a second, `together` of them in a transaction, each to a stream of its own."""
    store = database.writer(_settings(folder).event_store)
    appends = [Append(f"user-{number}", [_created(number)], expected_version=0) for number in range(count)]
    began = time.perf_counter()
    for start in range(0, count, together):
        with store.begin() as connection:
            event_store.append(connection, *appends[start : start + together])
    return count / (time.perf_counter() - began)


def read(folder: Path, count: int) -> float:
    """Events read a second, `data` and `metadata` decoded."""
    log = database.reader(_filled(folder, count).event_store)
    began = time.perf_counter()
    seen = 0
    with log.connect() as connection:
        while events := event_store.read_all(connection, after=seen, limit=PAGE):
            seen = events[-1].position
    return seen / (time.perf_counter() - began)


def rebuild(folder: Path, count: int) -> float:
    """Events projected a second into a read model that was empty."""
    settings = _filled(folder, count)
    database.path_of(settings.read_model).unlink()
    init(settings)
    log, read_model = database.reader(settings.event_store), database.writer(settings.read_model, durable=False)
    began = time.perf_counter()
    while projections.catch_up(log, read_model, users):
        pass
    seconds = time.perf_counter() - began
    with read_model.connect() as connection:
        return projection.checkpoint(connection, "users") / seconds


def handle(folder: Path, count: int) -> float:
    """Commands handled a second, of a backlog of so many."""
    settings = _settings(folder)
    _accept(database.writer(settings.inbox), count)
    store = database.writer(settings.event_store)
    handler = CommandHandler(database.reader(settings.inbox), store, Watch(database.path_of(settings.event_store)))
    began = time.perf_counter()
    while handler.handle():
        pass
    seconds = time.perf_counter() - began
    with store.connect() as connection:
        handled = event_store.last_position(connection)
    assert handled == count, f"{handled} events of {count} commands"
    return count / seconds


def _accept(inbox_: Engine, count: int) -> None:
    """Two creates, then a change to one of those before."""
    commands = iter(_submissions())
    for start in range(0, count, 500):
        with inbox_.begin() as connection:
            inbox.accept(connection, list(itertools.islice(commands, min(500, count - start))))


def _submissions() -> Iterator[Submission]:
    for number in itertools.count():
        if number % 3 == 2:
            user = 1 + number * 7919 % (number // 3 * 2 + 2)
            yield Submission("UpdateUserEmail", "user", user, {"email": f"moved{number}@example.com"})
        else:
            yield Submission("CreateUser", "user", None, _person(number))


def _created(number: int) -> NewEvent:
    return NewEvent("UserCreated", {"user_id": number, **_person(number)}, {"command_id": f"{number:036}"})


def _person(number: int) -> dict[str, str]:
    return {"first_name": "Zoë", "last_name": "Müller-Lüdenscheidt", "email": f"person{number}@example.com"}


def _settings(folder: Path) -> Settings:
    """Of an empty service in this folder."""
    logging.disable(logging.INFO)
    settings = Settings(data_dir=folder, _env_file=None)
    init(settings)
    return settings


def _filled(folder: Path, events: int) -> Settings:
    settings = _settings(folder)
    fill(settings, events)
    return settings
