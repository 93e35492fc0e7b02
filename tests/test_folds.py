"""A stream is folded once, and what is kept of that is never wrong."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cli.init import init
from shared import database, event_store
from shared.users import decider
from tests.helpers import Stores, accept, create, new_handler, update
from workers import commands, folds
from workers.commands import CommandHandler


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every event that is folded."""
    events: list[Any] = []

    def evolve(user: Any, event: Any) -> Any:
        events.append(event)
        return decider.evolve(user, event)

    monkeypatch.setattr(commands, "AGGREGATES", {"user": replace(commands.AGGREGATES["user"], evolve=evolve)})
    return events


def another_worker(stores: Stores) -> CommandHandler:
    return new_handler(stores.settings, database.writer(stores.settings.event_store))


def change(stores: Stores, email: str) -> None:
    accept(stores, update(1, email))
    stores.handler.handle()


def addresses(stores: Stores) -> list[str | None]:
    with stores.events.begin() as connection:
        return [event.data.get("new_email") for event in event_store.read_stream(connection, "user-1")]


def test_a_long_stream_is_not_folded_again_for_each_message(stores: Stores, folded: list[Any]) -> None:
    accept(stores, create(), *(update(1, f"{n}@example.com") for n in range(100)))
    stores.handler.handle()
    folded.clear()
    for n in range(10):
        change(stores, f"later.{n}@example.com")
    assert len(folded) == 10


def test_a_worker_that_has_just_started_folds_the_whole_stream(stores: Stores, folded: list[Any]) -> None:
    accept(stores, create(), *(update(1, f"{n}@example.com") for n in range(10)))
    stores.handler.handle()
    folded.clear()
    accept(stores, update(1, "later@example.com"))
    another_worker(stores).handle()
    assert len(folded) == 11 + 1


def test_what_another_worker_appended_is_folded_in(stores: Stores, folded: list[Any]) -> None:
    accept(stores, create())
    stores.handler.handle()
    accept(stores, update(1, "b@example.com"), update(1, "c@example.com"))
    another_worker(stores).handle()
    folded.clear()
    change(stores, "c@example.com")
    assert len(folded) == 2
    assert addresses(stores) == [None, "b@example.com", "c@example.com"]


def test_what_was_kept_of_a_store_that_is_replaced_is_forgotten(stores: Stores) -> None:
    accept(stores, create("old@example.com"))
    stores.handler.handle()
    stores.inbox.dispose()
    for path in stores.settings.data_dir.glob("*.db*"):
        path.unlink()
    init(stores.settings)
    accept(stores, create("new@example.com"))
    another_worker(stores).handle()
    change(stores, "old@example.com")
    assert addresses(stores) == [None, "old@example.com"]


def test_what_was_not_committed_is_not_kept(stores: Stores) -> None:
    accept(stores, create("a@example.com"))
    stores.handler.handle()
    with stores.events.begin() as connection:
        connection.exec_driver_sql(
            f"PRAGMA max_page_count = {connection.exec_driver_sql('PRAGMA page_count').scalar()}"
        )
    accept(stores, *(update(1, f"{n}@example.com") for n in range(200)))
    with pytest.raises(OperationalError):
        stores.handler.handle()
    with stores.events.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    accept(stores, update(1, "199@example.com"))
    stores.handler.handle()
    assert addresses(stores) == [None, *(f"{n}@example.com" for n in range(200))]


def test_only_so_many_streams_are_kept(stores: Stores, folded: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "KEPT", 2)
    accept(stores, *(create(f"{n}@example.com") for n in range(1, 6)))
    stores.handler.handle()
    folded.clear()
    accept(stores, update(5, "a@example.com"))
    stores.handler.handle()
    assert len(folded) == 1
    accept(stores, update(1, "b@example.com"))
    stores.handler.handle()
    assert len(folded) == 1 + 2
    accept(stores, update(5, "c@example.com"), create("6@example.com"), update(5, "d@example.com"))
    stores.handler.handle()
    folded.clear()
    accept(stores, update(5, "e@example.com"))
    stores.handler.handle()
    assert len(folded) == 1
