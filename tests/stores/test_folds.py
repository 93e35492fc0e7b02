"""A stream is folded once, and what is kept of that is never wrong."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cli.stores.init import init
from shared.database import engines
from shared.domain.users import decider
from shared.domain.users.decider import User
from shared.settings import Settings
from shared.stores import event_store
from tests.support.processes import in_process
from tests.support.stores import Stores, accept, create, new_handler, update
from workers.handling import folds
from workers.handling import handler as commands
from workers.handling.handler import CommandHandler

pytestmark = pytest.mark.both_engines


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every event that is folded."""
    events: list[Any] = []

    def evolve(user: Any, event: Any) -> Any:
        events.append(event)
        return decider.evolve(user, event)

    monkeypatch.setattr(commands, "AGGREGATES", {"user": replace(decider.users, evolve=evolve)})
    return events


def another_worker(stores: Stores) -> CommandHandler:
    return new_handler(stores.settings, engines.writer(stores.settings.event_store, lock="event_store"))


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


@pytest.mark.sqlite_only
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


@pytest.mark.sqlite_only
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


def killed_before(commit: Callable[[], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after(commit: Callable[[], None]) -> None:
    commit()
    os.kill(os.getpid(), signal.SIGKILL)


def in_lower_case(user: User | None, event: Any) -> User:
    return User((decider.evolve(user, event).email or "").lower())


def work(settings: Settings, evolve: Any, second_commit: Any) -> None:
    """Handle what waits, one command in a transaction."""
    commands.CHUNK = 1
    commands.AGGREGATES = {"user": replace(decider.users, evolve=evolve)}  # type: ignore[attr-defined]
    store: Any = engines.writer(settings.event_store, lock="event_store")
    commits, do_commit = count(1), store.dialect.do_commit

    def commit(connection: Any) -> None:
        if second_commit and next(commits) == 2:
            second_commit(lambda: do_commit(connection))
        do_commit(connection)

    store.dialect.do_commit = commit
    handler = new_handler(settings, store)
    while handler.handle():
        pass


def process(stores: Stores, evolve: Any = decider.evolve, second_commit: Any = None) -> int | None:
    """Returns the exit code of a worker in a process of its own."""
    process = in_process(work, stores.settings, evolve, second_commit)
    process.join(60)
    return process.exitcode


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.parametrize("kill", [killed_before, killed_after])
def test_after_a_kill_around_the_commit_workers_old_and_new_fold_what_is_there(stores: Stores, kill: Any) -> None:
    accept(stores, create("a@example.com"))
    stores.handler.handle()
    accept(stores, *(update(1, f"{name}@example.com") for name in "bbaab"))
    kills = 0
    while end := process(stores, second_commit=kill):
        assert end == -signal.SIGKILL
        kills += 1
    assert kills > 1
    change(stores, "b@example.com")
    change(stores, "c@example.com")
    assert addresses(stores) == [None, "b@example.com", "a@example.com", "b@example.com", "c@example.com"]


@pytest.mark.long
@pytest.mark.processes
def test_rules_that_fold_in_another_way_are_in_force_in_the_next_process(stores: Stores) -> None:
    accept(stores, create("A@example.com"))
    assert process(stores) == 0
    accept(stores, update(1, "a@example.com"))
    assert process(stores, in_lower_case) == 0
    assert addresses(stores) == [None]
    accept(stores, update(1, "a@example.com"))
    assert process(stores) == 0
    assert addresses(stores) == [None, "a@example.com"]
