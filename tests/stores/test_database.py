"""Engines: durable where it counts, and never on a file that nobody would find again."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, OperationalError

from shared.database import engines, sqlite, statements
from shared.stores import event_store, inbox
from tests.support.stores import Stores, accept, create


def test_p1_a_committed_command_and_event_survive_power_loss(stores: Stores) -> None:
    for store in (stores.inbox, stores.events):
        with store.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("engine_of", [partial(engines.writer, lock="inbox"), engines.reader])
def test_a_file_that_is_not_there_is_an_error_and_not_a_new_one(
    tmp_path: Path, engine_of: Callable[[str], Engine]
) -> None:
    with pytest.raises(OperationalError, match="unable to open"):
        engine_of(f"sqlite:///{tmp_path / 'store.db'}").connect()
    assert list(tmp_path.iterdir()) == []


def test_p8_a_file_that_is_deleted_or_replaced_is_noticed_at_once(stores: Stores) -> None:
    accept(stores, create("a@example.com"))
    path = stores.settings.data_dir / "inbox.db"
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(OperationalError, match="unable to open"):
        accept(stores, create("b@example.com"))
    path.with_name("elsewhere.db").rename(path)
    [command] = accept(stores, create("b@example.com"))
    assert command.seq == 2


def test_p8_after_trouble_a_store_is_opened_anew_and_after_a_refused_row_it_is_not(stores: Stores) -> None:
    def opened() -> object:
        with stores.inbox.connect() as connection:
            return connection.connection.driver_connection

    first = opened()
    with pytest.raises(IntegrityError), stores.inbox.begin() as connection:
        connection.exec_driver_sql("INSERT INTO commands (seq) VALUES (1)")
    assert opened() is first
    with pytest.raises(OperationalError), stores.inbox.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert opened() is first
    with stores.inbox.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        with pytest.raises(OperationalError, match="readonly"):
            connection.exec_driver_sql("DELETE FROM commands")
    assert opened() is not first
    accept(stores, create())


def test_p8_trouble_is_told_and_mended_the_same_way_for_rows_that_go_straight_to_the_driver(stores: Stores) -> None:
    def opened() -> object:
        with stores.events.connect() as connection:
            return connection.connection.driver_connection

    row = (1, "a-1", 1, "A", "{}", "{}", "", 1, None)
    first = opened()
    with pytest.raises(IntegrityError), stores.events.begin() as connection:
        statements.insert_rows(connection, event_store.events, [row, row])
    assert opened() is first
    with stores.events.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        with pytest.raises(OperationalError, match="readonly"):
            statements.insert_rows(connection, event_store.events, [row])
    assert opened() is not first
    with stores.events.begin() as connection:
        assert event_store.last_position(connection) == 0


def test_a_writer_has_the_lock_before_it_reads(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    second = engines.writer(stores.settings.inbox, lock="inbox")
    with stores.inbox.begin() as connection:
        inbox.last_seq(connection)
        with pytest.raises(OperationalError, match="locked"), second.begin():
            pass
    with second.begin():
        pass
    second.dispose()
