"""The product's own functions, on files of their own, in a process that collects garbage as a worker does."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from sqlalchemy import Engine

from api.access.credentials import Credentials
from api.http.access import Access
from api.reading.store import Store
from benchmarks.contestants.fill import fill
from benchmarks.load.appending import rate
from cli.stores.init import init
from shared import chain, tuning
from shared.access.keys import new_key
from shared.access.roles import ROLES
from shared.database import engines, sqlite
from shared.domain.users.messages import CreateUser, UpdateUserEmail, UserCreated
from shared.domain.users.read_models.users import users
from shared.messages import NewEvent, RecordedEvent
from shared.operations import key_table
from shared.settings import Settings
from shared.stores import checkpoints, event_store, inbox
from shared.stores.deciding import note_of
from shared.stores.event_store import Append
from shared.stores.inbox import Submission
from shared.stores.subjects import Subjects, heed
from workers.handling.handler import CommandHandler
from workers.poison.watch import Watch
from workers.projecting import runner

PAGE = 1000
"""Events read at a time."""

ROUNDS = 50
"""Pieces in which a check is timed, of which the fastest counts: what else the machine does is no part of it."""

KEYS = 1000
"""Keys that a service has where requests need one."""

BATCH = 500
"""Commands accepted at a time."""


def empty(folder: Path, **stores: Any) -> Settings:
    """The settings of an empty service in this folder."""
    settings = Settings(data_dir=folder, _env_file=None, **stores)
    init(settings)
    return settings


def append(folder: Path, count: int, *, together: int) -> dict[str, float]:
    """Events appended a second, `together` of them in a transaction, each to a stream of its own; none is sealed."""
    return {f"append {together}": _append(folder, [_created(number) for number in range(count)], together)}


def append_sealed(folder: Path, count: int) -> dict[str, float]:
    """The same of events with personal fields, 100 in a transaction."""
    return {"append sealed": _append(folder, [_sealed(number) for number in range(count)], 100)}


def _append(folder: Path, events: Sequence[NewEvent], together: int) -> float:
    settings = empty(folder)
    store = writer_of(settings)
    appends = [Append(f"user-{number}", [event], expected_version=0) for number, event in enumerate(events)]
    with closing(Subjects.of(settings)) as people:
        people.make(append.stream for append in appends)  # as when commands are accepted: hundreds at a time, ahead
    tuning.collect_less()

    def put(some: Sequence[Append]) -> None:
        with store.begin() as connection:
            event_store.append(connection, *some)

    return rate(appends, put, together)


def read_and_rebuild(folder: Path, count: int) -> dict[str, float]:
    """Events read and projected a second, of a log of so many."""
    settings = empty(folder)
    fill(settings, count)
    rate = read(engines.reader(settings.event_store))
    revealed = read(_heeding(settings, engines.reader(settings.event_store)))
    sqlite.path_of(settings.read_model_of("users")).unlink()
    init(settings)
    return {"read": rate, "read sealed": revealed, "rebuild": project(settings)}


def read(log: Engine) -> float:
    """Events read a second, `data` and `metadata` decoded; personal fields as they are stored, or revealed."""
    began = time.perf_counter()
    seen = 0
    with log.connect() as connection:
        while events := event_store.read_all(connection, after=seen, limit=PAGE):
            for event in events:
                assert event.data
                assert event.metadata
            seen = events[-1].position
    return seen / (time.perf_counter() - began)


def of_an_event(folder: Path, count: int) -> dict[str, float]:
    """Microseconds of CPU that it takes to reveal an event, mostly of a person not met before, and to make its hash."""
    settings = empty(folder)
    fill(settings, count)
    with engines.reading(settings.event_store) as log:
        stored = event_store.read_all(log)
    tuning.collect_less()
    pieces = list(event_store.pages(stored, len(stored) // ROUNDS))
    people = Subjects.of(settings, looks=False)
    return {"reveal": _microseconds(people.reveal, pieces), "hash": _microseconds(_hash, pieces)}


def _hash(events: Sequence[RecordedEvent]) -> None:
    last = chain.START
    for event in events:
        last = event.hash(last)


def _microseconds(do: Callable[[list[RecordedEvent]], object], pieces: Sequence[list[RecordedEvent]]) -> float:
    """Microseconds of CPU for each event."""
    took = []
    for piece in pieces:
        began = time.process_time()
        do(piece)
        took.append(1e6 * (time.process_time() - began) / len(piece))
    return min(took)


def project(settings: Settings) -> float:
    """Events projected a second to users of whom there are none yet."""
    log = _heeding(settings, engines.reader(settings.event_store))
    read_model = engines.writer(settings.read_model_of("users"), lock="users", durable=False)
    seconds = _until_done(lambda: runner.catch_up(log, read_model, users))
    with read_model.connect() as connection:
        return checkpoints.position_of(connection, "users") / seconds


def handle(folder: Path, count: int) -> dict[str, float]:
    """Commands handled a second, of a backlog of so many."""
    settings = empty(folder)
    accept_mixed(settings, count)
    seconds = _until_done(handler_of(settings, writer_of(settings)).handle)
    check_handled(settings, count)
    return {"handle": count / seconds}


def accept_mixed(settings: Settings, count: int) -> None:
    """Accept two creates, then a change to one of those before; and again."""
    _accept(_inbox_of(settings), list(itertools.islice(_mixed(), count)))


def check_handled(settings: Settings, count: int) -> None:
    """Look whether each of so many commands appended one event."""
    with engines.reading(settings.event_store) as connection:
        handled = event_store.last_position(connection)
    assert handled == count, f"{handled} events of {count} commands"


def streams(folder: Path, lengths: Sequence[int], commands: int) -> dict[int, list[float]]:
    """Milliseconds of each command to a stream of so many events, by its length, in turns; the first after a start."""
    settings = empty(folder)
    inbox_ = _inbox_of(settings)
    _accept(inbox_, [_create(number) for number in range(len(lengths))])
    for user, length in enumerate(lengths, 1):
        _accept(inbox_, [_update(user, f"user{user}.{number}") for number in range(1, length)])
    handler = handler_of(settings, writer_of(settings))
    while handler.handle():
        pass
    handler = handler_of(settings, writer_of(settings))
    took: dict[int, list[float]] = {length: [] for length in lengths}
    for number, (user, length) in itertools.product(range(commands), enumerate(lengths, 1)):
        _accept(inbox_, [_update(user, f"user{user}.again{number}")])
        began = time.perf_counter()
        handler.handle()
        took[length].append(1000 * (time.perf_counter() - began))
    return took


def writer_of(settings: Settings, *, waits: bool = True) -> Engine:
    """A writer of the event store."""
    return _heeding(settings, engines.writer(settings.event_store, lock=event_store.LOCK, waits=waits))


def handler_of(settings: Settings, store: Engine) -> CommandHandler:
    """The handler of a worker that has just started."""
    reader = _heeding(settings, engines.reader(settings.inbox))
    return CommandHandler(reader, store, Watch(note_of(settings.event_store)))


def closed(folder: Path) -> str:
    """Make a service in the folder that has a thousand keys; returns one with all roles."""
    keys = [new_key() for _ in range(KEYS)]
    with writer_of(empty(folder)).begin() as connection:
        for number, key in enumerate(keys):
            key_table.add_first(connection, key, f"key{number}", ROLES, by="benchmark")
    return keys[KEYS // 2].text


def admit(folder: Path, count: int) -> dict[str, float]:
    """Microseconds of CPU that it takes to check a request's key and rate, beyond a request to an open API."""
    key = closed(folder)
    settings = Settings(data_dir=folder, auth="on", max_rate_per_key=10_000_000, _env_file=None)
    store = Store(settings.event_store)
    guard, none = Access(settings), Access(settings.model_copy(update={"auth": "off"}))
    guard.credentials = known = Credentials(store, settings)
    headers = [(f"x-header-{n}".encode(), b"of a usual request") for n in range(6)]
    headers.append((b"authorization", f"Bearer {key}".encode()))

    async def seconds(access: Access) -> float:
        request = Request({"type": "http", "headers": headers, "metadata": {}, "client": ("127.0.0.1", 1)})
        began = time.process_time()
        for _ in range(count // ROUNDS):
            await access.admit(request, "reader")
        return time.process_time() - began

    async def compare() -> float:
        await known.look()
        took = [(await seconds(guard), await seconds(none)) for _ in range(ROUNDS)]
        return min(checked for checked, _ in took) - min(unchecked for _, unchecked in took)

    return {"check": 1e6 * asyncio.run(compare()) / (count // ROUNDS)}


def _inbox_of(settings: Settings) -> Engine:
    return _heeding(settings, engines.writer(settings.inbox, lock=inbox.LOCK))


def _heeding(settings: Settings, engine: Engine) -> Engine:
    """The engine, which seals and reveals what is personal from now on."""
    return heed(engine, _people(settings))


@cache
def _people(settings: Settings) -> Subjects:
    """One for each process, as roles have it."""
    return Subjects.of(settings)


def _until_done(turn: Callable[[], object]) -> float:
    """The seconds until a turn finds nothing left to do."""
    tuning.collect_less()
    began = time.perf_counter()
    while turn():
        pass
    return time.perf_counter() - began


def _accept(inbox_: Engine, commands: Sequence[Submission]) -> None:
    for start in range(0, len(commands), BATCH):
        with inbox_.begin() as connection:
            inbox.accept(connection, commands[start : start + BATCH])


def _mixed() -> Iterator[Submission]:
    for number in itertools.count():
        if number % 3 == 2:
            yield _update(1 + number * 7919 % (number // 3 * 2 + 2), f"moved{number}")
        else:
            yield _create(number)


def _create(number: int) -> Submission:
    return Submission("CreateUser", "user", None, _person(number), personal=CreateUser.personal)


def _update(user: int, mailbox: str) -> Submission:
    data = {"email": f"{mailbox}@example.com"}
    return Submission("UpdateUserEmail", "user", user, data, personal=UpdateUserEmail.personal)


def _created(number: int) -> NewEvent:
    """As what others append: nothing in it is personal."""
    return NewEvent("UserCreated", {"user_id": number, **_person(number)}, {"command_id": f"{number:036}"})


def _sealed(number: int) -> NewEvent:
    return _created(number)._replace(data=UserCreated(user_id=number, **_person(number)))


def _person(number: int) -> dict[str, str]:
    return {"first_name": "Zoë", "last_name": "Müller-Lüdenscheidt", "email": f"person{number}@example.com"}
