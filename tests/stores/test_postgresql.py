"""What PostgreSQL does that a file doesn't: writers on many hosts, connections that end, a server that is away."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import psutil
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError
from structlog.testing import capture_logs

from cli.stores.init import init
from shared.database import engines, postgresql
from shared.database.errors import is_trouble
from shared.domain.users import decider
from shared.messages import NewEvent
from shared.settings import Settings
from shared.stores import event_store, inbox
from shared.stores.deciding import SOMEBODY, note_of
from shared.stores.event_store import Append
from shared.stores.subjects import Subjects, heed
from tests.support.postgresql import Postgres
from tests.support.service import eventually
from tests.support.stores import Stores, accept, create
from workers.handling import handler
from workers.poison import watch

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that a test may stop."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


def append(connection: Connection, stream: str) -> int:
    return event_store.append(connection, Append(stream, [NewEvent("A", {}, {})]))


def visible(log: Engine) -> list[tuple[int, str]]:
    with log.connect() as connection:
        return [(event.position, event.stream) for event in event_store.read_all(connection)]


def waits(log: Engine) -> bool:
    """Whether a writer waits for another one's transaction."""
    with log.connect() as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())


def test_p6_no_event_is_seen_before_one_at_a_lower_position_that_commits_late(stores: Stores) -> None:
    log = engines.reader(stores.settings.event_store)

    def fast() -> int:
        with stores.events.begin() as connection:
            return append(connection, "fast-1")

    with ThreadPoolExecutor(1) as thread:
        with stores.events.begin() as slow:
            assert append(slow, "slow-1") == 1
            later = thread.submit(fast)
            eventually(lambda: later.done() or waits(log))
            assert visible(log) == []
        assert later.result(30) == 2
    assert visible(log) == [(1, "slow-1"), (2, "fast-1")]


def test_inbox_event_store_and_read_model_in_one_database_do_not_wait_for_each_other(stores: Stores) -> None:
    with stores.events.begin() as events, stores.read_model.begin():
        append(events, "a-1")
        [command] = accept(stores, create())
    assert command.seq == 1


def test_a_frozen_process_loses_its_transaction_and_others_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(settings)
    monkeypatch.setattr(postgresql, "IDLE_TIMEOUT", 0.5)
    frozen = engines.writer(settings.event_store, lock=event_store.LOCK)
    other = engines.writer(settings.event_store, lock=event_store.LOCK)

    def freeze() -> None:
        with frozen.begin() as connection:
            append(connection, "frozen-1")
            with other.begin() as another:
                assert append(another, "other-1") == 1
            append(connection, "frozen-1")

    with pytest.raises(DBAPIError) as caught:
        freeze()
    assert is_trouble(caught.value)
    with frozen.begin() as connection:
        assert append(connection, "frozen-1") == 2
    assert visible(other) == [(1, "other-1"), (2, "frozen-1")]


def test_a_writer_waits_for_another_no_longer_than_it_may(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    init(settings)
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT", 0.2)
    first, second = (engines.writer(settings.event_store, lock=event_store.LOCK) for _ in range(2))
    with first.begin(), pytest.raises(DBAPIError) as caught, second.begin():
        pass
    assert is_trouble(caught.value)


def test_a_look_at_an_inbox_in_which_nothing_is_new_costs_no_write(stores: Stores) -> None:
    def transactions() -> object:
        with stores.events.connect() as connection:
            return connection.exec_driver_sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").scalar()

    accept(stores, create())
    assert stores.handler.handle() == 1
    before = transactions()
    assert stores.handler.handle() == 0
    assert transactions() == before


def test_p8_a_server_that_stops_is_trouble_and_one_that_is_back_is_used_again(server: Postgres, engine: str) -> None:
    url = server.database()
    log = engines.writer(url, lock=event_store.LOCK)
    with log.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    server.stop(at_once=True)
    for _ in range(2):
        with pytest.raises(DBAPIError) as caught, log.begin():
            pass
        assert is_trouble(caught.value)
    server.start()
    with log.begin() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_text_that_it_can_not_hold_is_no_trouble_of_the_store(stores: Stores) -> None:
    with pytest.raises(DataError) as caught, stores.events.begin() as connection:
        append(connection, "nul-\0")
    assert not is_trouble(caught.value)


def test_a_deadlock_is_trouble_of_the_store(stores: Stores) -> None:
    with pytest.raises(DBAPIError) as caught, stores.events.begin() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
    assert is_trouble(caught.value)


def test_the_log_can_not_be_truncated_either(stores: Stores) -> None:
    with pytest.raises(DBAPIError, match="append-only"), stores.events.begin() as connection:
        connection.exec_driver_sql("TRUNCATE events")


def test_options_of_the_url_are_heeded_beside_ours(settings: Settings) -> None:
    log = engines.reader(f"{settings.event_store}?options=-c%20work_mem%3D5MB")
    with log.connect() as connection:
        shown = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("work_mem", "transaction_read_only")]
    assert shown == ["5MB", "on"]


def test_many_writers_at_once_all_get_their_turn(stores: Stores) -> None:
    start = threading.Barrier(20)

    def write(number: int) -> None:
        start.wait()
        with stores.events.begin() as connection:
            append(connection, f"a-{number}")

    with ThreadPoolExecutor(20) as threads:
        done, _ = wait([threads.submit(write, number) for number in range(20)])
        for each in done:
            each.result()
    assert [position for position, _ in visible(stores.events)] == list(range(1, 21))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_p8_a_connection_that_ends_while_commands_are_decided_on_is_no_command_s_fault(
    stores: Stores, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.getpid()

    def decide(command: Any, user: Any) -> Any:
        if os.getpid() == ours:
            postgres.cut(psutil.Process())
        return decider.decide(command, user)

    monkeypatch.setattr(handler, "AGGREGATES", {"user": replace(decider.users, decide=decide)})
    monkeypatch.setattr(watch, "LIMIT_SECONDS", 60)  # a probe that has to wait for the machine doesn't hang
    accept(stores, create("a@example.com"), create("b@example.com"))
    with stores.events.begin() as connection:
        note_of(stores.settings.event_store).write(connection, SOMEBODY)
    with capture_logs() as said, pytest.raises(DBAPIError) as caught:
        stores.handler.handle()
    assert is_trouble(caught.value)
    assert said == []


def test_writers_take_turns_whatever_isolation_the_database_has_by_default(stores: Stores) -> None:
    level = "?options=-c%20default_transaction_isolation%3Dserializable"
    writer = heed(engines.writer(f"{stores.settings.inbox}{level}", lock="inbox"), Subjects.of(stores.settings))
    with ThreadPoolExecutor(1) as thread:
        with writer.begin() as first:
            later = thread.submit(accept, stores._replace(inbox=writer), create("b@example.com"))
            eventually(lambda: waits(engines.reader(stores.settings.inbox)))
            answers = inbox.accept(first, [create("a@example.com")])
        [command] = later.result(30)
    assert (len(answers), command.seq) == (1, 2)
    writer.dispose()
