"""`cqrs users`: a user as the log has it, now or as it was; and all that is known of one."""

import json

import pytest

from shared.database import engines
from shared.domain.projections import PROJECTIONS
from tests.support.command_line import cqrs, told
from tests.support.stores import JOHN, Stores, accept, create, deactivate, hashed, reactivate, update
from workers.projecting import runner

pytestmark = pytest.mark.both_engines


@pytest.fixture
def used(stores: Stores) -> Stores:
    """A user who moved once."""
    accept(stores, create(), update(1, "new@example.com"))
    stores.handler.handle()
    return stores


def test_a_user_is_shown_now_and_at_a_version(used: Stores) -> None:
    john = {"user_id": 1, **JOHN}
    assert told(used.settings, "users", "show", "1") == {**john, "email": "new@example.com", "version": 2}
    assert told(used.settings, "users", "show", "1", "--version", "1") == {**john, "version": 1}
    assert "new@example.com" in cqrs(used.settings, "users", "show", "1")


def test_a_user_is_shown_as_it_was_at_a_time(used: Stores) -> None:
    moved = told(used.settings, "events", "show", "2")["recorded_at"]
    assert told(used.settings, "users", "show", "1", "--at", moved)["version"] == 2
    assert "there was no user-1 yet" in cqrs(
        used.settings, "users", "show", "1", "--at", "2020-01-01T00:00:00Z", code=1
    )


def test_a_user_is_marked_while_it_is_deactivated(used: Stores) -> None:
    accept(used, deactivate(1), reactivate(1))
    used.handler.handle()
    before = told(used.settings, "users", "show", "1", "--version", "2")
    left = told(used.settings, "users", "show", "1", "--version", "3")
    assert left == {**before, "version": 3, "active": False}
    assert "active" in cqrs(used.settings, "users", "show", "1", "--version", "3")
    assert told(used.settings, "users", "show", "1") == {**before, "version": 4}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["2"], "there is no user-2"),
        (["1", "--version", "3"], "user-1 is at version 2"),
        (["1", "--at", "yesterday"], "yesterday is no time"),
        (["1", "--version", "1", "--at", "2026-01-01T00:00:00Z"], "not both"),
    ],
)
def test_what_there_is_not_is_named(used: Stores, asked: list[str], named: str) -> None:
    assert named in cqrs(used.settings, "users", "show", *asked, code=1)


@pytest.mark.usefixtures("poison")
def test_all_that_is_known_of_a_user_is_written_out_and_that_is_recorded(used: Stores) -> None:
    """Also what waits, what was rejected and what is set aside; and nothing of others."""
    accept(used, create("other@example.com", idempotency_key="other"))
    keyed = update(1, "other@example.com", idempotency_key="key", metadata={"principal": "key:1"})
    accept(used, keyed, update(1, "poison@example.com"))
    used.handler.handle()
    for name, which in PROJECTIONS.items():
        with engines.briefly(engines.writer(used.settings.read_model_of(name), lock=name, durable=False)) as engine:
            while runner.catch_up(used.events, engine, which):
                pass
    accept(used, update(1, "waits@example.com"))
    exported = json.loads(cqrs(used.settings, "users", "export", "1"))
    found = exported["found"]
    now = {"user_id": 1, **JOHN, "email": "new@example.com", "version": 2, "active": True}
    assert exported["stream"] == "user-1"
    assert found["read_model.users"] == [now]
    assert found["read_model.emails"] == [{**now, "key": "new@example.com"}]
    assert [(each["version"], each["type"]) for each in found["event_store.events"]] == [
        (1, "UserCreated"),
        (2, "UserEmailUpdated"),
    ]
    assert found["event_store.events"][1]["metadata"].keys() == {"command_id"}
    assert [each["data"]["email"] for each in found["inbox.commands"]] == [
        JOHN["email"],
        "new@example.com",
        "other@example.com",
        "poison@example.com",
        "waits@example.com",
    ]
    rejected = found["inbox.commands"][2]
    assert (len(rejected["idempotency_key"]), rejected["metadata"]) == (64, {"principal": "key:1"})
    assert len(rejected["fingerprint"]) == 64
    assert [each["status"] for each in found["event_store.outcomes"]] == ["succeeded", "succeeded", "rejected"]
    assert [(each["tries"], each["error"]) for each in found["event_store.set_aside"]] == [
        (1, "ZeroDivisionError: a bug")
    ]
    [value] = hashed(used.settings, "new@example.com")
    assert found["event_store.unique_keys"] == [{"scope": "email", "value": value, "stream": "user-1"}]
    assert found["event_store.events of operations-1"] == []
    assert "user-2" not in json.dumps(exported)
    again = json.loads(cqrs(used.settings, "users", "export", "1"))["found"]
    [before] = again["event_store.events of operations-1"]
    assert (before["type"], before["data"]) == ("StreamExported", {"stream": "user-1"})
    assert before["metadata"]["principal"].startswith("cli:")


def test_of_nobody_there_is_nothing_to_write_out(used: Stores) -> None:
    assert "the stores hold nothing of user-2" in cqrs(used.settings, "users", "export", "2", code=1)
    assert told(used.settings, "events", "tail", "-n", "1")["type"] == "UserEmailUpdated"
