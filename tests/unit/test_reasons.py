"""Why something failed: useful words, and in them nothing that was sent, no password, and no driver's own text."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kombu.exceptions import OperationalError as KombuError
from psycopg import errors as pg
from pysqlite3 import dbapi2 as sqlite3
from redis import exceptions as redis
from sqlalchemy.exc import DBAPIError, IntegrityError

from shared.broker import bus
from shared.database import engines
from shared.errors.reasons import reason_of
from shared.errors.surroundings import Silent
from shared.errors.tracebacks import traceback_of
from shared.messages import Command, Event, UnknownShape
from shared.settings import Settings
from tests.support.service import free_port

CANARY = "canary-7f3a"


class Rename(Command):
    name: int
    data: dict[str, Any] = {}


class Renamed(Event):
    size: float = 0
    data: dict[str, Any] = {}
    things: list[Any] = []


def raised(do: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 whatever it is
        do()
    return caught.value


def interpolated() -> None:
    raise ValueError(f"{CANARY} is wrong")


def constant() -> None:
    raise ValueError("a bug")


def chained() -> None:
    try:
        interpolated()
    except ValueError as error:
        raise KeyError(CANARY) from error


def sqlite_error(code: int, name: str, text: str = CANARY) -> DBAPIError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return DBAPIError(f"SELECT {CANARY}", {"name": CANARY}, error)


def pg_error(text: str) -> DBAPIError:
    return DBAPIError(CANARY, None, psycopg.OperationalError(f"connection to {CANARY} failed: {text}"))


def sent_twice() -> DBAPIError:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE users (email PRIMARY KEY)")
        connection.execute("INSERT INTO users VALUES (?)", [CANARY])
        error = raised(lambda: connection.execute("INSERT INTO users VALUES (?)", [CANARY]))
    return IntegrityError(CANARY, None, error)


def from_system(error: type[OSError], number: int) -> OSError:
    return error(number, CANARY, CANARY)


REASONS: dict[str, tuple[BaseException, str]] = {
    "a message made of values": (raised(interpolated), "ValueError in interpolated, tests/unit/test_reasons.py:"),
    "a message of the code's": (raised(constant), "ValueError: a bug"),
    "Python's own with a value": (raised(lambda: int(CANARY)), "ValueError in <lambda>, tests/unit/test_reasons.py:"),
    "a key that is a value": (
        raised(lambda: dict[str, int]()[f"{CANARY}"]),
        "KeyError in <lambda>, tests/unit/test_reasons.py:",
    ),
    "a message of ours": (UnknownShape("Renamed", 3), "UnknownShape: Renamed of schema version 3 is not known to"),
    "pydantic": (raised(lambda: Rename(name=CANARY, **{CANARY: 1})), "ValidationError: name: int_parsing; extra_for"),
    "full": (sqlite_error(13, "SQLITE_FULL"), "its disk is full"),
    "read-only": (sqlite_error(8 | 4 << 8, "SQLITE_READONLY_DBMOVED"), "read-only"),
    "locked": (sqlite_error(5, "SQLITE_BUSY"), "locked"),
    "no table": (sqlite_error(1, "SQLITE_ERROR", "no such table: users"), "no such table: users"),
    "another SQL error": (sqlite_error(1, "SQLITE_ERROR"), "SQLITE_ERROR"),
    "unique": (sent_twice(), "UNIQUE constraint failed: users.email"),
    "a SQLSTATE": (DBAPIError(CANARY, None, pg.DiskFull(CANARY)), "its disk is full"),
    "another SQLSTATE": (DBAPIError(CANARY, None, pg.UniqueViolation(CANARY)), "unique violation (SQLSTATE 23505)"),
    "a password": (pg_error(f'password authentication failed for user "{CANARY}"'), "the password or the user is ref"),
    "a database": (pg_error(f'database "{CANARY}" does not exist'), "the database does not exist"),
    "another trouble": (pg_error("what nobody knows"), "no connection"),
    "a value that can't be sent": (DBAPIError(CANARY, None, psycopg.DataError(CANARY)), "DataError"),
    "a store that hangs": (DBAPIError(CANARY, None, TimeoutError()), "no answer in time"),
    "for so long": (DBAPIError(CANARY, None, Silent(3)), "it said nothing for 3 s"),
    "redis, full": (redis.OutOfMemoryError(CANARY), "out of memory"),
    "redis, another type": (redis.ResponseError(f"WRONGTYPE {CANARY}"), "a key has another type than that of a queue"),
    "redis, a code": (redis.ResponseError(f"CROSSSLOT {CANARY}"), "an error CROSSSLOT"),
    "redis, none": (redis.ResponseError(f"what {CANARY}"), "an error of the kind Response"),
    "redis, silent": (redis.TimeoutError(CANARY), "no answer in time"),
    "redis, a password": (redis.AuthenticationError(CANARY), "the password or the user is refused"),
    "the system": (from_system(FileNotFoundError, 2), "No such file or directory"),
    "a name": (socket.gaierror(-2, CANARY), "the host's name can't be found"),
}


@pytest.mark.parametrize(("error", "reason"), REASONS.values(), ids=REASONS)
def test_a_reason_is_useful_and_holds_nothing_that_was_sent(error: BaseException, reason: str) -> None:
    told = reason_of(error)
    assert told.startswith(reason)
    assert CANARY not in told + traceback_of(error)
    assert "\n" not in told


def test_a_broker_that_is_away_is_told_without_its_address_and_its_password() -> None:
    app = bus.celery(
        Settings(redis_url=f"redis://:{CANARY}@127.0.0.1:{free_port()}/0", _env_file=None), socket_timeout=1
    )
    error = raised(lambda: bus.wake(app, bus.CATCH_UP))
    assert isinstance(error, KombuError)
    assert reason_of(error) == "Connection refused"


def test_a_server_that_is_away_is_told_without_its_address_and_its_user() -> None:
    url = f"postgresql+psycopg://{CANARY}:{CANARY}@127.0.0.1:{free_port()}/{CANARY}"
    assert reason_of(raised(engines.reader(url).connect)) == "connection refused"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    error = raised(engines.reader(f"sqlite:///{tmp_path / CANARY}").connect)
    assert reason_of(error) == "its file can't be opened"


def test_a_traceback_tells_where_and_what_kind_and_what_came_before() -> None:
    lines = traceback_of(raised(chained)).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "Traceback (most recent call last):",
        "ValueError",
        "which led to",
        "Traceback (most recent call last):",
        "KeyError",
    ]
    assert any(line.endswith("in interpolated") for line in lines)


def test_a_traceback_tells_of_each_error_in_a_group() -> None:
    told = traceback_of(BaseExceptionGroup(CANARY, [raised(constant), raised(interpolated)]))
    assert "ValueError: a bug" in told
    assert "in interpolated" in told
    assert CANARY not in told


def test_an_error_s_message_can_not_forge_a_line() -> None:
    def forge() -> None:
        raise ValueError("it is\n2026-11-25T13:00:00Z [info] all is well")

    assert len([line for line in traceback_of(raised(forge)).splitlines() if line.startswith("2026")]) == 0


NO_NUMBERS = [float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_messages_refuse_what_is_no_number_wherever_it_stands(number: float) -> None:
    for fields in ({"size": number}, {"data": {"a": [{"b": number}]}}, {"things": [1, number]}):
        error = raised(lambda: Renamed(**fields))  # noqa: B023
        assert "finite_number" in reason_of(error)
    assert "finite_number" in reason_of(raised(lambda: Rename(name=1, data={"a": number})))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_what_was_recorded_with_one_is_refused_too(number: str) -> None:
    assert "finite_number" in reason_of(raised(lambda: Renamed.recorded(1, f'{{"data": {{"a": {number}}}}}')))


def test_a_message_without_any_costs_nothing_more() -> None:
    class Closed(Event):
        name: str
        size: float

    assert Closed.__pydantic_core_schema__["type"] == "model"
    assert Renamed.__pydantic_core_schema__["type"] == "function-after"
