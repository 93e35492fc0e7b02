"""An erasure that is cut short at each of its steps: the next worker finishes it, and nobody else loses a word."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.synchronize import Event as Signal
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine, event, select, text

from shared.database import engines
from shared.database.errors import Taken
from shared.domain.projections import PROJECTIONS
from shared.messages import ErasedEvent, RecordedEvent
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes
from shared.stores.inbox import Submission
from shared.stores.subjects import Subjects, heed, keys
from shared.stores.unique_keys import unique_keys
from tests.support.command_line import told
from tests.support.processes import forking, in_process
from tests.support.service import eventually
from tests.support.stores import Stores, accept, create, erase, hashed, inbox_of, new_handler, refusing, update
from workers.handling.handler import CommandHandler
from workers.projecting import runner

pytestmark = pytest.mark.both_engines

FIRST, SECOND, THIRD, FOURTH, OTHERS = (f"{name}@example.com" for name in ("first", "second", "third", "fourth", "o"))
MINE = "user-1"


def before(stores: Stores) -> None:
    """User 1 has the second of its addresses, and user 3 the first; both read models show so."""
    accept(stores, create(FIRST), create(OTHERS), update(1, SECOND), create(FIRST))
    work(stores)


def under_way(stores: Stores) -> None:
    """User 1 is erased between two changes, on a condition that the first of them meets; user 4 takes its address."""
    accept(stores, update(1, THIRD), erase(1, expected_version=3), create(SECOND), update(1, FOURTH))


def work(stores: Stores) -> None:
    """What workers do that have just started, until nothing is left to do."""
    handler = new_handler(stores.settings, stores.events)
    while handler.retry() or handler.handle():
        pass
    project(stores)


def project(stores: Stores) -> None:
    for name, which in PROJECTIONS.items():
        with engines.briefly(engines.writer(stores.settings.read_model_of(name), lock=name)) as engine:
            while runner.catch_up(stores.events, engine, which):
                pass


def log(stores: Stores) -> list[RecordedEvent]:
    with stores.events.connect() as connection:
        return event_store.read_all(connection)


def ends(stores: Stores) -> list[str]:
    """How each command ended: its status, or the type of its problem."""
    with stores.events.connect() as connection, stores.inbox.connect() as reading:
        found = outcomes.find(connection, range(1, inbox.last_seq(reading) + 1))
    return [each.problem["type"] if each.problem else each.status for _, each in sorted(found.items())]


def rows(stores: Stores, name: str) -> dict[int, str]:
    """The addresses that a read model shows, by number."""
    with engines.reading(stores.settings.read_model_of(name)) as connection:
        return dict(connection.execute(text(f"SELECT user_id, email FROM {name}")).all())


def held(stores: Stores) -> dict[str, str]:
    with stores.events.connect() as connection:
        return dict(connection.execute(select(unique_keys.c.value, unique_keys.c.stream)).all())


def has_key(stores: Stores, stream: str) -> bool:
    with engines.reading(stores.settings.subjects) as connection:
        return bool(connection.execute(select(keys.c.key).where(keys.c.stream == stream)).all())


def is_forgotten(stores: Stores, **others: str) -> None:
    """User 1 is erased, once, and can be read nowhere; the others have the addresses given, and no other is held."""
    events = log(stores)
    mine = [each for each in events if each.stream == MINE]
    assert [each.type for each in mine].count("UserErased") == 1
    assert mine[-1].type == "UserErased"
    assert all(isinstance(each, ErasedEvent) for each in mine[:-1])
    assert {value for each in mine for value in each.data.values()} == {1, None}
    assert not any(isinstance(each, ErasedEvent) for each in events if each.stream != MINE)
    assert not has_key(stores, MINE)
    with stores.inbox.connect() as connection:
        commands = [each for each in inbox.read_after(connection, 0, limit=100) if each.stream == MINE]
    assert not any("@" in each.data for each in commands)
    addresses = {int(name.removeprefix("user")): email for name, email in others.items()}
    assert rows(stores, "users") == rows(stores, "emails") == addresses
    holders = {f"user-{number}": email for number, email in addresses.items()}
    assert held(stores) == dict(zip(hashed(stores.settings, *holders.values()), holders, strict=True))
    assert told(stores.settings, "verify")["well"]


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def erase_until(settings: Settings, place: str) -> None:
    """Handle what waits and project it, in a process that is killed at a place on the way."""
    store = engines.writer(settings.event_store, lock=event_store.LOCK)
    handler = new_handler(settings, store)
    if place == "before the key is destroyed":
        Subjects.erase = die  # type: ignore[assignment, method-assign]
    if place == "before the commit":
        event.listen(store, "commit", die)
    handler.handle()
    if place == "before it is projected":
        die()
    which = PROJECTIONS["users"]
    read_model = engines.writer(settings.read_model_of("users"), lock="users")
    event.listen(read_model, "commit", die)
    runner.catch_up(heed(engines.reader(settings.event_store), Subjects.of(settings)), read_model, which)


@pytest.mark.parametrize(
    ("place", "has_its_key"),
    [
        ("before the key is destroyed", True),
        ("before the commit", False),
        ("before it is projected", False),
        ("in the middle of its projection", False),
    ],
)
def test_p9_an_erasure_cut_short_by_a_kill_is_finished_by_the_next_worker(
    stores: Stores, place: str, has_its_key: bool
) -> None:
    before(stores)
    under_way(stores)
    killed = in_process(erase_until, stores.settings, place)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert has_key(stores, MINE) == has_its_key
    assert len(log(stores)) == (4 if place in {"before the key is destroyed", "before the commit"} else 7)
    assert rows(stores, "users")[1] == SECOND
    work(stores)
    assert ends(stores) == ["succeeded"] * 7 + ["user-erased"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST, user4=SECOND)


@contextmanager
def failing_to_commit(engine: Engine) -> Iterator[None]:
    def fail(_: Any) -> NoReturn:
        raise OSError("no space left on device")

    event.listen(engine, "commit", fail)
    yield
    event.remove(engine, "commit", fail)


def test_p9_an_erasure_whose_commit_fails_is_finished_by_the_same_worker(stores: Stores) -> None:
    before(stores)
    stores.handler.handle()
    under_way(stores)
    for _ in range(2):
        with failing_to_commit(stores.events), pytest.raises(OSError, match="no space"):
            stores.handler.handle()
        assert not has_key(stores, MINE)
    assert stores.handler.handle() == 4
    project(stores)
    assert ends(stores) == ["succeeded"] * 7 + ["user-erased"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST, user4=SECOND)


def test_p9_a_key_that_is_destroyed_stays_so_whatever_comes_before_the_next_worker(stores: Stores) -> None:
    """Nothing that is sent meanwhile, or is sent again, brings it back."""
    before(stores)
    with inbox_of(stores.settings) as connection:
        inbox.accept(connection, [update(1, THIRD, idempotency_key="once"), erase(1)])
    with failing_to_commit(stores.events), pytest.raises(OSError, match="no space"):
        stores.handler.handle()
    with inbox_of(stores.settings) as connection:
        again, new = inbox.accept(connection, [update(1, THIRD, idempotency_key="once"), update(1, FOURTH)])
    assert isinstance(again, inbox.Acceptance)
    assert again.replayed
    assert isinstance(new, inbox.Acceptance)
    work(stores)
    with inbox_of(stores.settings) as connection:
        inbox.accept(connection, [update(1, THIRD, idempotency_key="once"), update(1, FOURTH), erase(1)])
    work(stores)
    assert ends(stores)[-4:] == ["succeeded", "user-erased", "user-erased", "user-erased"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST)


def test_p9_a_batch_may_create_change_and_erase_one_user(stores: Stores) -> None:
    accept(stores, create(FIRST), update(1, SECOND), erase(1, expected_version=2), create(SECOND), create(FIRST))
    with failing_to_commit(stores.events), pytest.raises(OSError, match="no space"):
        stores.handler.handle()
    work(stores)
    assert ends(stores) == ["succeeded"] * 5
    is_forgotten(stores, user2=SECOND, user3=FIRST)


def hold(settings: Settings, holds: Signal) -> None:
    """Have the key destroyed, and never commit."""
    store = engines.writer(settings.event_store, lock=event_store.LOCK)

    def stay(_: Any) -> None:
        holds.set()
        signal.pause()

    event.listen(store, "commit", stay)
    new_handler(settings, store).handle()


def _takes(worker: CommandHandler) -> int:
    with suppress(Taken):  # PostgreSQL notices after a moment that the other is gone
        return worker.handle()
    return 0


def test_p9_a_second_worker_takes_over_from_one_that_is_killed_once_the_key_is_destroyed(stores: Stores) -> None:
    before(stores)
    under_way(stores)
    holds = forking().Event()
    first = in_process(hold, stores.settings, holds)
    assert holds.wait(60)
    with engines.briefly(engines.writer(stores.settings.event_store, lock=event_store.LOCK, waits=False)) as store:
        second = new_handler(stores.settings, store)
        with pytest.raises(Taken):
            second.handle()
        first.kill()
        eventually(partial(_takes, second))
    project(stores)
    assert ends(stores) == ["succeeded"] * 7 + ["user-erased"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST, user4=SECOND)


def test_p9_racing_clients_erase_a_user_once(stores: Stores) -> None:
    before(stores)

    def send(submission: Submission) -> Any:
        with inbox_of(stores.settings) as connection:
            return inbox.accept(connection, [submission])[0]

    keyed = [erase(1, idempotency_key=key) for key in ("a", "b", "a", "b")]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, keyed))
    assert Counter(answer.replayed for answer in answers) == {True: 2, False: 2}
    work(stores)
    assert ends(stores)[4:] == ["succeeded", "user-erased"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("refused", ["NEW.stream = 'user-5'", "NEW.stream = 'user-1'"])
def test_p9_an_erasure_beside_commands_that_can_not_be_written_or_decided_is_done(stores: Stores, refused: str) -> None:
    """The batch is handled in halves. If the erasure itself can't be written, the key isn't destroyed."""
    before(stores)
    accept(stores, create("poison@example.com"), erase(1), create(SECOND))
    with refusing(stores.events, "INSERT", "events", refused):
        stores.handler.handle()
    assert has_key(stores, MINE) == ("user-1" in refused)
    for _ in range(3):
        work(stores)
    assert ends(stores)[4:6] == ["command-failed", "succeeded"]
    is_forgotten(stores, user2=OTHERS, user3=FIRST, **({"user5": SECOND} if ends(stores)[6] == "succeeded" else {}))
