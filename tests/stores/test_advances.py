"""When a position became visible: projection workers record it, and it stays for an hour."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update as change

from cli.projections.rebuild import rebuild
from shared.clock import now, written
from shared.domain.users.read_models.users import users
from shared.stores import advances, checkpoints
from tests.support.stores import Stores, accept, create
from workers.projecting import chunk, runner

pytestmark = pytest.mark.both_engines


def happen(stores: Stores, *emails: str) -> None:
    accept(stores, *map(create, emails))
    while stores.handler.handle():
        pass


def catch_up(stores: Stores) -> None:
    while runner.catch_up(stores.events, stores.read_model, users):
        pass


def known(stores: Stores) -> dict[int, str]:
    with stores.read_model.begin() as connection:
        return advances.visible_at(connection, "users", range(20))


def let_time_pass(stores: Stores, *, seconds: float = 0) -> None:
    """As if all there is had been there for so long."""
    with stores.read_model.begin() as connection:
        connection.execute(change(advances.table).values(at=written(datetime.now(UTC) - timedelta(seconds=seconds))))


def test_each_position_is_visible_from_the_transaction_that_shows_it(stores: Stores) -> None:
    happen(stores, "1@example.com", "2@example.com")
    before = now()
    catch_up(stores)
    between = now()
    happen(stores, "3@example.com")
    catch_up(stores)
    found = known(stores)
    assert found.keys() == {1, 2, 3}
    assert before < found[1] == found[2] < between < found[3] < now()


def test_what_is_shown_late_counts_from_when_it_was_shown(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    happen(stores, "1@example.com")
    catch_up(stores)
    monkeypatch.setattr(advances, "LATE", timedelta(0))
    monkeypatch.setattr(chunk, "CHUNK", 1)
    happen(stores, "2@example.com", "3@example.com")
    catch_up(stores)
    assert known(stores).keys() == {1, 2, 3}


def test_what_is_replayed_was_visible_before_and_is_not_known(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advances, "LATE", timedelta(0))
    monkeypatch.setattr(chunk, "CHUNK", 1)
    happen(stores, "1@example.com", "2@example.com", "3@example.com")
    catch_up(stores)
    assert known(stores) == {}
    monkeypatch.undo()
    happen(stores, "4@example.com")
    catch_up(stores)
    assert known(stores).keys() == {4}


def test_what_is_shown_twice_counts_from_the_first_time(stores: Stores) -> None:
    happen(stores, "1@example.com")
    catch_up(stores)
    first = known(stores)
    with stores.read_model.begin() as connection:
        checkpoints.move(connection, "users", 0)
    catch_up(stores)
    assert known(stores) == first


def test_rows_are_forgotten_after_an_hour_but_for_the_last(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advances, "FORGOTTEN_AT_ONCE", 2)
    for number in range(4):
        happen(stores, f"{number}@example.com")
        catch_up(stores)
    let_time_pass(stores, seconds=3590)
    runner.try_to_forget(stores.read_model, "users")
    assert known(stores).keys() == {1, 2, 3, 4}
    let_time_pass(stores, seconds=3610)
    runner.try_to_forget(stores.read_model, "users")
    assert known(stores).keys() == {4}


def test_a_rebuild_shows_what_was_behind_and_nothing_else_anew(stores: Stores) -> None:
    happen(stores, "1@example.com", "2@example.com")
    catch_up(stores)
    first = known(stores)
    happen(stores, "3@example.com")
    between = now()
    rebuild(stores.settings, users, check=False, resume=False, pause=False)
    found = known(stores)
    assert found.items() > first.items()
    assert found[3] > between
