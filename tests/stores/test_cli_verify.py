"""`cqrs verify`: whatever is wrong with the stores is found and named."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from cli.stores.snapshots import snapshots
from cli.stores.verification import checks
from shared.database import engines
from shared.domain.aggregates import AGGREGATES
from shared.domain.projections import PROJECTIONS
from shared.stores import event_store
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, once_on_postgresql, update
from workers.projecting import runner

pytestmark = pytest.mark.both_engines

UNLOCK = {
    "sqlite": ["DROP TRIGGER events_refuse_update", "DROP TRIGGER events_refuse_delete"],
    "postgresql": ["DROP TRIGGER events_refuse ON events", "DROP TRIGGER events_refuse_update ON events"],
}


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Five users, one of them moved, a rejection, and one command that waits; the read models have all of it."""
    accept(
        stores, *(create(f"{n}@example.com") for n in range(1, 6)), update(3, "new@example.com"), update(9, "x@x.org")
    )
    while stores.handler.handle():
        pass
    for name, which in PROJECTIONS.items():
        engine = engines.writer(stores.settings.read_model_of(name), lock=name, durable=False)
        with engines.briefly(engine):
            while runner.catch_up(stores.events, engine, which):
                pass
    accept(stores, update(1, "waits@example.com"))
    return stores


def change(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def change_log(stores: Stores, *statements: str) -> None:
    """As somebody would who makes all hashes anew, so that they don't tell."""
    change(stores.events, *UNLOCK[stores.events.name], *statements, "UPDATE events SET hash = NULL")
    with stores.events.begin() as connection:
        event_store.seal(connection)


def wrong(stores: Stores) -> str:
    verdict = told(stores.settings, "verify", code=1)
    assert verdict["well"] is False
    return str(verdict["wrong"])


def test_what_is_well_is_gone_through(used: Stores) -> None:
    checked = told(used.settings, "verify")["checked"]
    assert checked.pop("schemas") >= 0
    assert checked == {
        "commands and outcomes": 8,
        "positions and hashes": 6,
        "events and outcomes": 6,
        "versions and unique keys": 6,
        **{f"read model {name}": 6 for name in PROJECTIONS},
        "people and keys": 0,
        "keys held once": 5,
    }
    assert "ok  positions and hashes: 6\n" in cqrs(used.settings, "verify")


def test_empty_stores_are_well(stores: Stores) -> None:
    assert told(stores.settings, "verify")["well"]


@pytest.mark.parametrize(
    ("do", "named"),
    once_on_postgresql(
        (lambda s: change(s.inbox, "DELETE FROM commands WHERE seq = 4"), "the inbox: command 5 follows 3"),
        (
            lambda s: change(s.inbox, "DELETE FROM commands WHERE seq = 8"),
            "8 commands were accepted, the last one is 7",
        ),
        (lambda s: change(s.events, "DELETE FROM outcomes WHERE seq = 2"), "command 2 has no outcome"),
        (lambda s: change(s.events, "UPDATE outcomes SET position = 9 WHERE seq = 6"), "command 6 ended at event 9"),
        (lambda s: change_log(s, "DELETE FROM events WHERE position = 2"), "the log: event 3 follows 1"),
        (
            lambda s: change_log(s, "DELETE FROM events WHERE position = 6"),
            "command 6 ended at event 6, the log ends at 5",
        ),
        (
            lambda s: change(s.events, "UPDATE outcomes SET status = 'rejected' WHERE seq = 3"),
            "event 3: its command 3 has rejected",
        ),
        (
            lambda s: change(s.events, "UPDATE outcomes SET version = 7 WHERE seq = 6"),
            "command 6 ended at event 6 with version 7, its last event is 6 with version 2",
        ),
        (
            lambda s: change_log(s, 'UPDATE events SET metadata = \'{"command_id": "x"}\' WHERE position = 3'),
            "event 3: its command x was never accepted",
        ),
        (lambda s: change_log(s, "UPDATE events SET version = 3 WHERE position = 6"), "last event is 6 with version 3"),
        (
            lambda s: change_log(s, "UPDATE events SET type = 'UserLost' WHERE position = 5"),
            "event 5 of user-5: UserLost of schema version 1 is not known",
        ),
        (
            lambda s: change(s.events, "UPDATE unique_keys SET stream = 'user-1' WHERE stream = 'user-2'"),
            "email 2@example.com is held by user-2, and kept for user-1",
        ),
        (
            lambda s: change(s.events, "INSERT INTO unique_keys VALUES ('email', '3@example.com', 'user-3')"),
            "6 unique keys are kept, and 5 held",
        ),
        (
            lambda s: change(s.read_model, "UPDATE users SET email = 'other' WHERE user_id = 4"),
            "users 4: is (4, 'John', 'Doe', 'other', 1, True), and by the log (4, 'John', ",
        ),
        (
            lambda s: change(s.read_model, "DELETE FROM users WHERE user_id = 5"),
            "users 5: is not there, and by the log",
        ),
        (
            lambda s: change(s.read_model, "INSERT INTO users VALUES (6, 'a', 'b', 'c', 1, true)"),
            "users 6: is (6, 'a', 'b', 'c', 1, True), and by the log not there",
        ),
        (
            lambda s: change(s.read_model, "UPDATE checkpoints SET position = 7 WHERE projection = 'users'"),
            "the log ends at event 6, users is at 7 already",
        ),
    ),
)
def test_the_first_thing_that_is_wrong_is_named(used: Stores, do: Callable[[Stores], None], named: str) -> None:
    do(used)
    assert named in wrong(used)


def test_what_commits_while_it_looks_does_not_disturb_it(used: Stores) -> None:
    with snapshots(used.settings) as stores:
        for n, check in enumerate(checks(stores, AGGREGATES).values()):
            accept(used, create(f"late{n}@x.org"))
            assert used.handler.handle()
            sum(check)
    assert told(used.settings, "verify")["well"]
