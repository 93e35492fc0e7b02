"""Retention: handled commands lose their data and idempotency keys once they are old, and no others do."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from shared.clock import now, written
from shared.database import engines, sqlite
from shared.database.errors import Taken
from shared.stores import inbox, outcomes
from shared.stores.inbox import KeyReused, commands
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, new_handler
from tests.support.stores import update as change
from workers.handling.batch import MAX_TRIES
from workers.upkeep import retention
from workers.upkeep.retention import CautiousClock, Retention

pytestmark = pytest.mark.both_engines

KEEP = timedelta(days=90)


@pytest.fixture
def old(stores: Stores) -> Iterator[Retention]:
    """What a command worker has, whose clock is believed."""
    urls = stores.settings
    with (
        engines.briefly(engines.reader(urls.inbox)) as reading,
        engines.briefly(engines.writer(urls.inbox, lock="inbox", waits=False)) as writing,
        engines.briefly(engines.writer(urls.event_store, lock="event_store", waits=False)) as store,
    ):
        made = Retention(reading, writing, store, KEEP)
        made._clock = CautiousClock(now())
        yield made


def days_ago(days: float) -> str:
    return written(datetime.now(UTC) - timedelta(days=days))


def age(stores: Stores, *days: float) -> None:
    """The first commands were accepted so many days ago."""
    with stores.inbox.begin() as connection:
        for seq, its in enumerate(days, 1):
            connection.execute(update(commands).where(commands.c.seq == seq).values(accepted_at=days_ago(its)))


def handle(stores: Stores) -> None:
    while stores.handler.handle():
        pass


def emptied(stores: Stores) -> list[int]:
    with stores.inbox.begin() as connection:
        return [each.seq for each in inbox.read_after(connection, 0, limit=10_000) if each.is_emptied]


def accept_and_handle(stores: Stores, *days: float) -> None:
    accept(stores, *(create(f"{n}@example.com", idempotency_key=f"key {n}") for n in range(1, len(days) + 1)))
    handle(stores)
    age(stores, *days)


def test_old_commands_lose_data_and_keys_and_nothing_else(stores: Stores, old: Retention) -> None:
    accept_and_handle(stores, 91, 90.1, 89.9, 1)
    with stores.inbox.begin() as connection:
        before = inbox.read(connection, [1, 2, 3, 4])
    assert old.empty() == 2
    with stores.inbox.begin() as connection:
        after = inbox.read(connection, [1, 2, 3, 4])
        rows = connection.execute(commands.select().order_by(commands.c.seq)).all()
    assert after == [before[0]._replace(data=""), before[1]._replace(data=""), *before[2:]]
    assert [bool(row.idempotency_key) for row in rows] == [False, False, True, True]
    assert [bool(row.fingerprint) for row in rows] == [False, False, True, True]
    assert old.empty() == 0
    assert told(stores.settings, "verify")["well"]


def test_a_request_sent_again_with_a_key_that_is_gone_is_a_new_command(stores: Stores, old: Retention) -> None:
    accept_and_handle(stores, 91, 1)
    old.empty()
    again, other = create("1@example.com", idempotency_key="key 1"), create("2@example.com", idempotency_key="key 2")
    with stores.inbox.begin() as connection:
        first, second = inbox.accept(connection, [again, other])
        third = inbox.accept(connection, [create("other@example.com", idempotency_key="key 1")])
    assert isinstance(first, inbox.Acceptance)
    assert (first.command.seq, first.replayed) == (3, False)
    assert isinstance(second, inbox.Acceptance)
    assert second.replayed
    assert isinstance(third[0], KeyReused)


def test_a_batch_goes_on_where_the_last_one_ended(
    stores: Stores, old: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    accept_and_handle(stores, *[100] * 7, 1)
    assert [old.empty() for _ in range(4)] == [3, 3, 1, 0]
    assert emptied(stores) == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_not_handled_keeps_its_data(stores: Stores, old: Retention) -> None:
    accept_and_handle(stores, 100, 100)
    accept(stores, create("waits@example.com"))
    age(stores, 100, 100, 100)
    assert old.empty() == 2
    assert old.empty() == 0
    assert emptied(stores) == [1, 2]
    accept(stores, create("now@example.com"))
    handle(stores)
    assert old.empty() == 1


@pytest.mark.usefixtures("poison")
def test_a_command_set_aside_keeps_its_data_and_holds_up_those_behind_it(stores: Stores, old: Retention) -> None:
    accept(stores, create("a@example.com"), create("poison@example.com"), create("b@example.com"))
    handle(stores)
    age(stores, 100, 100, 100)
    for _ in range(MAX_TRIES - 1):
        old.empty()
        assert emptied(stores) == [1]
        stores.handler.retry()
    with stores.events.begin() as connection:
        assert outcomes.failed(connection, limit=10) == [2]
    assert old.empty() == 2
    assert emptied(stores) == [1, 2, 3]


@pytest.mark.usefixtures("poison")
def test_a_retried_command_has_its_data_and_one_that_has_none_is_not_retried(stores: Stores, old: Retention) -> None:
    [command] = accept(stores, create("poison@example.com"))
    handle(stores)
    while stores.handler.retry() == 0:
        pass
    age(stores, 100)
    cqrs(stores.settings, "commands", "retry", command.command_id)
    assert old.empty() == 0
    while stores.handler.retry() == 0:
        pass
    assert old.empty() == 1
    refused = cqrs(stores.settings, "commands", "retry", command.command_id, code=1)
    assert f"cqrs: the command {command.command_id} is too old to be retried: its data was taken away" in refused
    shown = told(stores.settings, "commands", "show", command.command_id)
    assert (shown["data"], shown["emptied"], shown["status"]) == (None, True, "failed")
    assert told(stores.settings, "commands", "list")[0]["emptied"]


def test_a_command_that_ended_its_process_keeps_its_data_until_it_is_decided(stores: Stores, old: Retention) -> None:
    """The note names it; a worker that starts takes it up first."""
    accept_and_handle(stores, 100)
    accept(stores, create("deadly@example.com"))
    age(stores, 100, 100)
    died = new_handler(stores.settings, stores.events)
    with stores.events.begin() as connection:
        died._caution._watch._note.write(connection, 2)
    assert [old.empty(), old.empty()] == [1, 0]
    stores.handler.handle()
    [aside] = told(stores.settings, "commands", "list", "--limit", "1")
    assert (aside["status"], aside["tries"], aside["data"]["email"]) == ("accepted", 1, "deadly@example.com")
    assert old.empty() == 0


def test_times_that_clocks_gave_wrong(stores: Stores, old: Retention) -> None:
    """One is ahead by years: the command is as old as the next one. One is back by years: it waits for those before."""
    accept_and_handle(stores, 100, -10_000, 99, 1, 5_000, -10_000, 0)
    assert old.empty() == 3
    assert old.empty() == 0
    assert emptied(stores) == [1, 2, 3]


def test_more_commands_of_a_time_to_come_than_a_batch_has_go_batch_by_batch(
    stores: Stores, old: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    accept_and_handle(stores, *[-10_000] * 5, 100, 1)
    assert [old.empty() for _ in range(4)] == [2, 2, 2, 0]


def test_a_clock_far_ahead_is_not_believed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = datetime.now(UTC) + timedelta(days=10_000)

    class Wrong(datetime):
        @classmethod
        def now(cls, _: object = None) -> datetime:  # type: ignore[override]
            return ahead

    passed = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    clock = CautiousClock(days_ago(1))
    monkeypatch.setattr(retention, "datetime", Wrong)
    began = clock.time()
    assert began < ahead - timedelta(days=9_999)
    passed[0] += 3600
    assert clock.time() == began + timedelta(days=1)
    ahead = began  # it is set right
    assert clock.time() == began


def test_a_worker_behind_a_long_rest_comes_to_the_present_time(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    clock = CautiousClock(days_ago(48))
    assert clock.time() < datetime.now(UTC) - timedelta(days=47)
    passed[0] += 3 * 24 * 3600
    assert datetime.now(UTC) - clock.time() < timedelta(seconds=10)


def test_it_waits_for_no_lock(stores: Stores, old: Retention) -> None:
    accept_and_handle(stores, 100, 1)
    for held in (stores.events, stores.inbox):
        began = time.monotonic()
        with held.begin(), pytest.raises(Taken):
            old.empty()
        assert time.monotonic() - began < sqlite.BUSY_TIMEOUT / 2
    assert old.empty() == 1


def test_looks_are_rare_and_soon_again_where_there_is_more(
    stores: Stores, old: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    accept_and_handle(stores, *[100] * 6, 1)
    at = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    found: list[int] = []
    for _ in range(100):
        old.look()
        found.append(len(emptied(stores)))
        at[0] += 1
    assert [found.count(number) for number in (4, 6)] == [2, 98]


def test_0_days_are_for_ever(stores: Stores) -> None:
    accept_and_handle(stores, 10_000, 0)
    Retention(stores.inbox, stores.inbox, stores.events, timedelta(0)).look()
    assert emptied(stores) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE commands SET data = '' WHERE seq = 2", "the inbox: command 2 has no data, and 1 before it has"),
        ("UPDATE commands SET data = '' WHERE seq <= 3", "the inbox: command 3 has no data, and has yet to be handled"),
    ],
)
def test_verify_names_data_that_is_missing(stores: Stores, statement: str, named: str) -> None:
    accept_and_handle(stores, 100, 100)
    accept(stores, change(1, "waits@example.com"))
    with stores.inbox.begin() as connection:
        connection.exec_driver_sql(statement)
    assert told(stores.settings, "verify", code=1)["wrong"] == named
