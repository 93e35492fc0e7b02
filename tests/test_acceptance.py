"""The acceptor and the announcer: group commit, all or none, and a bus that never holds anything up."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from api.acceptance import Acceptor, Announcer
from api.problems import Problem
from shared import bus, inbox
from shared.inbox import Submission
from tests.conftest import Stores
from tests.helpers import create


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the inbox transactions."""
    sizes: list[int] = []
    accept = inbox.accept

    def counting(connection: Any, batch: Sequence[Submission]) -> Any:
        sizes.append(len(batch))
        return accept(connection, batch)

    monkeypatch.setattr(inbox, "accept", counting)
    return sizes


def no_announcement(streams: dict[str, int]) -> None: ...


def test_commands_that_come_together_are_committed_together_and_announced_in_one_message(
    stores: Stores, batches: list[int]
) -> None:
    announced: list[dict[str, int]] = []

    async def story() -> list[int]:
        acceptor = Acceptor(stores.inbox, announced.append)
        answers = await asyncio.gather(*(acceptor.accept(create(f"{n}@example.com")) for n in range(50)))
        await acceptor.close()
        return [answer.command.seq for answer in answers]

    assert asyncio.run(story()) == list(range(1, 51))
    assert sum(batches) == 50
    assert len(batches) <= 2
    assert {stream: seq for message in announced for stream, seq in message.items()} == {
        f"user-{n}": n for n in range(1, 51)
    }
    assert len(announced) == len(batches)


def test_one_command_alone_waits_for_no_other(stores: Stores, batches: list[int]) -> None:
    async def story() -> None:
        acceptor = Acceptor(stores.inbox, no_announcement)
        for number in range(3):
            await asyncio.wait_for(acceptor.accept(create(f"{number}@example.com")), 1)
        await acceptor.close()

    asyncio.run(story())
    assert batches == [1, 1, 1]


def test_p8_when_the_commit_fails_every_command_of_the_batch_is_told_and_none_is_kept(stores: Stores) -> None:
    with stores.inbox.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON commands BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, no_announcement)
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


def test_a_key_that_was_used_for_something_else_fails_its_request_alone(stores: Stores) -> None:
    async def story() -> list[Any]:
        acceptor = Acceptor(stores.inbox, no_announcement)
        batch = [create("a@example.com", idempotency_key="k"), create("b@example.com", idempotency_key="k"), create()]
        answers = await asyncio.gather(*map(acceptor.accept, batch), return_exceptions=True)
        await acceptor.close()
        return answers

    first, second, third = asyncio.run(story())
    assert isinstance(second, Problem)
    assert (first.command.seq, second.document["status"], third.command.seq) == (1, 422, 2)


def test_a_client_that_goes_away_harms_no_other(stores: Stores) -> None:
    async def story() -> int:
        acceptor = Acceptor(stores.inbox, no_announcement)
        gone = asyncio.create_task(acceptor.accept(create("a@example.com")))
        stays = asyncio.create_task(acceptor.accept(create("b@example.com")))
        await asyncio.sleep(0)
        gone.cancel()
        answer = await stays
        await acceptor.close()
        return answer.command.seq

    assert asyncio.run(story()) == 2


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    messages: list[dict[str, int]] = []

    def send(app: Any, task: str, streams: dict[str, int]) -> None:
        messages.append(streams)

    monkeypatch.setattr(bus, "send", send)
    return messages


def announcing(story: Callable[[Announcer], None]) -> None:
    async def run() -> None:
        announcer = Announcer(None)
        story(announcer)
        await announcer.close()

    asyncio.run(run())


def test_what_is_accepted_while_a_message_is_sent_goes_with_the_next(sent: list[dict[str, int]]) -> None:
    def story(announcer: Announcer) -> None:
        for number in range(1, 11):
            announcer.announce({f"user-{number}": number, "user-0": number})

    announcing(story)
    assert len(sent) <= 2
    assert sent[-1]["user-0"] == 10
    assert set().union(*sent) == {f"user-{number}" for number in range(11)}


def test_a_message_that_can_not_be_sent_is_dropped_and_the_next_one_sent(
    sent: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, downs = bus.send, iter([True])

    def flaky(app: Any, task: str, streams: dict[str, int]) -> None:
        if next(downs, False):
            raise bus.BrokerDown[0]("down")
        send(app, task, streams)

    monkeypatch.setattr(bus, "send", flaky)

    async def run() -> None:
        announcer = Announcer(None)
        announcer.announce({"user-1": 1})
        assert announcer._sending
        await announcer._sending
        announcer.announce({"user-2": 2})
        await announcer.close()

    asyncio.run(run())
    assert sent == [{"user-2": 2}]
