"""The acceptor and the announcer: group commit, all or none, and a bus that never holds anything up."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import pysqlite3.dbapi2 as sqlite3
import pytest
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from api.accepting import acceptor as acceptance
from api.accepting.acceptor import BATCH_MAX, Acceptor
from api.accepting.announcer import Announcer
from api.accepting.limit import Limit
from api.http.problems import Problem
from shared.broker import bus
from shared.database import engines, sqlite
from shared.database.errors import is_trouble
from shared.stores import inbox
from shared.stores.inbox import Submission
from shared.stores.subjects import Subjects, heed
from tests.support.service import eventually
from tests.support.stores import Stores, accept, create, reads


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the inbox transactions."""
    sizes: list[int] = []
    accept = inbox.accept

    def counting(connection: Any, batch: Sequence[Submission], *more: Any, **others: Any) -> Any:
        sizes.append(len(batch))
        return accept(connection, batch, *more, **others)

    monkeypatch.setattr(inbox, "accept", counting)
    return sizes


def no_announcement() -> None: ...


def limit(stores: Stores, backlog: int = 10**9) -> Limit:
    return Limit(stores.events, backlog)


def test_commands_that_come_together_are_committed_together_and_announced_once(
    stores: Stores, batches: list[int]
) -> None:
    announced: list[int] = []

    async def story() -> list[int]:
        acceptor = Acceptor(stores.inbox, limit(stores), lambda: announced.append(1))
        answers = await asyncio.gather(*(acceptor.accept(create(f"{n}@example.com")) for n in range(50)))
        await acceptor.close()
        return [answer.command.seq for answer in answers]

    assert asyncio.run(story()) == list(range(1, 51))
    assert sum(batches) == 50
    assert len(announced) == len(batches) <= 2


def test_workers_are_woken_once_a_command_is_committed_however_busy_the_event_loop_is(stores: Stores) -> None:
    committed, woken = threading.Event(), threading.Event()

    def announce() -> None:
        with stores.inbox.connect() as connection:
            if inbox.last_seq(connection) == 1:
                committed.set()
        woken.set()

    async def story() -> None:
        acceptor = Acceptor(stores.inbox, limit(stores), announce)
        accepting = asyncio.create_task(acceptor.accept(create()))
        for _ in range(2):  # until the commit is handed to its thread
            await asyncio.sleep(0)
        assert woken.wait(20)
        await accepting
        await acceptor.close()

    asyncio.run(story())
    assert committed.is_set()


def test_one_command_alone_waits_for_no_other(stores: Stores, batches: list[int]) -> None:
    async def story() -> None:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        for number in range(3):
            await asyncio.wait_for(acceptor.accept(create(f"{number}@example.com")), 20)
        await acceptor.close()

    asyncio.run(story())
    assert batches == [1, 1, 1]


def test_p8_when_the_commit_fails_every_command_of_the_batch_is_told_and_none_is_kept(stores: Stores) -> None:
    with stores.inbox.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON commands BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        batch = (acceptor.accept(create(f"{n}@example.com")) for n in range(5))
        answers = await asyncio.gather(*batch, return_exceptions=True)
        with stores.inbox.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")
        answers.append(await acceptor.accept(create("later@example.com")))
        await acceptor.close()
        return answers

    *failed, later = asyncio.run(story())
    assert all(isinstance(answer, DBAPIError) for answer in failed)
    assert later.command.seq == 1


def test_p8_when_the_store_is_in_trouble_nobody_waits_for_it_twice(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 2)
    engine = heed(engines.writer(stores.settings.inbox, lock="inbox"), Subjects.of(stores.settings))

    async def story() -> tuple[list[Any], float]:
        acceptor = Acceptor(engine, limit(stores), no_announcement)
        with contextlib.closing(sqlite3.connect(sqlite.path_of(stores.settings.inbox))) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            first = asyncio.create_task(acceptor.accept(create()))
            await asyncio.sleep(0)
            behind = (acceptor.accept(create(f"{n}@example.com")) for n in range(5))
            answers = await asyncio.gather(first, *behind, return_exceptions=True)
            took = time.monotonic() - began
        await acceptor.accept(create())
        await acceptor.close()
        return answers, took

    answers, took = asyncio.run(story())
    assert all(isinstance(answer, DBAPIError) for answer in answers)
    assert 2 <= took < 3.8
    engine.dispose()


def test_p8_while_the_store_says_nothing_who_waits_is_told_and_nothing_of_it_is_accepted_later(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "COMMIT_TIMEOUT", 0.3)
    speaks = threading.Event()

    class Silent:
        def begin(self) -> Any:
            speaks.wait()
            return stores.inbox.begin()

    async def story() -> list[Any]:
        silent: Any = Silent()
        acceptor = Acceptor(silent, limit(stores), no_announcement)
        told = [
            (await asyncio.gather(acceptor.accept(create(f"{n}@example.com")), return_exceptions=True))[0]
            for n in range(3)
        ]
        speaks.set()
        later = await acceptor.accept(create("later@example.com"))
        await acceptor.close()
        return [*told, later]

    *told, later = asyncio.run(story())
    assert all(is_trouble(answer) for answer in told)
    assert later.command.seq == 1
    with stores.inbox.begin() as connection:
        addresses = [json.loads(each.data)["email"] for each in inbox.read_after(connection, 0, limit=9)]
    assert addresses == ["later@example.com"]


class Panic(BaseException):
    """What Rust raises, and not an Exception."""


@pytest.mark.parametrize("error", [ValueError(), Panic()])
def test_what_is_wrong_with_one_batch_is_not_held_against_the_next(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    good = inbox.accept

    def bad(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(inbox, "accept", good)
        raise error

    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        answers = await asyncio.gather(
            *(acceptor.accept(create()) for _ in range(BATCH_MAX + 1)), return_exceptions=True
        )
        await acceptor.close()
        return answers

    monkeypatch.setattr(inbox, "accept", bad)
    *failed, behind = asyncio.run(story())
    assert all(answer is error for answer in failed)
    assert behind.command.seq == 1


def test_p8_without_the_event_store_the_backlog_begins_where_the_inbox_ends(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(20)))
    stores.handler.handle()
    settings = stores.settings.model_copy(update={"max_backlog": 5})
    (settings.data_dir / "events.db").rename(settings.data_dir / "gone.db")
    its = Limit(engines.reader(settings.event_store), settings.max_backlog)
    assert [its.highest(20), its.highest(22)] == [25, 25]
    (settings.data_dir / "gone.db").rename(settings.data_dir / "events.db")
    accept(stores, *(create(f"more{n}@example.com") for n in range(4)))
    stores.handler.handle()
    assert its.highest(25) == 29


def test_p8_the_backlog_is_that_of_the_stores_that_are_there(stores: Stores) -> None:
    its = limit(stores, 5)
    its._handled, its._known = 5_000_000, True
    assert its.highest(1) == 5


def test_p8_when_the_backlog_is_full_a_command_is_refused_and_a_replay_answered(stores: Stores) -> None:
    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, limit(stores, 2), no_announcement)
        commands = [create("a@example.com", idempotency_key="k"), create("b@example.com"), create("c@example.com")]
        again = create("a@example.com", idempotency_key="k")
        answers = await asyncio.gather(*map(acceptor.accept, [*commands, again]), return_exceptions=True)
        await acceptor.close()
        return answers

    first, second, refused, again = asyncio.run(story())
    assert (first.command.seq, second.command.seq) == (1, 2)
    assert isinstance(refused, Problem)
    assert (refused.document["status"], refused.document["type"]) == (503, "/problems/backlog-full")
    assert refused.headers == {"Retry-After": "1"}
    assert (again.command, again.replayed) == (first.command, True)


def test_p1_when_the_answer_comes_the_command_is_committed(stores: Stores) -> None:
    async def story() -> bool:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        answer = await acceptor.accept(create())
        reader = reads(stores.settings, stores.settings.inbox)
        with reader.connect() as connection:
            found = inbox.find(connection, answer.command.command_id) == answer.command
        reader.dispose()
        await acceptor.close()
        return found

    assert asyncio.run(story())


def test_more_than_one_transaction_takes_follow_in_order(stores: Stores, batches: list[int]) -> None:
    async def story() -> list[int]:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        answers = await asyncio.gather(*(acceptor.accept(create(f"{n}@example.com")) for n in range(1300)))
        await acceptor.close()
        return [answer.command.seq for answer in answers]

    assert asyncio.run(story()) == list(range(1, 1301))
    assert max(batches) == BATCH_MAX


def test_closing_waits_for_what_is_being_committed(stores: Stores) -> None:
    async def story() -> bool:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        answer = asyncio.create_task(acceptor.accept(create()))
        await asyncio.sleep(0)
        await acceptor.close()
        await asyncio.sleep(0)
        return answer.done()

    assert asyncio.run(story())


def test_a_key_that_was_used_for_something_else_fails_its_request_alone(stores: Stores) -> None:
    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        batch = [create("a@example.com", idempotency_key="k"), create("b@example.com", idempotency_key="k"), create()]
        answers = await asyncio.gather(*map(acceptor.accept, batch), return_exceptions=True)
        await acceptor.close()
        return answers

    first, second, third = asyncio.run(story())
    assert isinstance(second, Problem)
    assert (first.command.seq, second.document["status"], third.command.seq) == (1, 422, 2)


def test_a_client_that_goes_away_harms_no_other(stores: Stores) -> None:
    async def story() -> int:
        acceptor = Acceptor(stores.inbox, limit(stores), no_announcement)
        gone = asyncio.create_task(acceptor.accept(create("a@example.com")))
        stays = asyncio.create_task(acceptor.accept(create("b@example.com")))
        await asyncio.sleep(0)
        gone.cancel()
        answer = await stays
        await acceptor.close()
        return answer.command.seq

    assert asyncio.run(story()) == 2


@pytest.fixture
def bus_down(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each message to come, whether the bus is down; it collects nothing else."""
    downs: list[bool] = []

    def wake(app: Any, task: str) -> None:
        if downs.pop(0):
            raise bus.BrokerDown[0]("down")

    monkeypatch.setattr(bus, "wake", wake)
    return downs


def test_what_is_accepted_while_a_message_is_sent_is_announced_by_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    go_on = threading.Event()

    def wake(app: Any, task: str) -> None:
        sent.append(task)
        go_on.wait(30)

    monkeypatch.setattr(bus, "wake", wake)

    async def story() -> None:
        announcer = Announcer(None)
        announcer.announce()
        eventually(lambda: sent)
        for _ in range(9):
            announcer.announce()
        go_on.set()
        await announcer.close()

    asyncio.run(story())
    assert len(sent) == 2


def test_a_message_that_can_not_be_sent_is_dropped_and_the_next_one_sent(bus_down: list[bool]) -> None:
    bus_down += [True, False]

    async def story() -> None:
        announcer = Announcer(None)
        announcer.announce()
        eventually(lambda: len(bus_down) == 1)
        announcer.announce()
        await announcer.close()

    asyncio.run(story())
    assert bus_down == []


def test_an_outage_of_the_bus_is_told_once(bus_down: list[bool]) -> None:
    bus_down += [True, True, False, True, False]
    waker = bus.Waker(None)
    with capture_logs() as said:
        while bus_down:
            waker.wake(bus.HANDLE_COMMANDS)
    assert len(said) == 2


def test_an_error_no_one_expected_stops_no_later_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bool] = []

    def wake(app: Any, task: str) -> None:
        sent.append(True)
        if len(sent) == 1:
            raise RuntimeError("a bug")

    monkeypatch.setattr(bus, "wake", wake)

    async def story() -> None:
        announcer = Announcer(None)
        announcer.announce()
        eventually(lambda: len(sent) == 1)
        announcer.announce()
        await announcer.close()

    asyncio.run(story())
    assert len(sent) == 2
