"""Commands to events: once, in order, whole, unique. Each test names the promise it holds."""

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from shared.database import engines
from shared.database.errors import Taken
from shared.decider import Rejected, UniqueKey
from shared.domain.users import decider
from shared.messages import RecordedEvent
from shared.settings import Settings
from shared.stores import event_store, outcomes, set_aside, unique_keys
from shared.stores.outcomes import Outcome
from tests.support.processes import in_process
from tests.support.stores import Stores, accept, create, hashed, new_handler, refusing, update
from workers import reporting
from workers.handling import handler as commands

pytestmark = pytest.mark.both_engines


def handle(stores: Stores) -> int:
    """One message: returns how many commands it found."""
    return stores.handler.handle()


def sweep(stores: Stores) -> None:
    """What a worker does that looks by itself."""
    stores.handler.retry()
    while handle(stores):
        pass


def log(stores: Stores) -> list[RecordedEvent]:
    with stores.events.begin() as connection:
        return event_store.read_all(connection)


def outcome(stores: Stores, seq: int) -> Outcome | None:
    with stores.events.begin() as connection:
        return outcomes.find(connection, [seq]).get(seq)


def ends(stores: Stores, upto: int) -> list[str | None]:
    """How each command ended: its status, or the type of its problem."""
    found = [outcome(stores, seq) for seq in range(1, upto + 1)]
    return [each and (each.problem["type"] if each.problem else each.status) for each in found]


def keys(stores: Stores) -> dict[str, str]:
    with stores.events.begin() as connection:
        rows = connection.execute(select(unique_keys.unique_keys.c.value, unique_keys.unique_keys.c.stream))
        return dict(rows.all())


def held(stores: Stores, *those: tuple[str, str]) -> dict[str, str]:
    """What `keys` returns if streams hold just these addresses."""
    return {hashed(stores.settings, email)[0]: stream for email, stream in those}


def test_a_command_leaves_its_events_and_its_outcome(stores: Stores) -> None:
    [command] = accept(stores, create())
    assert handle(stores)
    [event] = log(stores)
    assert (event.position, event.stream, event.version, event.type) == (1, "user-1", 1, "UserCreated")
    assert event.metadata == {"command_id": command.command_id}
    found = outcome(stores, command.seq)
    assert found
    assert (found.status, found.version, found.position, found.problem) == ("succeeded", 1, 1, None)


def test_workers_are_woken_once_commands_are_committed_and_before_they_are_reported(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str | None] = []
    monkeypatch.setattr(reporting, "handled", lambda *_, **__: said.append("reported"))
    accept(stores, create())
    for _ in range(2):
        stores.handler.handle(lambda: said.extend(ends(stores, 1)))
    assert said == ["succeeded", "reported"], "nor is anybody woken for nothing"


def test_p2_one_message_delivered_five_times_appends_once(stores: Stores) -> None:
    accept(stores, create(), update(1, "new@example.com"))
    assert [handle(stores) for _ in range(5)] == [2, 0, 0, 0, 0]
    assert [event.type for event in log(stores)] == ["UserCreated", "UserEmailUpdated"]


def test_p3_events_of_different_streams_stand_in_the_order_of_their_commands(stores: Stores) -> None:
    accept(
        stores, create("a@example.com"), create("b@example.com"), update(1, "c@example.com"), update(2, "a@example.com")
    )
    handle(stores)
    assert [event.stream for event in log(stores)] == ["user-1", "user-2", "user-1", "user-2"]
    assert ends(stores, 4) == ["succeeded"] * 4


def test_a_message_handles_one_chunk_and_tells_its_size(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "CHUNK", 5)
    accept(stores, create(), *(update(1, f"{n}@example.com") for n in range(10)), create("z@example.com"))
    assert [handle(stores) for _ in range(4)] == [5, 5, 2, 0]
    assert ends(stores, 12) == ["succeeded"] * 12
    assert [event.version for event in log(stores) if event.stream == "user-1"] == list(range(1, 12))


def test_p5_an_address_that_is_taken_is_rejected(stores: Stores) -> None:
    accept(stores, create("John@Example.com"), create("john@example.COM"), create("j@example.com"))
    handle(stores)
    assert ends(stores, 3) == ["succeeded", "email-taken", "succeeded"]
    accept(stores, update(3, "JOHN@example.com"))
    handle(stores)
    assert ends(stores, 4)[3] == "email-taken"


def test_p5_an_address_is_free_again_once_its_user_has_another(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "b@example.com"), create("a@example.com"))
    accept(stores, update(1, "a@example.com"), update(2, "c@example.com"), update(1, "a@example.com"))
    sweep(stores)
    assert ends(stores, 6) == ["succeeded", "succeeded", "succeeded", "email-taken", "succeeded", "succeeded"]
    assert keys(stores) == held(stores, ("a@example.com", "user-1"), ("c@example.com", "user-2"))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_p5_swapped_addresses_end_the_same_however_commands_are_batched(stores: Stores, size: int) -> None:
    story = [
        create("a@example.com"),
        create("b@example.com"),
        update(1, "b@example.com"),
        update(2, "c@example.com"),
        update(1, "b@example.com"),
        update(2, "a@example.com"),
        update(1, "B@example.com"),
    ]
    for start in range(0, len(story), size):
        accept(stores, *story[start : start + size])
        handle(stores)
    assert ends(stores, 7) == ["succeeded", "succeeded", "email-taken", *["succeeded"] * 4]
    assert keys(stores) == held(stores, ("b@example.com", "user-1"), ("a@example.com", "user-2"))


def test_a_user_may_write_the_own_address_in_another_case(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "A@Example.com"))
    sweep(stores)
    assert ends(stores, 2) == ["succeeded", "succeeded"]
    assert keys(stores) == held(stores, ("a@example.com", "user-1"))


def test_the_same_address_again_succeeds_and_appends_nothing(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "a@example.com"))
    sweep(stores)
    assert ends(stores, 2) == ["succeeded", "succeeded"]
    assert len(log(stores)) == 1
    found = outcome(stores, 2)
    assert found
    assert (found.version, found.position) == (1, 1)


def test_a_user_number_that_was_never_given_out_is_rejected(stores: Stores) -> None:
    accept(stores, update(7, "a@example.com"))
    sweep(stores)
    found = outcome(stores, 1)
    assert found
    assert found.problem == {"type": "user-not-found", "status": 404, "detail": "There is no user 7."}


def test_another_version_than_expected_is_rejected(stores: Stores) -> None:
    accept(
        stores,
        create("a@example.com"),
        update(1, "b@example.com", expected_version=1),
        update(1, "c@example.com", expected_version=1),
        update(9, "d@example.com", expected_version=1),
    )
    sweep(stores)
    assert ends(stores, 4) == ["succeeded", "succeeded", "version-conflict", "version-conflict"]
    found = outcome(stores, 3)
    assert found
    assert found.problem == {"type": "version-conflict", "status": 412, "detail": "user-1 is at version 2, not at 1."}


@pytest.mark.sqlite_only
def test_p4_on_a_full_disk_nothing_of_a_message_is_kept(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(200)))
    with stores.events.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OperationalError):
        handle(stores)
    assert (log(stores), keys(stores), ends(stores, 200)) == ([], {}, [None] * 200)
    with stores.events.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert handle(stores) == 200
    assert ends(stores, 200) == ["succeeded"] * 200


@pytest.mark.parametrize("table", ["events", "outcomes", "unique_keys"])
def test_p4_a_command_that_can_not_be_written_whole_is_set_aside_whole_and_alone(stores: Stores, table: str) -> None:
    accept(stores, create("a@example.com"), create("b@example.com"))
    bad = {"outcomes": "NEW.seq = 1"}.get(table, "NEW.stream = 'user-1'")
    with refusing(stores.events, "INSERT", table, bad):
        handle(stores)
    assert ends(stores, 2) == [None, "succeeded"]
    assert [event.stream for event in log(stores)] == ["user-2"]
    assert keys(stores) == held(stores, ("b@example.com", "user-2"))
    sweep(stores)
    assert ends(stores, 2) == ["succeeded", "succeeded"]


class Unserialisable:
    email = "x@example.com"


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        ("decide", ValueError("\ud800")),
        ("decide", Rejected("no", Unserialisable())),  # type: ignore[arg-type]
        ("unique_keys", {UniqueKey("email", None): ""}),  # type: ignore[arg-type]
        ("unique_keys", {UniqueKey("email", Unserialisable()): ""}),  # type: ignore[arg-type]
    ],
)
def test_p8_a_rule_whose_result_can_not_be_written_fails_its_command_alone(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, rule: str, result: Any
) -> None:
    good = getattr(decider, rule)

    def bad(*arguments: Any) -> Any:
        if "poison@example.com" not in {getattr(argument, "email", None) for argument in arguments}:
            return good(*arguments)
        if isinstance(result, Exception):
            raise result
        return result

    broken: Any = {rule: bad}
    monkeypatch.setattr(commands, "AGGREGATES", {"user": replace(decider.users, **broken)})
    accept(stores, create("a@example.com"), create("poison@example.com"), create("b@example.com"))
    for _ in range(3):
        sweep(stores)
    assert ends(stores, 3) == ["succeeded", "command-failed", "succeeded"]


@pytest.mark.usefixtures("poison")
def test_p8_a_bug_in_a_rule_fails_its_command_alone_after_three_tries(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "poison@example.com"), update(1, "c@example.com"))
    accept(stores, create("poison@example.com"), create("b@example.com"))
    sweep(stores)
    assert ends(stores, 5) == ["succeeded", None, None, None, "succeeded"]
    sweep(stores)
    assert ends(stores, 5) == ["succeeded", None, None, None, "succeeded"]
    sweep(stores)
    assert ends(stores, 5) == ["succeeded", "command-failed", "succeeded", "command-failed", "succeeded"]
    failed = outcome(stores, 2)
    assert failed
    assert failed.status == "failed"
    assert failed.problem
    assert failed.problem["detail"] == "Gave up after 3 tries. ZeroDivisionError: a bug"


@pytest.mark.usefixtures("poison")
def test_p3_commands_behind_one_that_is_tried_again_wait_for_it_and_keep_their_order(stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "poison@example.com"))
    handle(stores)
    accept(stores, update(1, "c@example.com"), create("b@example.com"))
    handle(stores)
    accept(stores, update(1, "d@example.com"))
    handle(stores)
    assert ends(stores, 5) == ["succeeded", None, None, "succeeded", None]
    sweep(stores)
    sweep(stores)
    assert ends(stores, 5) == ["succeeded", "command-failed", "succeeded", "succeeded", "succeeded"]
    its = [event for event in log(stores) if event.stream == "user-1"]
    assert [event.data.get("new_email") for event in its] == [None, "c@example.com", "d@example.com"]


@pytest.mark.usefixtures("poison")
def test_p8_many_workers_try_a_command_again_no_more_often_than_one(stores: Stores) -> None:
    workers = [new_handler(stores.settings, stores.events, rests=1) for _ in range(4)]
    accept(stores, create("a@example.com"), update(1, "poison@example.com"), update(1, "c@example.com"))
    workers[0].handle()
    for tries in (1, 2):
        for _ in range(2):
            assert sum(worker.retry() for worker in workers) == 0
        with stores.events.begin() as connection:
            assert [each.tries for each in set_aside.find(connection, [2, 3])] == [tries, 0]
        time.sleep(1.1)
    assert [worker.retry() for worker in workers] == [2, 0, 0, 0]
    assert ends(stores, 3) == ["succeeded", "command-failed", "succeeded"]


@pytest.mark.usefixtures("poison")
def test_what_is_set_aside_is_taken_up_in_chunks_too(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "CHUNK", 2)
    accept(stores, create("a@example.com"), update(1, "poison@example.com"))
    accept(stores, *(update(1, f"{n}@example.com") for n in range(7)))
    for _ in range(3):
        sweep(stores)
    assert ends(stores, 9) == ["succeeded", "command-failed", *["succeeded"] * 7]
    assert [event.data["new_email"] for event in log(stores)[1:]] == [f"{n}@example.com" for n in range(7)]


def test_p5_two_addresses_taken_in_an_earlier_message_stay_taken_in_one_chunk(stores: Stores) -> None:
    accept(stores, create("c@example.com"), create("a@example.com"))
    handle(stores)
    accept(stores, update(1, "a@example.com"), create("c@example.com"))
    handle(stores)
    assert ends(stores, 4)[2:] == ["email-taken", "email-taken"]


def test_p5_an_address_freed_in_a_chunk_is_free_for_the_commands_behind_it(stores: Stores) -> None:
    accept(stores, create("c@example.com"), create("a@example.com"))
    handle(stores)
    accept(stores, update(1, "a@example.com"), update(2, "q@example.com"), update(1, "a@example.com"))
    accept(stores, create("C@example.com"))
    handle(stores)
    assert ends(stores, 6)[2:] == ["email-taken", "succeeded", "succeeded", "succeeded"]


def test_p8_no_caller_has_a_chunk_decided_once_for_each_of_its_commands(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guess that an address is free shows one that isn't: only if that one is rejected is the next one asked for."""
    taken = [f"{n}@example.com" for n in range(50)]
    accept(stores, *map(create, taken))
    handle(stores)
    decided: list[Any] = []

    def decide(command: Any, user: Any) -> Any:
        decided.append(command)
        return decider.decide(command, user)

    monkeypatch.setattr(commands, "AGGREGATES", {"user": replace(decider.users, decide=decide)})
    accept(stores, *(update(1, email, expected_version=1) for email in [*taken[1:], "free@example.com"]))
    handle(stores)
    assert ends(stores, 100)[50:] == ["email-taken"] * 49 + ["succeeded"]
    assert len(decided) < 100
    assert held(stores, ("free@example.com", "user-1")).items() <= keys(stores).items()


def test_a_key_is_freed_in_its_own_scope(stores: Stores) -> None:
    with stores.events.begin() as connection:
        email, phone = UniqueKey("email", "x"), UniqueKey("phone", "x")
        unique_keys.move(connection, {email: ("user-1",), phone: ("user-2",)})
        unique_keys.move(connection, {email: ()})
        assert unique_keys.holders(connection, [email, phone]) == {email: (), phone: ("user-2",)}


def test_a_worker_is_told_that_another_has_the_log_and_goes_on_with_the_same_connection(stores: Stores) -> None:
    store = engines.writer(stores.settings.event_store, lock="event_store", waits=False)
    worker = new_handler(stores.settings, store)
    with store.connect() as connection:
        opened = connection.connection.driver_connection
    accept(stores, create())
    with stores.events.begin():
        for _ in range(2):
            with pytest.raises(Taken):
                worker.handle()
    assert worker.handle() == 1
    with store.connect() as connection:
        assert connection.connection.driver_connection is opened
    store.dispose()


def test_what_comes_while_a_worker_has_the_log_is_found_after_its_turn(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CHUNK", 2)
    assert not stores.handler.is_behind()
    accept(stores, create("a@example.com"), create("b@example.com"), create("c@example.com"))
    for behind in (True, False):
        assert handle(stores)
        assert stores.handler.is_behind() == behind
    with stores.events.begin():
        accept(stores, create("d@example.com"))
    assert stores.handler.is_behind()


def work(settings: Settings, last: int) -> None:
    """Handle commands as they come, until the last one has its outcome."""
    store = engines.writer(settings.event_store, lock="event_store")
    handler = new_handler(settings, store)
    while True:
        handler.handle()
        with store.begin() as connection:
            if outcomes.settled_seq(connection) == last:
                return


@pytest.mark.processes
def test_p3_two_workers_keep_the_order_of_one_stream(stores: Stores) -> None:
    addresses = [f"{number}@example.com" for number in range(200)]
    workers = [in_process(work, stores.settings, 201) for _ in range(2)]
    accept(stores, create("start@example.com"))
    for address in addresses:
        accept(stores, update(1, address))
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [event.data["new_email"] for event in log(stores)[1:]] == addresses
    assert [event.version for event in log(stores)] == list(range(1, 202))
