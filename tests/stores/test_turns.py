"""Writers of one SQLite file within a process: one after the other, and none sleeps while it could go on."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from shared.database import engines, sqlite
from shared.database.errors import Taken
from shared.database.turns import turn_at
from tests.support.trouble import locked

ROUNDS = 5

HELD = 0.3
"""Seconds after which SQLite's own waiting sleeps for 100 ms at a time."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Makes writers of one file."""
    made: list[Engine] = []

    def make(*, waits: bool = True) -> Engine:
        made.append(engines.writer(f"sqlite:///{tmp_path / 'a.db'}", lock="test", create=True, waits=waits))
        return made[-1]

    with make().begin() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    yield make
    for each in made:
        each.dispose()


def is_free(engine: Engine) -> bool:
    try:
        with engine.begin():
            return True
    except Taken:
        return False


def test_a_writer_goes_on_as_soon_as_another_of_its_process_has_ended(writer: Callable[..., Engine]) -> None:
    late = []
    for _ in range(ROUNDS):
        one, other, began, times = writer(), writer(), Event(), [0.0, 0.0]

        def hold(engine: Engine = one, began: Event = began, times: list[float] = times) -> None:
            with engine.begin():
                began.set()
                time.sleep(HELD)
                times[0] = time.perf_counter()

        holder = Thread(target=hold)
        holder.start()
        began.wait()
        with other.begin():
            times[1] = time.perf_counter()
        holder.join()
        late.append(times[1] - times[0])
    assert min(late) < 0.02


def fails(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")


def is_invalidated(connection: Connection) -> None:
    connection.invalidate()


def loses_its_file(connection: Connection) -> None:
    raise OperationalError("", None, OSError("gone"))


def is_rolled_back(connection: Connection) -> None:
    connection.rollback()


@pytest.mark.parametrize("end", [fails, is_invalidated, loses_its_file, is_rolled_back], ids=lambda end: end.__name__)
def test_a_turn_is_given_up_however_a_transaction_ends(
    writer: Callable[..., Engine], end: Callable[[Connection], None]
) -> None:
    asks = writer(waits=False)
    connection = writer().connect()
    connection.execute(text("INSERT INTO numbers VALUES (1)"))
    assert not is_free(asks)
    try:
        end(connection)
    except OperationalError:
        connection.rollback()
    assert is_free(asks)
    connection.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_waits_for_no_thread_that_it_does_not_have() -> None:
    turn = turn_at(Path("a.db"))
    turn.take(held := object(), within=0)
    if not (child := os.fork()):
        os._exit(0 if turn.take(object(), within=0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not turn.take(object(), within=0)
    turn.leave(held)


@pytest.mark.parametrize("waits", [True, False])
def test_a_transaction_is_one_statement_to_begin_and_one_to_commit(
    writer: Callable[..., Engine], *, waits: bool
) -> None:
    sent: list[str] = []
    with writer(waits=waits).connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(sent.append)
        with connection.begin():
            pass
    assert sent == ["BEGIN IMMEDIATE", "COMMIT"]


def test_who_does_not_wait_is_told_at_once_that_another_process_has_the_file(
    writer: Callable[..., Engine], tmp_path: Path
) -> None:
    asks = writer(waits=False)
    assert is_free(asks)
    with locked(tmp_path / "a.db"):
        began = time.monotonic()
        assert not is_free(asks)
        assert time.monotonic() - began < sqlite.BUSY_TIMEOUT / 2
    assert is_free(asks)


def test_a_writer_whose_turn_does_not_come_is_told_that_the_file_is_locked(
    writer: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    with writer().begin(), pytest.raises(OperationalError, match="database is locked"), writer().begin():
        pass
