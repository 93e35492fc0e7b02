"""The inbox: numbers, idempotency keys, all or none."""

import hashlib

import pytest
from fastapi import Request
from sqlalchemy.exc import DBAPIError

from api.http.headers import asked_of
from shared.database import engines
from shared.settings import Settings
from shared.stores import inbox
from shared.stores.inbox import Acceptance, KeyReused
from shared.stores.subjects import Subjects, heed
from tests.support.processes import in_process
from tests.support.stores import Stores, accept, create, refusing, update

pytestmark = pytest.mark.both_engines


def test_commands_are_numbered_in_the_order_in_which_they_came(stores: Stores) -> None:
    commands = accept(stores, create("a@example.com"), update(1, "b@example.com"), create("c@example.com"))
    assert [(c.seq, c.stream, c.type) for c in commands] == [
        (1, "user-1", "CreateUser"),
        (2, "user-1", "UpdateUserEmail"),
        (3, "user-2", "CreateUser"),
    ]


def test_a_command_carries_the_number_it_was_given(stores: Stores) -> None:
    [command] = accept(stores, create("a@example.com"))
    assert command.data == '{"user_id":1,"first_name":"John","last_name":"Doe","email":"a@example.com"}'


def test_the_same_key_and_request_get_the_first_answer(stores: Stores) -> None:
    [first] = accept(stores, create(idempotency_key="k"))
    with stores.inbox.begin() as connection:
        answers = inbox.accept(connection, [create(idempotency_key="k"), create(idempotency_key="k")])
    assert answers == [Acceptance(first, replayed=True)] * 2


@pytest.mark.parametrize(
    "other",
    [
        create("b@example.com", idempotency_key="k"),
        update(1, "a@example.com", idempotency_key="k"),
        update(1, "a@example.com", expected_version=1, idempotency_key="k"),
    ],
)
def test_the_same_key_with_another_request_is_refused(stores: Stores, other: inbox.Submission) -> None:
    accept(stores, create("a@example.com", idempotency_key="k"))
    with stores.inbox.begin() as connection:
        [answer] = inbox.accept(connection, [other])
    assert isinstance(answer, KeyReused)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (update(1, "a@example.com", idempotency_key="k"), update(2, "a@example.com", idempotency_key="k")),
        (update(1, "a@example.com", idempotency_key="k"), update(1, "b@example.com", idempotency_key="k")),
        (
            update(1, "a@example.com", idempotency_key="k"),
            update(1, "a@example.com", idempotency_key="k", expected_version=1),
        ),
        (
            update(1, "a@example.com", idempotency_key="k"),
            update(1, "a@example.com", idempotency_key="k")._replace(type="Other"),
        ),
    ],
)
def test_requests_that_differ_in_one_thing_only_are_others(
    stores: Stores, first: inbox.Submission, other: inbox.Submission
) -> None:
    accept(stores, first)
    with stores.inbox.begin() as connection:
        [answer] = inbox.accept(connection, [other])
    assert isinstance(answer, KeyReused)


def test_one_key_twice_in_one_batch_is_one_command(stores: Stores) -> None:
    with stores.inbox.begin() as connection:
        first, second = inbox.accept(connection, [create(idempotency_key="k"), create(idempotency_key="k")])
        _, third = inbox.accept(connection, [create("b@example.com"), create("c@example.com", idempotency_key="k")])
    assert isinstance(first, Acceptance)
    assert second == Acceptance(first.command, replayed=True)
    assert isinstance(third, KeyReused)


def test_a_replayed_or_refused_command_takes_no_number(stores: Stores) -> None:
    accept(
        stores, create(idempotency_key="k"), create(idempotency_key="k"), create("x@example.com", idempotency_key="k")
    )
    [command] = accept(stores, create("b@example.com"))
    assert (command.seq, command.stream) == (2, "user-2")


def test_a_batch_that_can_not_be_committed_leaves_nothing_of_it(stores: Stores) -> None:
    with refusing(stores.inbox, "INSERT", "commands", "NEW.seq = 3"), pytest.raises(DBAPIError, match="refused"):
        accept(stores, create("a@example.com"), create("b@example.com"), create("c@example.com"))
    with stores.inbox.begin() as connection:
        assert inbox.last_seq(connection) == 0
        assert inbox.read_after(connection, 0, limit=10) == []
    [command] = accept(stores, create("a@example.com"))
    assert (command.seq, command.stream) == (1, "user-1")


def test_commands_are_read_in_order_by_seq_and_after_one(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(5)))
    with stores.inbox.begin() as connection:
        assert [command.seq for command in inbox.read(connection, [4, 2, 9])] == [2, 4]
        assert [command.seq for command in inbox.read_after(connection, 2, limit=2)] == [3, 4]
        assert inbox.read_after(connection, 5, limit=2) == []


def test_commands_of_one_correlation_id_are_found_within_bounds(stores: Stores) -> None:
    ids = "a_1", "aX1", "a_1", "a_1"
    accept(stores, *(create(f"{n}@example.com", metadata={"correlation_id": id}) for n, id in enumerate(ids)))
    with stores.inbox.connect() as connection:
        found = [
            [each.seq for each in inbox.correlated(connection, "a_1", after=after, upto=upto, limit=limit)]
            for after, upto, limit in ((0, 9, 9), (1, 3, 9), (0, 9, 2))
        ]
    assert found == [[1, 3, 4], [3], [1, 3]]


def test_a_command_is_found_by_its_id(stores: Stores) -> None:
    [command] = accept(stores, create())
    with stores.inbox.begin() as connection:
        assert inbox.find(connection, command.command_id) == command
        assert inbox.find(connection, "other") is None


RACERS, ROUNDS = 3, 50


def race(settings: Settings, racer: int) -> None:
    engine = heed(engines.writer(settings.inbox, lock="inbox"), Subjects.of(settings))
    for number in range(ROUNDS):
        with engine.begin() as connection:
            inbox.accept(connection, [create(f"{racer}.{number}@example.com"), create(idempotency_key=f"k{number}")])
    engine.dispose()


@pytest.mark.processes
def test_racing_api_processes_give_every_number_once_and_every_key_one_command(stores: Stores) -> None:
    racers = [in_process(race, stores.settings, racer) for racer in range(RACERS)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    with stores.inbox.begin() as connection:
        rows = [(row.seq, row.stream) for row in inbox.read_after(connection, 0, limit=10_000)]
    total = RACERS * ROUNDS + ROUNDS
    assert [seq for seq, _ in rows] == list(range(1, total + 1))
    assert sorted(stream for _, stream in rows) == sorted(f"user-{number}" for number in range(1, total + 1))


@pytest.mark.parametrize("header", [(), ((b"if-match", b"*"),)])
def test_a_request_that_an_older_version_accepted_has_the_same_fingerprint(
    header: tuple[tuple[bytes, bytes], ...],
) -> None:
    asked, command = asked_of(Request({"type": "http", "headers": header}), new=False), update(1, "a@example.com")
    again = command.required(asked) if asked else command
    accepted = b'["UpdateUserEmail","user",1,{"email":"a@example.com"},null]'
    assert again.fingerprint == hashlib.sha256(accepted).hexdigest()
