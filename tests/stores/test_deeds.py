"""Operators' commands that come by the inbox: done with their event and their outcome, or rejected and not done."""

from typing import Any

import pytest

from shared.access.keys import digest_of, new_key
from shared.database import engines
from shared.domain.users.read_models.users import users
from shared.operations import key_table
from shared.operations.holders import holder_of, holders_of
from shared.operations.record import CATEGORY, LogImported, record
from shared.stores import checkpoints, event_store, outcomes, set_aside
from shared.stores.inbox import Submission
from shared.stores.outcomes import Outcome
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, refusing, update
from workers.projecting import runner

pytestmark = pytest.mark.both_engines

ANN = "key:0123abcd"

PAST, FUTURE = "2000-01-01T00:00:00.000000Z", "2100-01-01T00:00:00.000000Z"


def deed(type: str, **data: Any) -> Submission:
    return Submission(type, CATEGORY, 1, data, metadata={"principal": ANN})


def handle(stores: Stores, *submissions: Submission) -> list[Outcome]:
    """How they end, all handled in one turn."""
    accepted = accept(stores, *submissions)
    stores.handler.handle()
    with stores.events.connect() as connection:
        found = outcomes.find(connection, [each.seq for each in accepted])
    return [found[each.seq] for each in accepted]


def problems(ended: list[Outcome]) -> list[str | None]:
    return [each.problem["type"] if each.problem else None for each in ended]


def audit(stores: Stores) -> list[tuple[str, str, dict[str, Any]]]:
    return [(each["type"], each["by"], each["data"]) for each in told(stores.settings, "audit")]


def test_a_command_is_retried_by_a_command_and_the_log_has_who_did_it(stores: Stores, failed: str) -> None:
    [ended] = handle(stores, deed("RetryCommand", command_id=failed.upper()))
    assert (ended.status, ended.version, ended.position) == ("succeeded", 1, 1)
    assert audit(stores) == [("CommandRetried", ANN, {"command_id": failed})]
    shown = told(stores.settings, "commands", "show", failed)
    assert (shown["status"], shown["tries"], shown["problem"]) == ("accepted", 0, None)
    assert [stores.handler.retry() for _ in range(3)] == [0, 0, 1]
    assert told(stores.settings, "commands", "show", failed)["status"] == "failed"
    assert told(stores.settings, "verify")["well"]


def test_what_can_not_be_retried_is_rejected_and_those_beside_it_go_on_in_order(stores: Stores, failed: str) -> None:
    done, *_ = accept(stores, create(), create("a@example.com"))
    stores.handler.handle()
    ended = handle(
        stores,
        update(3, "b@example.com"),
        deed("RetryCommand", command_id="nothing"),
        update(3, "c@example.com"),
        deed("RetryCommand", command_id=done.command_id),
        deed("RetryCommand", command_id=failed),
        deed("RetryCommand", command_id=failed),
        update(3, "d@example.com"),
    )
    refused = [None, "command-not-found", None, "command-not-failed", None, "command-not-failed", None]
    assert problems(ended) == refused
    assert [each.version for each in ended] == [2, None, 3, None, 1, None, 4]
    assert audit(stores) == [("CommandRetried", ANN, {"command_id": failed})]
    with stores.events.connect() as connection:
        assert [each.tries for each in set_aside.after(connection, 0, limit=9)] == [0]
    assert told(stores.settings, "verify")["well"]


def lets_in(stores: Stores, *texts: str) -> list[bool]:
    with stores.events.connect() as connection:
        holders = holders_of(key_table.all_keys(connection))
    return [holder_of(text, holders) is not None for text in texts]


def test_keys_are_added_rotated_and_revoked_by_commands(stores: Stores) -> None:
    first = new_key()
    second, third, named = new_key(first.id), new_key(first.id), {"key_id": first.id, "name": "billing"}
    texts = first.text, second.text, third.text

    def rotation(text: str, until: str) -> Submission:
        return deed("RotateKey", **named, digest=digest_of(text), old_until=until)

    assert problems(handle(stores, deed("AddKey", **named, roles=["reader"], digest=digest_of(first.text)))) == [None]
    [known] = told(stores.settings, "keys", "list")
    assert (known["created_by"], known["roles"], known["state"]) == (ANN, ["reader"], "active")
    assert lets_in(stores, *texts) == [True, False, False]
    assert problems(handle(stores, rotation(second.text, PAST))) == [None]
    assert lets_in(stores, *texts) == [False, True, False]
    assert problems(handle(stores, rotation(third.text, FUTURE))) == [None]
    assert lets_in(stores, *texts) == [False, True, True]
    ended = handle(stores, *[deed("RevokeKey", **named)] * 2, rotation(first.text, FUTURE))
    assert problems(ended) == [None, "key-revoked", "key-revoked"]
    assert lets_in(stores, *texts) == [False, False, False]
    assert problems(handle(stores, deed("RevokeKey", key_id="00000000", name="x"))) == ["key-not-found"]
    assert [type for type, *_ in audit(stores)] == ["KeyAdded", "KeyRotated", "KeyRotated", "KeyRevoked"]
    assert "digest" not in str(audit(stores))
    assert told(stores.settings, "verify")["well"]


def test_an_expired_key_is_not_rotated(stores: Stores) -> None:
    key = new_key()
    add = deed("AddKey", key_id=key.id, name="a", roles=["reader"], digest=digest_of(key.text), expires_at=PAST)
    rotate = deed("RotateKey", key_id=key.id, name="a", digest=digest_of(new_key(key.id).text), old_until=PAST)
    assert problems(handle(stores, add, rotate)) == [None, "key-expired"]


def test_p4_a_deed_its_event_and_its_outcome_come_together_or_not_at_all(stores: Stores) -> None:
    key = new_key()
    add = deed("AddKey", key_id=key.id, name="a", roles=["reader"], digest=digest_of(key.text))
    with refusing(stores.events, "INSERT", "access_keys"):
        accept(stores, create(), add)
        stores.handler.handle()
        assert (lets_in(stores, key.text), audit(stores)) == ([False], [])
        with stores.events.connect() as connection:
            assert outcomes.find(connection, [1, 2]).keys() == {1}
    assert stores.handler.retry() == 1
    assert lets_in(stores, key.text) == [True]
    assert [type for type, *_ in audit(stores)] == ["KeyAdded"]


class Reader:
    """A projection, and what its worker did."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def catch_up(self) -> tuple[int, bool]:
        """The position at which it stands then, and whether it is paused."""
        while runner.catch_up(self._stores.events, self._stores.read_model, users):
            pass
        with self._stores.read_model.connect() as connection:
            position, paused, _ = checkpoints.progress(connection, "users")
        return position, paused


def test_a_projection_is_paused_and_resumed_by_commands(stores: Stores) -> None:
    reader = Reader(stores)
    handle(stores, create(), deed("PauseProjection", projection="users"), deed("PauseProjection", projection="stats"))
    assert reader.catch_up() == (3, True)
    handle(stores, create("a@example.com"))
    assert reader.catch_up() == (3, True)
    handle(stores, deed("ResumeProjection", projection="stats"))
    assert reader.catch_up() == (3, True)
    handle(stores, deed("ResumeProjection", projection="users"), create("b@example.com"))
    assert reader.catch_up() == (7, False)
    handle(stores, deed("PauseProjection", projection="users"))
    cqrs(stores.settings, "projections", "resume", "users")
    assert reader.catch_up() == (9, False)
    assert told(stores.settings, "verify")["well"]


def test_a_projection_that_is_behind_is_paused_before_it_gets_there(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.projecting.chunk.CHUNK", 2)
    reader = Reader(stores)
    handle(stores, *(create(f"{n}@example.com") for n in range(5)), deed("PauseProjection", projection="users"))
    assert reader.catch_up() == (2, True)
    handle(stores, create())
    assert reader.catch_up() == (2, True)
    handle(stores, deed("ResumeProjection", projection="users"))
    assert reader.catch_up() == (8, False)


def test_a_pause_in_an_imported_log_is_another_installation_s(stores: Stores) -> None:
    handle(stores, create(), deed("PauseProjection", projection="users"))
    with engines.writing(stores.settings.event_store, lock=event_store.LOCK) as connection:
        record(connection, LogImported(events=2), by="test")
    assert Reader(stores).catch_up() == (3, False)
