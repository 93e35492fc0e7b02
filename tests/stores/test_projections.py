"""Events to rows: every one, once, in order."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from cli.errors import Refused
from cli.stores.init import init
from shared.database import engines
from shared.domain.aggregates import EVENTS
from shared.domain.users.read_models.users import User, users, users_after
from shared.messages import Event, NewEvent, RecordedEvent
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from shared.stores.checkpoints import Stop
from shared.stores.event_store import Append
from tests.support.processes import in_process
from tests.support.stores import Stores, accept, create, once_on_postgresql, reads, refusing, update
from workers.projecting import chunk as projections
from workers.projecting import runner

pytestmark = pytest.mark.both_engines


def handle_all(stores: Stores) -> None:
    while stores.handler.handle():
        pass


def happen(stores: Stores, people: int) -> None:
    """So many people, and one change of address for each third."""
    accept(stores, *(create(f"{n}@example.com") for n in range(1, people + 1)))
    accept(stores, *(update(n, f"{n}.new@example.com") for n in range(3, people + 1, 3)))
    handle_all(stores)


def catch_up(stores: Stores) -> None:
    while runner.catch_up(stores.events, stores.read_model, users):
        pass


def rows(read_model: Engine) -> list[User]:
    with read_model.begin() as connection:
        return users_after(connection, 0, limit=100_000)


def reached(stores: Stores) -> int:
    with stores.read_model.begin() as connection:
        return checkpoints.position_of(connection, "users")


def test_users_show_the_latest_address_and_version(stores: Stores) -> None:
    happen(stores, 3)
    catch_up(stores)
    assert rows(stores.read_model) == [
        User(1, "John", "Doe", "1@example.com", 1),
        User(2, "John", "Doe", "2@example.com", 1),
        User(3, "John", "Doe", "3.new@example.com", 2),
    ]
    assert reached(stores) == 4


def test_p6_projected_twice_is_once(stores: Stores) -> None:
    happen(stores, 10)
    catch_up(stores)
    first = rows(stores.read_model)
    catch_up(stores)
    assert rows(stores.read_model) == first
    assert reached(stores) == 13


@pytest.mark.parametrize("chunk", once_on_postgresql(5, 1, 2, 13, 1000))
def test_p6_rebuilt_equals_incremental_whatever_the_chunk(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    for _ in range(3):
        happen(stores, 4)
        catch_up(stores)
    monkeypatch.setattr(projections, "CHUNK", chunk)
    fresh = stores.settings.model_copy(update={"read_model_url": f"sqlite:///{tmp_path / 'fresh.db'}"})
    init(fresh)
    rebuilt = engines.writer(fresh.read_model_of("users"), lock="users", durable=False)
    while runner.catch_up(stores.events, rebuilt, users):
        pass
    assert rows(rebuilt) == rows(stores.read_model)
    rebuilt.dispose()


def test_p6_rows_and_checkpoint_change_together_or_not_at_all(stores: Stores) -> None:
    happen(stores, 3)
    with refusing(stores.read_model, "UPDATE", "checkpoints"), pytest.raises(DBAPIError, match="refused"):
        catch_up(stores)
    assert (rows(stores.read_model), reached(stores)) == ([], 0)
    catch_up(stores)
    assert (len(rows(stores.read_model)), reached(stores)) == (3, 4)


def test_users_count_every_change(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "b@example.com"), update(1, "c@example.com"))
    handle_all(stores)
    catch_up(stores)
    assert rows(stores.read_model) == [User(1, "John", "Doe", "c@example.com", 3)]


def test_p6_what_is_appended_while_a_chunk_is_read_is_projected_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(stores, 3)
    read_all = event_store.read_all

    def then_more(*arguments: Any, **filters: Any) -> list[RecordedEvent]:
        monkeypatch.undo()
        events = read_all(*arguments, **filters)
        accept(stores, create("late@example.com"))
        handle_all(stores)
        return events

    monkeypatch.setattr(event_store, "read_all", then_more)
    log = reads(stores.settings, stores.settings.event_store)
    runner.catch_up(log, stores.read_model, users)
    log.dispose()
    assert reached(stores) == 4
    catch_up(stores)
    assert (len(rows(stores.read_model)), reached(stores)) == (4, 5)


def test_a_read_model_ahead_of_the_log_is_refused(stores: Stores) -> None:
    happen(stores, 1)
    with stores.read_model.begin() as connection:
        checkpoints.move(connection, "users", 7)
    with pytest.raises(projections.LogIsShorter, match="the log ends at 1, users is at 7 already"):
        catch_up(stores)
    with pytest.raises(Refused, match="the log ends at event 1, the read model at 7"):
        init(stores.settings)


@pytest.mark.sqlite_only
def test_an_inbox_that_ends_before_the_outcomes_is_refused(stores: Stores) -> None:
    happen(stores, 3)
    for path in stores.settings.data_dir.glob("inbox.db*"):
        path.unlink()
    with pytest.raises(Refused, match="the inbox ends at command 0, the event store at 4"):
        init(stores.settings)


def cannot_apply(position: int) -> Projection:
    """Users, but for one event."""

    def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        events = list(events)
        users.project(connection, events)
        if any(event.position == position for event, _ in events):
            raise ZeroDivisionError("a bug")

    return replace(users, project=project)


def bug(*_: object) -> None:
    raise ZeroDivisionError


def test_p6_a_projection_keeps_what_comes_before_an_event_that_it_can_not_apply(stores: Stores) -> None:
    happen(stores, 10)
    with capture_logs() as said:
        for _ in range(3):
            assert not runner.catch_up(stores.events, stores.read_model, cannot_apply(7))
    with stores.read_model.begin() as connection:
        assert checkpoints.stops(connection) == {"users": Stop(7, "ZeroDivisionError: a bug")}
    assert (len(rows(stores.read_model)), reached(stores)) == (6, 6)
    assert len([line for line in said if line["log_level"] == "error"]) == 1
    catch_up(stores)
    with stores.read_model.begin() as connection:
        assert checkpoints.stops(connection) == {}
    assert (len(rows(stores.read_model)), reached(stores)) == (10, 13)


def test_an_event_that_is_not_as_the_code_wants_it_stops_the_projection_too(stores: Stores) -> None:
    happen(stores, 1)
    with stores.events.begin() as connection:
        event_store.append(connection, Append("user-2", [NewEvent("UserCreated", {"user_id": "?"}, {})], 0))
    assert not runner.catch_up(stores.events, stores.read_model, users)
    with stores.read_model.begin() as connection:
        assert checkpoints.stops(connection)["users"].event == 2


def test_a_statement_that_fails_on_an_event_stops_the_projection_too(stores: Stores) -> None:
    def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        if any(event.position >= 2 for event, _ in events):
            connection.exec_driver_sql("SELECT no_column")

    happen(stores, 3)
    runner.catch_up(stores.events, stores.read_model, replace(users, project=project))
    with stores.read_model.begin() as connection:
        stop = checkpoints.stops(connection)["users"]
    assert stop.event == 2
    assert re.match("no such column|undefined column", stop.error)
    assert reached(stores) == 1


def test_words_that_a_store_can_not_hold_are_told_in_others(stores: Stores) -> None:
    def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        raise ValueError("a \0")

    happen(stores, 1)
    runner.catch_up(stores.events, stores.read_model, replace(users, project=project))
    with stores.read_model.begin() as connection:
        assert checkpoints.stops(connection) == {"users": Stop(1, r"ValueError: a \x00")}


def test_a_projection_that_stands_still_stops_no_other(stores: Stores) -> None:
    happen(stores, 3)
    broken = replace(users, name="broken", project=bug)
    for which in (broken, users):
        runner.try_to_catch_up(stores.events, stores.read_model, which)
    with stores.read_model.begin() as connection:
        assert [checkpoints.position_of(connection, name) for name in ("broken", "users")] == [0, 4]


def test_of_two_that_stand_still_one_may_go_on(stores: Stores) -> None:
    happen(stores, 3)
    for name in ("broken", "users"):
        runner.catch_up(stores.events, stores.read_model, replace(users, name=name, project=bug))
    catch_up(stores)
    with stores.read_model.begin() as connection:
        assert checkpoints.stops(connection).keys() == {"broken"}


def test_one_that_stands_still_tries_one_event_only(stores: Stores) -> None:
    happen(stores, 10)
    runner.catch_up(stores.events, stores.read_model, cannot_apply(7))
    tried: list[int] = []

    def project(_: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        tried.extend(event.position for event, _ in events)
        raise ZeroDivisionError

    runner.catch_up(stores.events, stores.read_model, replace(users, project=project))
    assert tried == [7]


def test_the_event_that_stops_it_is_found_in_few_tries(stores: Stores) -> None:
    happen(stores, 200)
    tries: list[int] = []

    def project(_: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        positions = [event.position for event, _ in events]
        tries.append(len(positions))
        if 150 in positions:
            raise ZeroDivisionError

    runner.catch_up(stores.events, stores.read_model, replace(users, project=project))
    assert reached(stores) == 149
    assert len(tries) <= 2 * 9


def test_an_event_that_can_not_be_decoded_leaves_nothing_of_those_behind_it(stores: Stores) -> None:
    happen(stores, 3)
    with stores.events.begin() as connection:
        event_store.append(connection, Append("user-9", [NewEvent("UserCreated", {"user_id": "?"}, {})]))
    happen(stores, 1)
    catch_up(stores)
    assert (len(rows(stores.read_model)), reached(stores)) == (3, 4)


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An aggregate that is known, and that no projection takes."""
    monkeypatch.setattr(projections, "EVENTS", {**EVENTS, "AccountOpened": Event})


@pytest.mark.usefixtures("accounts")
def test_a_log_full_of_other_aggregates_is_passed_chunk_by_chunk(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "CHUNK", 2)
    with stores.events.begin() as connection:
        event_store.append(connection, Append("account-1", [NewEvent("AccountOpened", {}, {})] * 7))
    happen(stores, 1)
    assert runner.catch_up(stores.events, stores.read_model, users)
    assert reached(stores) == 2
    catch_up(stores)
    assert (len(rows(stores.read_model)), reached(stores)) == (1, 8)


@pytest.mark.usefixtures("accounts")
def test_a_projection_is_not_called_for_nothing(stores: Stores) -> None:
    with stores.events.begin() as connection:
        event_store.append(connection, Append("account-1", [NewEvent("AccountOpened", {}, {})], 0))
    called: list[object] = []
    watching = replace(users, project=lambda _, events: called.append(events))
    runner.catch_up(stores.events, stores.read_model, watching)
    assert (called, reached(stores)) == ([], 1)


@pytest.mark.usefixtures("accounts")
def test_events_of_other_aggregates_move_the_checkpoint_only(stores: Stores) -> None:
    happen(stores, 1)
    with stores.events.begin() as connection:
        event_store.append(connection, Append("account-1", [NewEvent("AccountOpened", {}, {})] * 3, 0))
    catch_up(stores)
    assert (len(rows(stores.read_model)), reached(stores)) == (1, 4)


def project(settings: Settings, upto: int) -> None:
    store, read_model = (
        reads(settings, settings.event_store),
        engines.writer(settings.read_model_of("users"), lock="users", durable=False),
    )
    while True:
        runner.catch_up(store, read_model, users)
        with read_model.begin() as connection:
            if checkpoints.position_of(connection, "users") == upto:
                return


@pytest.mark.processes
def test_p6_racing_workers_project_each_event_once_while_events_are_appended(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [in_process(project, stores.settings, 1300) for _ in range(2)]
    accept(
        stores, *(create(f"{n}@example.com") for n in range(1000)), *(update(n, f"{n}.@x.com") for n in range(1, 301))
    )
    monkeypatch.setattr("workers.handling.handler.CHUNK", 50)
    handle_all(stores)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(rows(stores.read_model)) == 1000
    assert [row.version for row in rows(stores.read_model)] == [2] * 300 + [1] * 700
