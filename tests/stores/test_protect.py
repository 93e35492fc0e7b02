"""`cqrs protect`: what versions before stored in the clear is encrypted, read as before, and found nowhere."""

import json
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy import update as change
from sqlalchemy.exc import DBAPIError

from cli.stores import protect, rewriting
from shared.database import engines
from shared.database.statements import execute, insert_rows
from shared.decider import UniqueKey
from shared.domain.users.messages import UserCreated
from shared.messages import Data, NewEvent
from shared.operations import clear
from shared.personal.ciphers import Blind, Sealed
from shared.schemas import known
from shared.schemas.migrations import hashing
from shared.settings import Settings
from shared.stores import event_store, inbox, outcomes, subjects, unique_keys
from shared.stores.event_store import Append
from shared.stores.inbox import Acceptance, KeyReused
from shared.stores.subjects import Subjects
from tests.support.command_line import cqrs, told
from tests.support.older import DORA, EMIL, VALUES, as_stored, fill, found, opened, take, take_as_before
from tests.support.stores import JOHN, create, erase, update

pytestmark = pytest.mark.both_engines

BLIND = Blind(b"secret")


@pytest.fixture
def new(made: Callable[[Path], Settings], tmp_path: Path) -> Settings:
    """An installation in which nothing was stored yet."""
    return made(tmp_path / "data")


@pytest.fixture
def old(new: Settings) -> Settings:
    """An installation that a version before filled."""
    fill(new)
    return new


def as_read(settings: Settings) -> list[tuple[Any, ...]]:
    """The log as rules and projections get it."""
    with opened(settings) as stores, stores.events.begin() as log:
        return [(*each._replace(data_json=""), each.data) for each in event_store.read_all(log)]


def test_everything_is_encrypted_and_read_as_before(old: Settings) -> None:
    before = as_read(old)
    done = told(old, "protect")
    assert (done["events"], done["commands"]) == (3, 4)
    assert as_read(old)[:-1] == before
    assert all(Sealed.found(each.data_json) for each in as_stored(old)[:-1])
    with engines.reading(old.inbox) as connection:
        assert all(Sealed.found(each.data) for each in inbox.read_after(connection, 0, limit=9))
    assert told(old, "verify")["in_the_clear"] == 0
    again = told(old, "protect")
    assert (again["events"], again["commands"], again["head"]) == (0, 0, done["head"])


def test_until_then_verify_and_status_say_so_and_afterwards_and_in_a_new_installation_never(new: Settings) -> None:
    take(new, create("a@example.com"))
    assert not protect.is_due(new)
    take_as_before(new, create(DORA))
    assert protect.is_due(new)
    assert told(new, "verify")["in_the_clear"] == 1
    assert protect.IN_THE_CLEAR in cqrs(new, "status", code=1)
    told(new, "protect")
    assert told(new, "status", code=1)["in_the_clear"] is False
    assert told(new, "verify")["in_the_clear"] == 0


def test_a_command_in_the_clear_is_handled_as_ever_and_its_events_are_encrypted(new: Settings) -> None:
    take_as_before(new, create("x@example.org"))
    with opened(new) as stores, stores.inbox.begin() as connection:
        inbox.accept(connection, [update(1, EMIL)._replace(personal=())])
    take(new)
    assert as_read(new)[-1][-1]["new_email"] == EMIL
    assert [bool(Sealed.found(each.data_json)) for each in as_stored(new)] == [False, True]


@pytest.mark.sqlite_only
def test_a_value_in_the_clear_that_looks_sealed_is_not_taken_for_it(new: Settings) -> None:
    take_as_before(new, create(DORA)._replace(data={**JOHN, "first_name": "~John", "email": DORA}))
    assert as_read(new)[0][-1]["first_name"] == "~John"
    assert told(new, "protect")["events"] == 1
    assert as_read(new)[0][-1]["first_name"] == "~John"


def test_what_is_only_in_the_inbox_is_told_and_encrypted_too(new: Settings) -> None:
    with opened(new) as stores, stores.inbox.begin() as connection:
        inbox.accept(connection, [create(DORA)._replace(personal=())])
    assert protect.is_due(new)
    assert told(new, "protect")["commands"] == 1
    take(new)
    assert as_read(new)[-1][-1]["email"] == DORA


def test_heads_that_were_kept_count_no_longer_and_the_log_says_why(old: Settings, tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text(cqrs(old, "events", "head"))
    said = cqrs(old, "protect")
    assert said.endswith(f"it ends with {cqrs(old, 'events', 'head')}")
    cqrs(old, "events", "head", "--check", str(tmp_path / "anchors"), code=1)
    last = told(old, "audit")[-1]
    assert (last["type"], last["data"]) == ("LogProtected", {"events": 3, "commands": 4})
    assert last["by"]


def test_a_request_sent_again_is_known_by_its_key_and_body(old: Settings) -> None:
    told(old, "protect")
    same, other = create(DORA, idempotency_key="once"), create(EMIL, idempotency_key="once")
    with engines.reading(old.inbox) as connection:
        kept = connection.scalars(select(inbox.commands.c.fingerprint).where(inbox.commands.c.seq == 1)).one()
        assert kept != same.fingerprint, "an address could be tried"
    first, second = take(old, same, other)
    assert isinstance(first, Acceptance)
    assert first.replayed
    assert json.loads(first.command.data)["email"] == DORA
    assert isinstance(second, KeyReused)


def test_no_file_holds_a_value_any_more(old: Settings, request: pytest.FixtureRequest) -> None:
    with engines.writing(old.event_store, lock=event_store.LOCK) as log:  # as versions before told it
        problem = {"type": "email-taken", "status": 409, "detail": f"The email {DORA} is taken."}
        log.execute(change(outcomes.outcomes).where(outcomes.outcomes.c.seq == 4).values(problem=json.dumps(problem)))
    if engines.is_local(old.event_store):  # versions before deleted without overwriting
        with engines.briefly(engines.writer(old.event_store, lock="")) as engine, engine.connect() as log:
            for each in ("PRAGMA secure_delete = OFF", "CREATE TABLE gone AS SELECT * FROM events", "DROP TABLE gone"):
                execute(log, each)
    assert found(old, request) == set(VALUES)
    told(old, "protect")
    assert found(old, request) == set()
    with engines.reading(old.event_store) as log:
        assert outcomes.find(log, [4])[4].problem == problem | {"detail": "This email is taken."}


def test_a_log_that_holds_both_is_read_and_only_what_is_in_the_clear_is_rewritten(old: Settings) -> None:
    take(old, create("new@example.org"), update(1, "dora@example.org"))
    take_as_before(old, update(2, "emil@example.org"))
    before, sealed = as_read(old), as_stored(old)[3:5]
    assert told(old, "protect")["events"] == 4
    assert as_read(old)[:-1] == before
    assert as_stored(old)[3:5] == sealed


def test_events_before_the_first_that_is_rewritten_keep_their_hashes(new: Settings, tmp_path: Path) -> None:
    take(new, create("new@example.org"))
    (tmp_path / "anchors").write_text(cqrs(new, "events", "head"))
    take_as_before(new, create(DORA))
    told(new, "protect")
    assert told(new, "events", "head", "--check", str(tmp_path / "anchors"))["well"]


def test_a_field_that_is_marked_later_is_encrypted_with_those_that_are(
    new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(UserCreated, "personal", ("first_name", "last_name"))
        take(new, create(DORA))
    before_ = as_read(new)
    assert told(new, "protect")["events"] == 1
    its = Sealed.found(as_stored(new)[0].data_json)
    assert its
    assert its.names == "first_name,last_name,email"
    assert as_read(new)[:-1] == before_


# Older shapes


def _parted(data: Data) -> Data:
    first, last = data["name"].split() if data["name"] else (None, None)
    return data | {"first_name": first, "last_name": last}


class UserCreatedAnew(UserCreated):
    """The second shape; the first had one name."""

    schema_version = 2
    upcasters = {1: _parted}
    formerly_personal = ("name",)


def test_fields_that_only_older_shapes_have_are_encrypted_if_the_event_names_them(
    new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    [names] = clear.fields([UserCreatedAnew]).values()
    monkeypatch.setattr(known, "MARKED", clear.Marked({"UserCreated": names}, {}))
    with engines.writing(new.event_store, lock="event_store") as log:
        older = {"user_id": 1, "name": "John Doe", "email": DORA}
        event_store.append(log, Append("user-1", [NewEvent("UserCreated", older, {})]))

    def upcast() -> UserCreated:
        with opened(new) as stores, stores.events.begin() as log:
            [event] = event_store.read_stream(log, "user-1")
            return event.model({"UserCreated": UserCreatedAnew})

    assert told(new, "protect")["events"] == 1
    assert "John" not in as_stored(new)[0].data_json
    assert upcast().first_name == "John"
    destroy(new, "user-1")
    assert upcast().first_name is None


# Erasing


def destroy(settings: Settings, stream: str) -> None:
    with closing(Subjects.of(settings)) as people:
        people.erase([stream])


def outcome(settings: Settings, answer: object) -> outcomes.Outcome:
    assert isinstance(answer, Acceptance)
    with engines.reading(settings.event_store) as log:
        return outcomes.find(log, [answer.command.seq])[answer.command.seq]


def test_nobody_is_erased_while_anything_is_in_the_clear_and_everybody_can_be_afterwards(
    old: Settings, request: pytest.FixtureRequest
) -> None:
    take(old, create("new@example.org"))
    for user in (1, 4):  # all that the log has of the second is encrypted: what the inbox has can't be told as fast
        [no] = take(old, erase(user))
        assert (outcome(old, no).problem or {})["type"] == "log-in-the-clear"
    told(old, "protect")
    [done] = take(old, erase(1))
    assert outcome(old, done).status == "succeeded"
    assert as_read(old)[0][-1] == {"user_id": 1, "first_name": None, "last_name": None, "email": None}
    assert found(old, request) == set()
    assert as_read(old)[1][-1]["email"] == "x@example.org"


def test_what_a_worker_of_a_version_before_appends_later_keeps_its_stream_from_being_erased(new: Settings) -> None:
    take(new, create("new@example.org"))
    with opened(new) as stores, stores.events.begin() as log:
        assert not stores.handler._is_clear(log, "user-1")
        later = NewEvent("UserEmailUpdated", {"user_id": 1, "new_email": EMIL}, {})
        event_store.append(log, Append("user-1", [later]))
        assert stores.handler._is_clear(log, "user-1")


def test_what_is_in_the_clear_of_somebody_whose_key_is_destroyed_is_null_for_good(old: Settings) -> None:
    destroy(old, "user-2")
    assert told(old, "protect")["events"] == 3
    nobody = {"first_name": None, "last_name": None, "email": None}
    assert [data for *_, data in as_read(old)[:-1]] == [
        {"user_id": 1, **JOHN, "email": DORA},
        {"user_id": 2, **nobody},
        {"user_id": 2, "new_email": None},
    ]


# What is refused


def test_it_is_refused_while_the_service_runs(old: Settings) -> None:
    with opened(old) as stores, stores.inbox.connect(), stores.events.connect():
        said = cqrs(old, "protect", code=1)
    assert said.endswith("stop the service first\n")
    assert told(old, "protect")["events"] == 3


def test_nothing_is_changed_if_anything_would_be_read_otherwise(old: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_stored(old)
    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "_read", lambda json, *_: {"user_id": 2} if '"user_id":2' in json else None)
        patch.setattr(rewriting, "seal_commands", lambda *_: 0)
        assert "event 1 of user-1: it isn't read as before" in cqrs(old, "protect", code=1)
    assert as_stored(old) == before
    with engines.writing(old.event_store, lock="event_store") as log, pytest.raises(DBAPIError, match="append-only"):
        log.execute(change(event_store.events).values(data="{}"))


def test_a_log_that_was_changed_gets_no_hashes_that_fit(old: Settings) -> None:
    with engines.writing(old.event_store, lock="event_store") as log, rewriting.changeable(log):
        log.execute(change(event_store.events).where(event_store.events.c.position == 2).values(recorded_at="2020"))
    assert "event 2 isn't as it was recorded" in cqrs(old, "protect", code=1)


def test_what_is_encrypted_under_a_key_that_is_lost_is_left_alone(
    new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(UserCreated, "personal", ("first_name", "last_name"))
        take(new, create(DORA))
    with engines.writing(new.subjects, lock="subjects") as connection:
        connection.execute(delete(subjects.keys))
    assert "event 1 of user-1: the person's key is lost" in cqrs(new, "protect", code=1)
    with engines.reading(new.subjects) as connection:
        assert not connection.execute(select(subjects.keys)).all()


# Imports


@pytest.mark.sqlite_only
def test_a_log_that_is_imported_in_the_clear_keeps_its_hashes_and_is_told(old: Settings, tmp_path: Path) -> None:
    log, another = tmp_path / "log.jsonl", Settings(data_dir=tmp_path / "another", _env_file=None)
    log.write_text(cqrs(old, "events", "export"))
    cqrs(another, "events", "import", str(log))
    assert as_stored(another)[:-1] == as_stored(old)
    assert protect.is_due(another)
    assert told(another, "protect")["events"] == 3


# Keys


def test_keys_that_versions_before_stored_as_they_were_are_hashed_contested_ones_too(
    new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "PAGE_SIZE", 2)
    keys = [(f"{n}@example.com", f"user-{n}") for n in range(1, 6)]
    with engines.writing(new.event_store, lock="event_store") as log:
        insert_rows(log, unique_keys.unique_keys, [("email", *each) for each in keys])
        contested = [("email", "1@example.com", f"user-{n}", n) for n in range(6, 9)]
        insert_rows(log, unique_keys.contested_keys, contested)
        hashing.hash_unique_keys(log, BLIND, lambda _: nullcontext(lambda _done, _all: None))
        names = [UniqueKey("email", BLIND("email", value)) for value, _ in keys]
        holders = unique_keys.holders(log, names)
        assert holders[names[0]] == ("user-1", "user-6", "user-7", "user-8")
        assert [holders[name] for name in names[1:]] == [(stream,) for _, stream in keys[1:]]
        assert (unique_keys.count(log), len(unique_keys.contested(log))) == (8, 3)
    with opened(new) as stores, stores.inbox.begin() as connection:
        inbox.accept(connection, [create(each, idempotency_key=each) for each, _ in keys])
        for seq, (each, _) in enumerate(keys, 1):
            key = change(inbox.commands).where(inbox.commands.c.seq == seq).values(idempotency_key=each)
            connection.execute(key)
        hashing.hash_idempotency_keys(connection, BLIND, lambda _: nullcontext(lambda _done, _all: None))
        found = connection.scalars(select(inbox.commands.c.idempotency_key).order_by(inbox.commands.c.seq)).all()
    assert found == [BLIND("idempotency", each) for each, _ in keys]
