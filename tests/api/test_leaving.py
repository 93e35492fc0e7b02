"""Users that leave and come back: deactivated, shown as such, closed to changes, and reactivated."""

import secrets
from typing import Any

import httpx
import pytest

from tests.api.test_http import WAIT, address, created, problem
from tests.support.stores import JOHN


@pytest.fixture
def user(http: httpx.Client) -> dict[str, Any]:
    """A user that is visible."""
    return created(http)


@pytest.fixture
def path(user: dict[str, Any]) -> str:
    return f"/users/{user['user_id']}/deactivation"


@pytest.fixture
def gone(http: httpx.Client, user: dict[str, Any], path: str) -> dict[str, Any]:
    """A user that is deactivated, as it is shown."""
    left = http.post(path, headers=WAIT)
    assert left.status_code == 200
    shown: dict[str, Any] = left.json()
    return shown


def numbers(http: httpx.Client, user: dict[str, Any], query: str) -> list[int]:
    """The numbers in a list of users that begins at this user."""
    answer = http.get(f"/users/?after={user['user_id'] - 1}&{query}")
    assert answer.status_code == 200, answer.text
    return [each["user_id"] for each in answer.json()]


def test_a_deactivation_is_accepted_and_so_is_its_end(http: httpx.Client, user: dict[str, Any], path: str) -> None:
    for method, type in (("POST", "DeactivateUser"), ("DELETE", "ReactivateUser")):
        answer = http.request(method, path)
        assert answer.status_code == 202
        body = answer.json()
        assert answer.headers["location"] == f"/commands/{body['command_id']}"
        assert (body["type"], body["status"], body["user_id"]) == (type, "accepted", user["user_id"])
        assert http.get(answer.headers["location"], headers=WAIT).json()["status"] == "succeeded"


def test_who_waits_gets_the_user_which_is_marked_while_it_is_deactivated(
    http: httpx.Client, user: dict[str, Any], path: str
) -> None:
    left = http.post(path, headers=WAIT)
    assert (left.status_code, left.headers["etag"]) == (200, '"2"')
    assert left.headers["preference-applied"] == "wait=10"
    assert left.json() == {**user, "version": 2, "active": False}
    back = http.delete(path, headers=WAIT)
    assert (back.status_code, back.headers["etag"]) == (200, '"3"')
    assert back.json() == {**user, "version": 3}


def test_it_is_marked_wherever_it_is_shown(http: httpx.Client, gone: dict[str, Any]) -> None:
    number, email = gone["user_id"], gone["email"]
    assert http.get(f"/users/{number}").json() == gone
    assert http.get(f"/users/?after={number - 1}&limit=1").json() == [gone]
    position = http.get(f"/users/{number}/history").json()[-1]["position"]
    assert http.get(f"/users/?email={email}&min_position={position}").json() == [gone]


def test_it_is_shown_as_it_was_and_its_history_tells_both(http: httpx.Client, user: dict[str, Any], path: str) -> None:
    http.post(path, headers=WAIT)  # else both may be recorded at the same time
    http.delete(path, headers=WAIT)
    at = f"/users/{user['user_id']}"
    states = [http.get(f"{at}?version={version}").json() for version in (1, 2, 3)]
    assert states == [user, {**user, "version": 2, "active": False}, {**user, "version": 3}]
    history = http.get(f"{at}/history").json()
    assert [(each["type"], each["changed"]) for each in history[1:]] == [
        ("UserDeactivated", {"active": False}),
        ("UserReactivated", {"active": True}),
    ]
    assert "active" not in history[0]["changed"]
    for version, shown in enumerate(states, 1):
        assert http.get(f"{at}?at={history[version - 1]['recorded_at']}").json() == shown


def test_its_events_have_its_number_and_nothing_else(http: httpx.Client, gone: dict[str, Any]) -> None:
    events = http.get(f"/events/?stream=user-{gone['user_id']}&type=UserDeactivated").json()
    assert [each["data"] for each in events] == [{"user_id": gone["user_id"]}]


def test_it_takes_no_changes_until_it_is_reactivated(http: httpx.Client, gone: dict[str, Any], path: str) -> None:
    at = f"/users/{gone['user_id']}"
    for email in (address(), gone["email"]):
        problem(http.put(at, json={"email": email}, headers=WAIT), 409, "user-deactivated")
    assert http.get(at).json() == gone
    assert http.delete(path, headers=WAIT).status_code == 200
    assert http.put(at, json={"email": address()}, headers=WAIT).json()["version"] == 4


def test_its_address_stays_taken(http: httpx.Client, gone: dict[str, Any]) -> None:
    body = {**JOHN, "email": gone["email"].upper()}
    problem(http.post("/users/", json=body, headers=WAIT), 409, "email-taken")


@pytest.mark.parametrize(("method", "times"), [("POST", 2), ("DELETE", 1)])
def test_what_is_so_already_is_no_event(
    http: httpx.Client, user: dict[str, Any], path: str, method: str, times: int
) -> None:
    for _ in range(times):
        answer = http.request(method, path, headers=WAIT)
        assert (answer.status_code, answer.json()["version"]) == (200, times)
    assert len(http.get(f"/users/{user['user_id']}/history").json()) == times


def test_a_user_that_is_not_there_can_not_leave_or_come_back(http: httpx.Client) -> None:
    for method in ("POST", "DELETE"):
        problem(http.request(method, "/users/999999999/deactivation", headers=WAIT), 404, "user-not-found")


def test_a_version_may_be_asked_for(http: httpx.Client, user: dict[str, Any], path: str) -> None:
    problem(http.post(path, headers={"If-Match": '"7"', **WAIT}), 412, "version-conflict")
    assert http.post(path, headers={"If-Match": '"1"', **WAIT}).status_code == 200
    problem(http.delete(path, headers={"If-Match": '"1"', **WAIT}), 412, "version-conflict")
    assert http.delete(path, headers={"If-Match": "*", **WAIT}).status_code == 200


def test_the_same_key_gets_the_first_answer_again(http: httpx.Client, user: dict[str, Any], path: str) -> None:
    key = {"Idempotency-Key": secrets.token_hex()}
    first = http.post(path, headers=key)
    again = http.post(path, json={}, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    http.delete(path, headers=WAIT)
    left = http.post(path, headers=key | WAIT)
    assert (left.status_code, left.json()) == (200, {**user, "version": 2, "active": False})
    problem(http.delete(path, headers=key), 422, "idempotency-key-reused")


def test_a_deactivation_takes_no_body_but_one_without_fields(http: httpx.Client, path: str) -> None:
    assert http.post(path, json={}).status_code == 202
    body = problem(http.post(path, json={"reason": "moved away"}), 422, "invalid-request")
    assert [(each["in"], each["field"]) for each in body["errors"]] == [("body", "reason")]
    problem(http.post(path, json=[]), 422, "invalid-request")
    problem(http.post(path, content=b"{", headers={"Content-Type": "application/json"}), 400, "malformed-json")
    problem(http.post(path, content=b"x"), 415, "unsupported-media-type")


def test_only_active_users_or_only_the_others_are_listed(http: httpx.Client, gone: dict[str, Any]) -> None:
    after = [created(http)["user_id"] for _ in range(2)]
    assert numbers(http, gone, "limit=2") == [gone["user_id"], after[0]]
    assert numbers(http, gone, "active=true&limit=2") == after
    assert numbers(http, gone, "active=false") == [gone["user_id"]]
    position = http.get(f"/users/{gone['user_id']}/history").json()[-1]["position"]
    held = f"email={gone['email']}&min_position={position}"
    assert numbers(http, gone, f"active=false&{held}") == [gone["user_id"]]
    assert numbers(http, gone, f"active=true&{held}") == []


def test_a_page_of_them_keeps_the_filter(http: httpx.Client, user: dict[str, Any], path: str) -> None:
    another = created(http)
    for each in (path, f"/users/{another['user_id']}/deactivation"):
        http.post(each, headers=WAIT)
    first = http.get(f"/users/?active=false&limit=1&after={user['user_id'] - 1}")
    assert [each["user_id"] for each in first.json()] == [user["user_id"]]
    second = http.get(first.links["next"]["url"])
    assert [each["user_id"] for each in second.json()] == [another["user_id"]]
    assert "next" not in second.links


@pytest.mark.parametrize("value", ["1", "0", "True", "yes", "on", "", "null", "active"])
def test_what_is_neither_true_nor_false_is_refused(http: httpx.Client, value: str) -> None:
    body = problem(http.get(f"/users/?active={value}"), 422, "invalid-request")
    assert [(each["in"], each["field"]) for each in body["errors"]] == [("query", "active")]


def test_the_page_says_that_only_deactivated_users_are_marked(contract: Any) -> None:
    active = contract["components"]["schemas"]["User"]["properties"]["active"]
    assert (active["type"], active["default"]) == ("boolean", True)
    assert "active" not in contract["components"]["schemas"]["User"]["required"]
