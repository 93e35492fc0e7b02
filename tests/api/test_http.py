"""Every row of the HTTP contract, and every error, against a live service."""

import itertools
import json
import secrets
import time
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.service import MIN_POSITION_TIMEOUT
from tests.support.service import Service, eventually
from tests.support.stores import JOHN

WAIT = {"Prefer": "wait=10"}


def address() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def created(http: httpx.Client, **fields: str) -> dict[str, Any]:
    """A user that is visible."""
    answer = http.post("/users/", json={**JOHN, "email": address(), **fields}, headers=WAIT)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


def problem(answer: httpx.Response, status: int, type: str) -> dict[str, Any]:
    """The body of a problem, checked for what RFC 9457 asks of each."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{type}", status)
    assert body["title"]
    assert body["detail"]
    return body


# Commands


def test_a_post_is_accepted_with_the_number_of_its_user(http: httpx.Client) -> None:
    answer = http.post("/users/", json={**JOHN, "email": address()})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/commands/{body['command_id']}"
    assert body["links"] == {"self": f"/commands/{body['command_id']}", "user": f"/users/{body['user_id']}"}
    assert (body["type"], body["status"]) == ("CreateUser", "accepted")
    assert [body[name] for name in ("handled_at", "version", "position", "problem")] == [None] * 4


def test_user_numbers_count_up(http: httpx.Client) -> None:
    numbers = [http.post("/users/", json={**JOHN, "email": address()}).json()["user_id"] for _ in range(3)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_a_user_may_be_changed_before_its_creation_is_handled(http: httpx.Client) -> None:
    number = http.post("/users/", json={**JOHN, "email": address()}).json()["user_id"]
    new = address()
    assert http.put(f"/users/{number}", json={"email": address()}).status_code == 202
    answer = http.put(f"/users/{number}", json={"email": new}, headers=WAIT)
    assert answer.json() == {"user_id": number, "first_name": "John", "last_name": "Doe", "email": new, "version": 3}


def test_a_command_tells_its_success(http: httpx.Client) -> None:
    location = http.post("/users/", json={**JOHN, "email": address()}).headers["location"]
    answer = http.get(location, headers=WAIT)
    assert answer.headers["preference-applied"] == "wait=10"
    body = answer.json()
    assert (body["status"], body["version"], body["problem"]) == ("succeeded", 1, None)
    assert body["accepted_at"] < body["handled_at"]
    user = http.get(f"/users/{body['user_id']}", params={"min_position": body["position"]})
    assert user.status_code == 200


def test_a_command_tells_its_rejection(http: httpx.Client) -> None:
    taken = created(http)["email"]
    location = http.post("/users/", json={**JOHN, "email": taken}).headers["location"]
    body = http.get(location, headers=WAIT).json()
    assert (body["status"], body["version"], body["position"]) == ("rejected", None, None)
    assert body["problem"] == {
        "type": "/problems/email-taken",
        "title": "Email taken",
        "status": 409,
        "detail": "This email is taken.",
        "instance": location,
    }


def test_commands_are_listed_the_latest_first_a_page_at_a_time(http: httpx.Client) -> None:
    people = [{**JOHN, "email": address()} for _ in range(5)]
    ids = [http.post("/users/", json=each).json()["command_id"] for each in people]
    page = http.get("/commands/", params={"limit": 2})
    seen = [each["command_id"] for each in page.json()]
    while len(seen) < 5:
        page = http.get(page.links["next"]["url"])
        assert page.status_code == 200
        seen += [each["command_id"] for each in page.json()]
    assert seen[:5] == ids[::-1]
    assert http.get(f"/commands/{seen[0]}").json()["command_id"] == seen[0]
    problem(http.get("/commands/", params={"before": "unknown"}), 404, "command-not-found")
    for spelling in ("yes", "1", ""):
        problem(http.get("/commands/", params={"failed": spelling}), 422, "invalid-request")


def test_a_rejected_creation_leaves_its_number_unused(http: httpx.Client) -> None:
    taken = created(http)["email"]
    number = http.post("/users/", json={**JOHN, "email": taken}).json()["user_id"]
    assert created(http)["user_id"] == number + 1
    problem(http.get(f"/users/{number}"), 404, "user-not-found")


def test_an_unknown_command_is_not_found(http: httpx.Client) -> None:
    problem(http.get("/commands/other"), 404, "command-not-found")


def test_a_command_s_id_may_be_in_capitals(http: httpx.Client) -> None:
    command = http.post("/users/", json={**JOHN, "email": address()}).json()
    shouted = f"/commands/{command['command_id'].upper()}"
    assert http.get(shouted).json()["command_id"] == command["command_id"]
    assert http.head(f"{shouted}/stream").status_code == 200


# Waiting


def test_waiting_for_a_creation_shows_the_user(http: httpx.Client) -> None:
    email = address()
    answer = http.post("/users/", json={**JOHN, "email": email}, headers={"Prefer": "respond-async, wait=10"})
    number = answer.json()["user_id"]
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/users/{number}"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.json() == {**JOHN, "user_id": number, "email": email, "version": 1}
    assert http.get(f"/users/{number}").json() == answer.json()


def test_waiting_for_a_change_shows_the_user(http: httpx.Client) -> None:
    user, new = created(http), address()
    answer = http.put(f"/users/{user['user_id']}", json={"email": new}, headers=WAIT)
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert answer.json() == {**user, "email": new, "version": 2}


def test_waiting_for_a_change_that_changes_nothing_shows_the_user_as_it_is(http: httpx.Client) -> None:
    user = created(http)
    answer = http.put(f"/users/{user['user_id']}", json={"email": user["email"]}, headers=WAIT)
    assert (answer.status_code, answer.json()) == (200, user)


def test_waiting_for_a_rejection_shows_its_problem(http: httpx.Client) -> None:
    user, other = created(http), created(http)
    path = f"/users/{user['user_id']}"
    taken = http.put(path, json={"email": other["email"].upper()}, headers=WAIT)
    assert problem(taken, 409, "email-taken")["instance"].startswith("/commands/")
    assert taken.headers["preference-applied"] == "wait=10"
    problem(http.put("/users/999999999", json={"email": address()}, headers=WAIT), 404, "user-not-found")
    stale = http.put(path, json={"email": address()}, headers={**WAIT, "If-Match": '"7"'})
    problem(stale, 412, "version-conflict")


def test_no_wait_is_the_plain_202(http: httpx.Client) -> None:
    answer = http.post("/users/", json={**JOHN, "email": address()}, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")
    for unknown in ("wait=soon", "wait=-1", "wait", "handling=strict"):
        answer = http.post("/users/", json={**JOHN, "email": address()}, headers={"Prefer": unknown})
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers


# Idempotency-Key


def test_the_same_key_and_request_get_the_first_answer_again(http: httpx.Client) -> None:
    request: dict[str, Any] = {
        "json": {**JOHN, "email": address()},
        "headers": {"Idempotency-Key": secrets.token_hex()},
    }
    first = http.post("/users/", **request)
    http.get(first.headers["location"], headers=WAIT)
    again = http.post("/users/", **request)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.headers["location"], again.content) == (
        202,
        first.headers["location"],
        first.content,
    )


def test_the_same_key_and_request_may_wait(http: httpx.Client) -> None:
    body, key = {**JOHN, "email": address()}, {"Idempotency-Key": secrets.token_hex()}
    number = http.post("/users/", json=body, headers=key).json()["user_id"]
    again = http.post("/users/", json=body, headers={**key, **WAIT})
    assert (again.status_code, again.json()["user_id"], again.headers["idempotency-replayed"]) == (201, number, "true")


def test_a_replay_shows_the_user_as_its_command_left_it_however_much_came_after(http: httpx.Client) -> None:
    user, keys = {**JOHN, "email": address()}, [{"Idempotency-Key": secrets.token_hex(), **WAIT} for _ in range(3)]
    firsts = [http.post("/users/", json=user, headers=keys[0])]
    path = firsts[0].headers["location"]
    bodies = [{"email": address()} for _ in range(2)]
    firsts += [http.put(path, json=body, headers=key) for body, key in zip(bodies, keys[1:], strict=True)]
    http.put(path, json={"email": address()}, headers=WAIT)
    again = [http.post("/users/", json=user, headers=keys[0])]
    again += [http.put(path, json=body, headers=key) for body, key in zip(bodies, keys[1:], strict=True)]
    for version, (first, second) in enumerate(zip(firsts, again, strict=True), 1):
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert second.headers["etag"] == first.headers["etag"] == f'"{version}"'
        assert second.headers.get("location") == first.headers.get("location")
        assert second.headers["idempotency-replayed"] == "true"


def test_a_replay_of_a_change_that_changed_nothing_shows_what_it_found(http: httpx.Client) -> None:
    user = created(http)
    key = {"Idempotency-Key": secrets.token_hex(), **WAIT}
    path, body = f"/users/{user['user_id']}", {"email": user["email"]}
    first = http.put(path, json=body, headers=key)
    http.put(path, json={"email": address()}, headers=WAIT)
    assert http.put(path, json=body, headers=key).json() == first.json() == user


def test_the_same_key_with_another_request_is_refused(http: httpx.Client) -> None:
    key = {"Idempotency-Key": secrets.token_hex()}
    user = http.post("/users/", json={**JOHN, "email": address()}, headers=key).json()
    problem(http.post("/users/", json={**JOHN, "email": address()}, headers=key), 422, "idempotency-key-reused")
    change = http.put(f"/users/{user['user_id']}", json={"email": address()}, headers=key)
    problem(change, 422, "idempotency-key-reused")


def test_a_key_is_for_puts_too(http: httpx.Client) -> None:
    user, key = created(http), {"Idempotency-Key": secrets.token_hex()}
    request: dict[str, Any] = {"json": {"email": address()}, "headers": {**key, "If-Match": '"1"'}}
    first = http.put(f"/users/{user['user_id']}", **request)
    again = http.put(f"/users/{user['user_id']}", **request)
    assert first.json() == again.json()
    waited = http.put(f"/users/{user['user_id']}", json=request["json"], headers={**request["headers"], **WAIT})
    assert (waited.status_code, waited.json()["version"]) == (200, 2)


# If-Match


def test_a_change_of_the_version_named_is_made(http: httpx.Client) -> None:
    path = f"/users/{created(http)['user_id']}"
    for version in ('"1"', '"2"', "*"):
        answer = http.put(path, json={"email": address()}, headers={**WAIT, "If-Match": version})
        assert answer.status_code == 200


NEVER = ['"one"', 'W/"1"', "", '"-1"', '"0"', '"01"', '"99999999999999999999"', '"1,2"', '"xyzzy", "r2d2xxxx", W/"1"']


@pytest.mark.parametrize("value", NEVER)
def test_an_if_match_that_names_no_version_never_matches_whoever_waits(http: httpx.Client, value: str) -> None:
    path = f"/users/{created(http)['user_id']}"
    last = len(http.get("/events/", params={"limit": 1000}).json())
    for more in ({}, WAIT):
        change = http.put(path, json={"email": address()}, headers={"If-Match": value, **more})
        problem(change, 412, "version-conflict")
        problem(http.get(path, headers={"If-Match": value}), 412, "version-conflict")
    assert len(http.get("/events/", params={"limit": 1000}).json()) == last


@pytest.mark.parametrize("value", ['"1", "2"', '"x", "2"', ',, "9" ,"2",', '"2",W/"2"'])
def test_a_change_is_made_if_the_version_is_among_several(http: httpx.Client, value: str) -> None:
    path = f"/users/{created(http)['user_id']}"
    http.put(path, json={"email": address()}, headers=WAIT)
    again = {**WAIT, "If-Match": value, "Idempotency-Key": secrets.token_hex()}
    body = {"email": address()}
    for _ in range(2):
        answer = http.put(path, json=body, headers=again)
        assert (answer.status_code, answer.json()["version"]) == (200, 3)
    problem(http.put(path, json=body, headers={**again, "If-Match": '"2", "4"'}), 422, "idempotency-key-reused")
    problem(http.put(path, json={"email": address()}, headers={**WAIT, "If-Match": value}), 412, "version-conflict")


def test_a_version_among_several_is_looked_at_when_the_command_is_decided(http: httpx.Client) -> None:
    path = f"/users/{created(http)['user_id']}"
    commands = [http.put(path, json={"email": address()}, headers={"If-Match": '"1", "2"'}) for _ in range(4)]
    ends = [http.get(each.headers["location"], headers=WAIT).json()["status"] for each in commands]
    assert ends == ["succeeded", "succeeded", "rejected", "rejected"]


def test_whichever_version_needs_one_that_is_there(http: httpx.Client) -> None:
    answer = http.put("/users/999999999", json={"email": address()}, headers={**WAIT, "If-Match": "*"})
    problem(answer, 412, "version-conflict")


def test_a_change_may_ask_for_any_other_version(http: httpx.Client) -> None:
    path = f"/users/{created(http)['user_id']}"
    for value, status in {'"1"': 412, 'W/"1"': 412, "*": 412, '"2", "x"': 200, '"3"': 200, '"3", "1"': 412}.items():
        answer = http.put(path, json={"email": address()}, headers={**WAIT, "If-None-Match": value})
        assert answer.status_code == status, value


def test_what_is_added_to_has_no_tag_and_is_there(http: httpx.Client) -> None:
    for name, value, status in (
        ("If-Match", "*", 201), ("If-Match", '"1"', 412), ("If-None-Match", '"1"', 201), ("If-None-Match", "*", 412),
    ):  # fmt: skip
        answer = http.post("/users/", json={**JOHN, "email": address()}, headers={**WAIT, name: value})
        assert answer.status_code == status, (name, value)


@pytest.mark.parametrize("value", ["1", '"1', '"1" "2"', '"1", *', "*, *", "'1'", 'w/"1"', 'W/ "1"', '"a b"', '"1";'])
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_what_is_no_list_of_tags_is_refused(http: httpx.Client, name: str, value: str) -> None:
    user = created(http)
    for answer in (
        http.get(f"/users/{user['user_id']}", headers={name: value}),
        http.put(f"/users/{user['user_id']}", json={"email": address()}, headers={name: value}),
        http.post("/users/", json={**JOHN, "email": address()}, headers={name: value}),
    ):
        assert name in problem(answer, 400, "malformed-header")["detail"]


# Input


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", ""),
        ("first_name", "   "),
        ("first_name", "x" * 201),
        ("first_name", "Jo\x00hn"),
        ("first_name", "Jo\nhn"),
        ("last_name", "Do\x85e"),
        ("last_name", "Do\u2028e"),
        ("last_name", 7),
        ("last_name", None),
        ("last_name", ["Doe"]),
        ("email", ""),
        ("email", "john"),
        ("email", "john@"),
        ("email", "john@example"),
        ("email", "john doe@example.com"),
        ("email", "john..doe@example.com"),
        ("email", "x" * 250 + "@example.com"),
        ("email", "John <john@example.com>"),
        ("email", "john@localhost"),
        ("email", None),
        ("nickname", "Jo"),
        ("user_id", 7),
    ],
)
def test_a_field_that_is_not_right_is_named(http: httpx.Client, field: str, value: object) -> None:
    body = problem(http.post("/users/", json={**JOHN, "email": address(), field: value}), 422, "invalid-request")
    assert [(error["in"], error["field"]) for error in body["errors"]] == [("body", field)]
    assert body["errors"][0]["detail"]


@pytest.mark.parametrize("missing", ["first_name", "last_name", "email"])
def test_a_field_that_is_missing_is_named(http: httpx.Client, missing: str) -> None:
    body = problem(
        http.post("/users/", json={name: value for name, value in JOHN.items() if name != missing}),
        422,
        "invalid-request",
    )
    assert body["errors"] == [{"in": "body", "field": missing, "detail": "Field required"}]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("  John  ", "John"),
        ("x" * 200, "x" * 200),
        ("  " + "x" * 200 + "  ", "x" * 200),
        ("Žofie", "Žofie"),
        ("李", "李"),
        ("محمد", "محمد"),
        ("O'Brien-Smith jr.", "O'Brien-Smith jr."),
        ("می‌خواهم", "می‌خواهم"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_names_of_any_script_are_trimmed_and_kept(http: httpx.Client, name: str, stored: str) -> None:
    assert created(http, first_name=name)["first_name"] == stored


def test_an_address_is_stored_as_given_and_compared_without_case(http: httpx.Client) -> None:
    email = f"John.{secrets.token_hex(4)}@Example.COM"
    assert created(http, email=f" {email} ")["email"] == email
    problem(http.post("/users/", json={**JOHN, "email": email.lower()}, headers=WAIT), 409, "email-taken")


def test_an_address_is_found_and_refused_however_its_domain_is_spelled(http: httpx.Client) -> None:
    local = secrets.token_hex(4)
    user = created(http, email=f"{local}@bücher.example.org")
    other = f"{local.upper()}@XN--BCHER-kva.example.org"
    problem(http.post("/users/", json={**JOHN, "email": other}, headers=WAIT), 409, "email-taken")

    def found(spelling: str) -> bool:
        return bool(http.get("/users/", params={"email": spelling}).json() == [user])

    for spelling in (user["email"], other, f"{local}@ｂｕ\u0308cher。example.org"):  # noqa: RUF001
        eventually(partial(found, spelling))


@pytest.mark.parametrize("number", ["1_0", "+1", "-1", "1.0", " 1", "1 ", "x", "1.5", "\u0661", "\u00b2"])
def test_what_is_no_number_is_nowhere(http: httpx.Client, number: str) -> None:
    path = f"/users/{quote(number)}"
    for answer in (http.get(path), http.put(path, json={"email": address()}), http.get(f"{path}/history")):
        problem(answer, 404, "not-found")


@pytest.mark.parametrize("number", ["0", "9223372036854775808", "1" * 30, "1" * 5000])
def test_a_number_that_no_user_can_have_is_refused(http: httpx.Client, number: str) -> None:
    for answer in (http.get(f"/users/{number}"), http.put(f"/users/{number}", json={"email": address()})):
        body = problem(answer, 422, "invalid-request")
        assert (body["errors"][0]["in"], body["errors"][0]["field"]) == ("path", "user_id")


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[1,", b'{"first_name": "John",}', b"\xff\xfe", b'{"a": "\\ud800"', b"[" * 30000, b"nul"]
)
def test_a_body_that_is_not_json_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/users/", content=body, headers={"Content-Type": "application/json"})
    if body:
        problem(answer, 400, "malformed-json")
    else:
        problem(answer, 422, "invalid-request")


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"John"'])
def test_json_that_is_no_object_is_refused(http: httpx.Client, body: bytes) -> None:
    problem(http.post("/users/", content=body, headers={"Content-Type": "application/json"}), 422, "invalid-request")


def test_a_byte_order_mark_before_the_json_is_no_matter(http: httpx.Client) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({**JOHN, "email": address()}).encode()
    assert http.post("/users/", content=body, headers={"Content-Type": "application/json"}).status_code == 202


def test_half_a_surrogate_pair_is_no_text(http: httpx.Client) -> None:
    body = json.dumps({**JOHN, "email": address(), "first_name": "\ud800"}).encode()
    problem(http.post("/users/", content=body, headers={"Content-Type": "application/json"}), 400, "malformed-json")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", None])
def test_a_body_of_another_type_is_refused(http: httpx.Client, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = http.post("/users/", content=json.dumps({**JOHN, "email": address()}).encode(), headers=headers)
    problem(answer, 415, "unsupported-media-type")


def test_a_body_over_64_kib_is_refused(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    problem(http.post("/users/", content=b" " * (64 * 1024 + 1), headers=headers), 413, "content-too-large")
    chunks = (b" " * 8192 for _ in range(9))
    problem(http.post("/users/", content=chunks, headers=headers), 413, "content-too-large")
    padded = json.dumps({**JOHN, "email": address()}).encode().ljust(64 * 1024)
    assert http.post("/users/", content=padded, headers=headers).status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_that_is_empty_or_too_long_is_refused(http: httpx.Client, key: str) -> None:
    answer = http.post("/users/", json={**JOHN, "email": address()}, headers={"Idempotency-Key": key})
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "idempotency-key"


# Queries


def test_a_user_that_is_known_is_not_sent_again(http: httpx.Client) -> None:
    path = f"/users/{created(http)['user_id']}"
    for known in ('"1"', 'W/"1"', '"7", "1"', "*", '"a,b" ,, "1"'):
        answer = http.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    for other in ('"2"', '"a,*,b"', '"x,1"', "", '"01"'):
        assert http.get(path, headers={"If-None-Match": other}).status_code == 200
    assert http.get(path, headers={"If-Match": '"1"', "If-None-Match": '"1"'}).status_code == 304
    problem(http.get(path, headers={"If-Match": '"2"', "If-None-Match": '"1"'}), 412, "version-conflict")


def test_a_user_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    problem(http.get("/users/999999999"), 404, "user-not-found")


def test_pages_of_users_follow_each_other(http: httpx.Client) -> None:
    first = created(http)["user_id"]
    numbers = [first, *(created(http)["user_id"] for _ in range(4))]
    seen, url = [], f"/users/?limit=2&after={first - 1}"
    while url:
        answer = http.get(url)
        assert len(answer.json()) <= 2
        seen += [user["user_id"] for user in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == numbers


def test_pages_of_events_follow_each_other_and_keep_their_filter(http: httpx.Client) -> None:
    number = created(http)["user_id"]
    for _ in range(4):
        last = http.put(f"/users/{number}", json={"email": address()}, headers=WAIT)
    assert last.json()["version"] == 5
    versions, url = [], f"/events/?limit=3&stream=user-{number}"
    while url:
        answer = http.get(url)
        assert {event["stream"] for event in answer.json()} == {f"user-{number}"}
        versions += [event["version"] for event in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert versions == [1, 2, 3, 4, 5]
    both = {"stream": f"user-{number}", "type": ["UserCreated", "UserEmailUpdated"]}
    assert len(http.get("/events/", params=both).json()) == 5
    assert len(http.get("/events/", params={**both, "type": "UserCreated"}).json()) == 1
    assert http.get("/events/", params={**both, "type": "Other"}).json() == []


def test_the_log_is_in_the_order_of_positions(http: httpx.Client) -> None:
    created(http)
    ids = [event["id"] for event in http.get("/events/", params={"limit": 1000}).json()]
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *((path, "limit", value) for path in ("/users/", "/events/") for value in ("0", "1001", "x", "")),
        *((path, "after", value) for path in ("/users/", "/events/") for value in ("-1", "x", "9223372036854775808")),
        *((path, "min_position", "x") for path in ("/users/", "/events/", "/users/1")),
        *(("/users/", "limit", value) for value in ("1_0", "+1", "1.0", " 1", "1 ", "\u0661", "-0")),
        *(("/events/stream", "after", value) for value in ("1_0", "+1", "", "1.0")),
        *(("/users/1", name, "1.0") for name in ("version", "min_position")),
        *(
            ("/stats", "after", value)
            for value in ("0", "1769860800", "2026-01-31T00:00:00", "2026-1-31", "20260131", "2026-02-30", "")
        ),
        *((path, name, "1") for path in ("/users/", "/stats", "/livez", "/users/1") for name in ("Email", "offset")),
        ("/commands/x/stream", "after", "1"),
        *((path, "limit", ["1", "2"]) for path in ("/users/", "/events/", "/stats")),
    ],
)
def test_a_parameter_that_is_not_right_is_named(
    http: httpx.Client, path: str, name: str, value: str | list[str]
) -> None:
    body = problem(http.get(path, params={name: value}), 422, "invalid-request")
    assert [(error["in"], error["field"]) for error in body["errors"]] == [("query", name)]


def test_a_post_s_parameters_are_none(http: httpx.Client) -> None:
    answer = http.post("/users/?dry_run=1", json={**JOHN, "email": address()})
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "dry_run"


@pytest.mark.parametrize("path", ["/users/", "/users/?email=x@example.com", "/users/1", "/users/1/history", "/stats"])
@pytest.mark.parametrize("position", [10**9, 2**63 - 1])
def test_p7_a_position_beyond_the_log_is_refused_at_once(http: httpx.Client, path: str, position: int) -> None:
    created(http)
    for each in (path, "/events/", "/users/1?version=1"):
        began = time.monotonic()
        problem(http.get(httpx.URL(each).copy_merge_params({"min_position": position})), 422, "position-unknown")
        assert time.monotonic() - began < MIN_POSITION_TIMEOUT


@pytest.mark.parametrize(("query", "headers"), [("after=1000000000", {}), ("after=0", {"Last-Event-ID": "1000000000"})])
def test_a_stream_from_a_position_beyond_the_log_is_refused(
    http: httpx.Client, query: str, headers: dict[str, str]
) -> None:
    problem(http.get(f"/events/stream?{query}", headers=headers), 422, "position-unknown")


@pytest.mark.parametrize("last", ["1_0", "+1", "1.0", "x", "1, 2"])
def test_a_last_event_id_that_is_no_number_is_refused(http: httpx.Client, last: str) -> None:
    body = problem(http.get("/events/stream", headers={"Last-Event-ID": last}), 422, "invalid-request")
    assert (body["errors"][0]["in"], body["errors"][0]["field"]) == ("header", "last-event-id")


def test_an_empty_last_event_id_is_none(shared_service: Service, http: httpx.Client) -> None:
    created(http)
    with shared_service.http.stream("GET", "/events/stream?after=0", headers={"Last-Event-ID": ""}) as answer:
        assert answer.status_code == 200
        assert "id: 0" in list(itertools.islice(answer.iter_lines(), 3))


def test_p7_a_query_for_a_position_shows_what_it_brought(http: httpx.Client) -> None:
    for _ in range(20):
        location = http.post("/users/", json={**JOHN, "email": address()}).headers["location"]
        command = http.get(location, headers=WAIT).json()
        answer = http.get(f"/users/{command['user_id']}", params={"min_position": command["position"]})
        assert answer.status_code == 200
        last = http.get("/users/", params={"after": command["user_id"] - 1, "min_position": command["position"]})
        assert last.json() == [answer.json()]


# Everything else


def test_a_path_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    for path in ("/nothing", "/users/1/other", "/users//", "/users/1//x"):
        problem(http.get(path), 404, "not-found")


def test_the_way_in_links_to_what_there_is(http: httpx.Client) -> None:
    body = http.get("/").json()
    assert {"/users/", "/events/", "/stats", "/docs", "/openapi.json", "/readyz"} <= set(body["links"].values())
    for path in set(body["links"].values()) - {"/events/stream", "/redoc"}:
        assert http.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("path", "where"),
    [("/users?limit=1", "/users/?limit=1"), ("/stats/", "/stats"), ("/users/1/", "/users/1"), ("/events", "/events/")],
)
def test_a_slash_too_many_or_too_few_leads_to_a_path_whatever_host_was_asked_for(
    http: httpx.Client, path: str, where: str
) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = http.request(method, path)
        assert (answer.status_code, answer.headers["location"]) == (307, where)


EVERYWHERE = [
    "/", "/livez", "/users/", "/users/1", "/users/1?version=1", "/users/1/history", "/users/999999999", "/users/x",
    "/stats", "/events/", "/commands/x", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/redoc", "/nothing",
    "/users/?x=1",
]  # fmt: skip


@pytest.mark.parametrize("path", EVERYWHERE)
def test_head_is_answered_as_get_without_its_body(http: httpx.Client, path: str) -> None:
    created(http)

    def said(answer: httpx.Response) -> tuple[int, dict[str, str]]:
        own = {"date", "x-request-id"}
        return answer.status_code, {name: value for name, value in answer.headers.items() if name not in own}

    eventually(lambda: said(http.head(path)) == said(http.get(path)))  # meanwhile there may be one more
    head = http.head(path)
    assert "content-length" in head.headers
    assert head.content == b""


def test_head_of_what_changes_meanwhile_is_answered_too(http: httpx.Client) -> None:
    for path in ("/readyz", "/metrics"):
        assert (http.head(path).status_code, http.head(path).content) == (200, b"")


def test_head_of_a_stream_ends(http: httpx.Client) -> None:
    command = http.post("/users/", json={**JOHN, "email": address()}).headers["location"]
    for path in ("/events/stream", "/events/stream?after=0", f"{command}/stream"):
        answer = http.head(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.content == b""
    eventually(lambda: "cqrs_feed_clients 0.0" in http.get("/metrics").text)


def test_head_is_conditional_too(http: httpx.Client) -> None:
    path = f"/users/{created(http)['user_id']}"
    assert http.head(path, headers={"If-None-Match": '"1"'}).status_code == 304


def test_every_answer_says_that_it_is_what_it_says(http: httpx.Client) -> None:
    for path in ("/livez", "/nothing", "/docs", "/users/?x", "/openapi.json"):
        assert http.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/users/", "GET, HEAD, POST"),
        ("POST", "/users/1", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/commands/x", "GET, HEAD"),
        ("POST", "/events/", "GET, HEAD"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there_is_told_those_that_are(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_alive_and_ready(shared_service: Service) -> None:
    http = shared_service.http
    assert http.get("/livez").json() == {"status": "alive"}
    position = len(http.get("/events/", params={"limit": 1000}).json())
    ready = eventually(lambda: (body := http.get("/readyz").json())["projections"]["users"]["lag"] == 0 and body)
    assert ready["status"] == "ready"
    assert ready["dependencies"] == dict.fromkeys(
        ("inbox", "event_store", "read_model", "subjects", "redis", "workers"), "ok"
    )
    assert ready["projections"]["users"]["position"] >= position


def test_what_names_fields_and_details_ends_however_long_what_was_sent_is(http: httpx.Client) -> None:
    unknown = {f"{number}{'x' * 1000}": 1 for number in range(30)}
    for answer in (
        http.post("/users/", json={"first_name": "", "last_name": "", "email": "x" * 300 + "@" + "y" * 300, **unknown}),
        http.get("/users/", params={name[:400]: 1 for name in unknown}),
    ):
        assert answer.status_code == 422
        problem = answer.json()
        assert len(problem["detail"]) == 500
        assert len(problem["errors"]) == 20
        assert max(len(each["field"]) for each in problem["errors"]) == 100
        assert max(len(each["detail"]) for each in problem["errors"]) <= 500
    problem = http.get(f"/users/{'9' * 5000}").json()
    assert len(problem["detail"]) <= 500
