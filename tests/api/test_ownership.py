"""Whose a command is: its sender's, with its idempotency key, and nobody else learns of it; and who that was."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from shared.access.keys import Key
from shared.access.principals import operator_here
from shared.database import engines
from shared.stores import event_store, inbox
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.keys import principal
from tests.support.service import eventually
from tests.support.stores import JOHN, create, inbox_of
from tests.support.trouble import new_email

MOMENT = {"date", "x-request-id"}

SPOOFS = {
    "X-Principal": "key:00000000",
    "X-User": "admin",
    "X-Forwarded-User": "admin",
    "X-Remote-User": "admin",
    "Remote-User": "admin",
    "From": "admin@example.com",
    "Principal": "cli:root@host",
    "Forwarded": "for=admin;by=admin",
    "baggage": "principal=cli%3Aroot%40host",
    "tracestate": "principal=root",
    "Metadata": '{"principal":"root"}',
}


@pytest.fixture(scope="module")
def ann(closed: Closed) -> Key:
    return closed.new_key("reader", "writer")


@pytest.fixture(scope="module")
def bob(closed: Closed) -> Key:
    return closed.new_key("reader", "writer")


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """All of an answer that may tell something."""
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in MOMENT}, answer.text


# Idempotency keys


def test_p10_an_idempotency_key_of_somebody_else_is_another_one(closed: Closed, ann: Key, bob: Key) -> None:
    email = new_email()
    first = closed.post(ann, email, Idempotency_Key="k")
    fresh = closed.post(bob, new_email(), Idempotency_Key="fresh")
    same, other = closed.post(bob, email, Idempotency_Key="k"), closed.post(bob, new_email(), Idempotency_Key="k")
    assert first.status_code == same.status_code == 202
    assert first.json()["command_id"] != same.json()["command_id"]
    assert set(same.headers) == set(fresh.headers)  # and Idempotency-Replayed is not among them
    assert other.status_code == 422  # his own key by now
    again = [closed.post(key, email, Idempotency_Key="k") for key in (ann, bob)]
    assert [each.headers["idempotency-replayed"] for each in again] == ["true", "true"]
    assert [each.json()["command_id"] for each in again] == [each.json()["command_id"] for each in (first, same)]


def test_p10_an_idempotency_key_can_not_name_its_owner(closed: Closed, ann: Key, bob: Key) -> None:
    email = new_email()
    first = closed.post(ann, email, Idempotency_Key="mine")
    for guess in (f"{principal(ann)}\tmine", f"{principal(ann)} mine", f"{principal(ann)}\\nmine", principal(ann)):
        answer = closed.post(bob, email, Idempotency_Key=guess)
        assert (answer.status_code, "idempotency-replayed" in answer.headers) == (202, False)
        assert answer.json()["command_id"] != first.json()["command_id"]


def test_p10_a_rotated_key_still_owns_what_it_did(closed: Closed) -> None:
    key, email = closed.new_key("writer"), new_email()
    first = closed.post(key, email, Idempotency_Key="k")
    new = keys.rotate(closed.settings, key)
    eventually(lambda: closed.get("/", new).status_code == 200)
    again = closed.post(new, email, Idempotency_Key="k")
    assert (again.headers["idempotency-replayed"], again.json()) == ("true", first.json())
    assert closed.get(first.headers["location"], new).status_code == 200
    assert closed.get(first.headers["location"], key).status_code == 401


# Commands


@pytest.mark.parametrize("suffix", ["", "/stream"])
@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=1"}, {"Last-Event-ID": "succeeded"}])
def test_p10_a_command_of_somebody_else_is_not_there(
    closed: Closed, ann: Key, bob: Key, suffix: str, headers: dict[str, str]
) -> None:
    id = closed.post(ann, new_email()).json()["command_id"]
    eventually(lambda: closed.get(f"/commands/{id}", ann).json()["status"] == "succeeded")
    nothing = id[:-4] + ("0000" if id[-4:] != "0000" else "1111")
    for spelled in str, str.upper:
        theirs, none = (closed.get(f"/commands/{spelled(each)}{suffix}", bob, **headers) for each in (id, nothing))
        assert theirs.status_code == none.status_code == 404
        assert seen(theirs)[:2] == seen(none)[:2]
        assert theirs.text.replace(spelled(id), "") == none.text.replace(spelled(nothing), "")
    for key in (ann, closed.keys["auditor"]):
        assert closed.get(f"/commands/{id}{suffix}", key, **headers).status_code in {200, 204}


def test_p10_a_command_of_nobody_known_is_shown_to_auditors_only(closed: Closed, ann: Key) -> None:
    with inbox_of(closed.settings) as connection:
        [answer] = inbox.accept(connection, [create(new_email())])  # as versions did that knew no principals
    path = f"/commands/{answer.command.command_id}"  # type: ignore[union-attr]
    assert closed.get(path, ann).status_code == closed.get(f"{path}/stream", ann).status_code == 404
    assert closed.get(path, closed.keys["auditor"]).json()["principal"] is None


# Writers who are no readers


def put(closed: Closed, user_id: int, email: str, key: Key, **headers: str) -> httpx.Response:
    given = keys.bearer(key) | {"Prefer": "wait=10"} | {name.replace("_", "-"): v for name, v in headers.items()}
    return closed.http.put(f"/users/{user_id}", json={"email": email}, headers=given)


@pytest.fixture
def user(closed: Closed) -> Any:
    answer = closed.post(closed.all, new_email(), Prefer="wait=10")
    assert answer.status_code == 201
    return answer.json()


def shows_nothing(answer: httpx.Response, user: Any) -> bool:
    everything = f"{answer.headers}{answer.text}"
    return not any(user[name] in everything for name in ("first_name", "last_name", "email"))


def test_p10_a_writer_who_is_no_reader_is_told_how_it_ended_and_nothing_of_the_user(closed: Closed, user: Any) -> None:
    writer, email = closed.keys["writer"], new_email()
    changed = put(closed, user["user_id"], email, writer)
    assert (changed.status_code, changed.json()["status"], changed.json()["version"]) == (202, "succeeded", 2)
    assert shows_nothing(changed, user)
    assert "etag" not in changed.headers
    created = closed.post(writer, new_email(), Prefer="wait=10")
    assert (created.status_code, created.json()["status"]) == (202, "succeeded")
    assert JOHN["first_name"] not in created.text
    replayed = [closed.post(writer, email, Prefer="wait=10", Idempotency_Key=email) for _ in range(2)][1]
    assert JOHN["first_name"] not in replayed.text
    assert closed.get(f"/users/{user['user_id']}", writer).status_code == 403


def test_p10_refused_commands_tell_a_writer_no_more_than_they_must(closed: Closed, user: Any) -> None:
    """That an address is taken, a user isn't there, or is at another version: without these he could not write."""
    writer, number = closed.keys["writer"], user["user_id"]
    other = closed.post(closed.all, new_email(), Prefer="wait=10").json()
    taken = put(closed, number, other["email"], writer)
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/email-taken")
    assert shows_nothing(taken, user)
    assert f"user {other['user_id']}" not in taken.text  # not whose it is
    assert f"/users/{other['user_id']}" not in taken.text
    for headers in ({"If-Match": '"7"'}, {"If-None-Match": "*"}, {"If-None-Match": '"1"'}):
        stale = put(closed, number, new_email(), writer, **headers)
        assert (stale.status_code, shows_nothing(stale, user)) == (412, True)
    missing = put(closed, 99_999, new_email(), writer)
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/user-not-found")


# Who it was


@pytest.fixture(scope="module")
def done(closed: Closed, ann: Key) -> Any:
    """A command that was sent with all that somebody might think names its sender."""
    answer = closed.post(ann, new_email(), Prefer="wait=10", X_Request_ID="who-was-it", **SPOOFS)
    assert answer.status_code == 201, answer.text
    events = closed.get(f"/events/?stream=user-{answer.json()['user_id']}", closed.keys["auditor"]).json()
    return closed.get(f"/commands/{events[0]['metadata']['command_id']}", ann).json()


def test_p10_who_did_it_is_kept_with_the_command_and_its_events(closed: Closed, ann: Key, done: Any) -> None:
    auditor, path = closed.keys["auditor"], f"/users/{done['user_id']}"
    assert done["principal"] == principal(ann)
    [version] = closed.get(f"{path}/history", auditor).json()
    assert version["principal"] == principal(ann)
    [event] = closed.get(f"/events/?stream=user-{done['user_id']}", auditor).json()
    expected = {"command_id", "correlation_id", "principal", "traceparent"}
    assert (event["metadata"]["principal"], set(event["metadata"]) <= expected) == (principal(ann), True)
    with engines.reading(closed.settings.inbox) as connection:
        found = inbox.find(connection, done["command_id"])
    assert found
    assert found.principal == principal(ann)


def test_p10_who_did_it_is_in_the_logs_of_all_roles(closed: Closed, ann: Key, done: Any) -> None:
    def roles() -> set[str]:
        lines = [line for line in closed.service.log.read_text().splitlines() if done["command_id"] in line]
        assert all(f'"principal": "{principal(ann)}"' in line for line in lines)
        return {line.partition('"role": "')[2].partition("@")[0] for line in lines}

    eventually(lambda: roles() == {"api", "command-worker-1", "projection-worker-1"})


@pytest.mark.parametrize("more", [{"metadata": {"principal": "root"}}, {"principal": "root"}, {"by": "root"}])
def test_p10_a_body_can_not_name_its_sender(closed: Closed, ann: Key, more: dict[str, Any]) -> None:
    body = {**JOHN, "email": new_email(), **more}
    answer = closed.http.post("/users/", json=body, headers=keys.bearer(ann))
    assert answer.status_code == 422 or answer.json()["principal"] == principal(ann)
    assert closed.http.post("/users/?principal=root", json=body, headers=keys.bearer(ann)).status_code == 422


def test_p10_nothing_that_was_sent_became_a_principal(closed: Closed, done: Any) -> None:
    known = {f"key:{key.id}" for key in closed.keys.values()}
    with engines.reading(closed.settings.event_store) as connection:
        metadata = connection.scalars(select(event_store.events.c.metadata)).all()
    assert done["principal"] not in known
    sent = [each.replace(operator_here(), "") for each in metadata]  # who runs the tests may well be root
    assert not [each for each in sent if "root" in each or "admin" in each]
