"""Erased users: gone wherever they were shown, their history without what was personal, and no way back."""

import asyncio
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.routing import Route
from api.main import app
from api.reading.feed import Feed
from api.reading.log_pages import PAGE_EVENTS, Wanted
from api.reading.store import Store
from shared.database import engines
from shared.messages import NewEvent
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.event_store import Append
from shared.stores.subjects import Subjects, heed
from tests.api.conftest import Closed
from tests.api.test_http import WAIT, address, created, problem
from tests.support import keys
from tests.support.command_line import cqrs, told
from tests.support.follower import Follower
from tests.support.service import Service, eventually
from tests.support.stores import JOHN, Stores, accept, create, erase

NULLS = {"first_name": None, "last_name": None, "email": None}


def erased(http: httpx.Client, number: int, **headers: str) -> dict[str, Any]:
    """The command that erased a user, once that is visible."""
    answer = http.delete(f"/users/{number}", headers=WAIT | headers)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == "succeeded"
    return body


@pytest.fixture
def user(http: httpx.Client) -> dict[str, Any]:
    """A user that moved once: version 2."""
    user = created(http)
    return dict(http.put(f"/users/{user['user_id']}", json={"email": address()}, headers=WAIT).json())


@pytest.fixture
def at(http: httpx.Client, user: dict[str, Any]) -> str:
    """Where that user was, until it was erased."""
    erased(http, user["user_id"])
    return f"/users/{user['user_id']}"


# The command


def test_p9_an_erasure_is_accepted_and_its_command_tells_the_rest(http: httpx.Client, user: dict[str, Any]) -> None:
    answer = http.delete(f"/users/{user['user_id']}")
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/commands/{body['command_id']}"
    assert (body["type"], body["status"], body["user_id"]) == ("EraseUser", "accepted", user["user_id"])
    assert http.get(answer.headers["location"], headers=WAIT).json()["status"] == "succeeded"


def test_p9_who_waits_gets_the_command_and_its_outcome_since_no_user_is_left(
    http: httpx.Client, user: dict[str, Any]
) -> None:
    answer = http.delete(f"/users/{user['user_id']}", headers=WAIT)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=10")
    body = answer.json()
    assert (body["status"], body["version"], body["problem"]) == ("succeeded", 3, None)
    problem(http.get(f"/users/{user['user_id']}"), 410, "user-erased")


def test_p9_who_never_was_can_not_be_erased(http: httpx.Client) -> None:
    problem(http.delete("/users/999999999", headers=WAIT), 404, "user-not-found")


def test_p9_an_erasure_may_name_a_version(http: httpx.Client, user: dict[str, Any]) -> None:
    at = f"/users/{user['user_id']}"
    problem(http.delete(at, headers={"If-Match": '"1"', **WAIT}), 412, "version-conflict")
    assert http.get(at).json() == user
    erased(http, user["user_id"], **{"If-Match": '"2"'})


def test_p9_a_deactivated_user_can_be_erased(http: httpx.Client, user: dict[str, Any]) -> None:
    http.post(f"/users/{user['user_id']}/deactivation", headers=WAIT)
    erased(http, user["user_id"])


def test_p9_every_command_to_an_erased_user_is_rejected(http: httpx.Client, at: str) -> None:
    for method, path, body in (
        ("DELETE", at, None),
        ("PUT", at, {"email": address()}),
        ("POST", f"{at}/deactivation", None),
        ("DELETE", f"{at}/deactivation", None),
    ):
        problem(http.request(method, path, json=body, headers=WAIT), 410, "user-erased")
    assert len(http.get(f"{at}/history").json()) == 3


def test_p9_the_same_key_gets_the_first_answer_again(http: httpx.Client, user: dict[str, Any]) -> None:
    key = secrets.token_hex()
    first = erased(http, user["user_id"], **{"Idempotency-Key": key})
    again = http.delete(f"/users/{user['user_id']}", headers={"Idempotency-Key": key, **WAIT})
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (202, first, "true")


def test_p9_a_creation_sent_again_gets_its_first_answer_and_brings_nobody_back(http: httpx.Client) -> None:
    body, key = {**JOHN, "email": address()}, {"Idempotency-Key": secrets.token_hex()}
    first = http.post("/users/", json=body, headers=key)
    number = first.json()["user_id"]
    erased(http, number)
    again = http.post("/users/", json=body, headers=key)
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (202, first.json(), "true")
    waited = http.post("/users/", json=body, headers=key | WAIT)
    assert (waited.status_code, waited.json()["status"], waited.json()["version"]) == (202, "succeeded", 1)
    problem(http.get(f"/users/{number}"), 410, "user-erased")
    assert http.get(f"/users/?email={body['email']}").json() == []


# What is left


def test_p9_what_a_user_was_is_in_no_answer_of_any_route(http: httpx.Client) -> None:
    names = {name: secrets.token_hex(8) for name in ("first_name", "last_name")}
    user = created(http, **names)
    moved = http.put(f"/users/{user['user_id']}", json={"email": address()}, headers=WAIT).json()
    taken = http.post("/users/", json={**JOHN, "email": moved["email"]}, headers=WAIT)
    problem(taken, 409, "email-taken")
    command = erased(http, user["user_id"])
    words = [*names.values(), *(each["email"].partition("@")[0] for each in (user, moved))]
    eventually(lambda: http.get(f"/users/?email={moved['email']}").json() == [])
    stream = f"user-{user['user_id']}"
    first = http.get(f"/events/?stream={stream}").json()[0]["id"]
    given = {"user_id": user["user_id"], "command_id": command["command_id"], "name": "users", "projection": "users"}
    given |= {"position": first, "stream": stream, "digest": "0" * 16, "job_id": "0" * 32, "key_id": "0" * 8}
    asked = 0
    for route in app.routes:
        assert isinstance(route, Route)
        if "GET" not in (route.methods or ()) or route.path.endswith(("/stream", "/live")):
            continue
        for query in ("", "?limit=1000", f"?after={first - 1}", "?version=1", "?version=2", "?version=3"):
            path = route.path.replace("/docs/{name}", "/docs/swagger-ui.css")
            text = http.get(f"{path.format(**given)}{query}").text
            assert not [word for word in words if word in text], (route.path, query)
            asked += 1
    assert asked > 60
    for path in (f"/commands/{command['command_id']}/stream", f"/events/stream?after={first - 1}"):
        follower = Follower(str(http.base_url.join(path)))
        eventually(partial(has, follower, 1))
        follower.leave()
        assert not [word for word in words if word in str(follower.messages)], path


def test_p9_an_erased_user_is_not_among_users_and_gone_where_it_was(
    http: httpx.Client, user: dict[str, Any], at: str
) -> None:
    number = user["user_id"]
    assert [each["user_id"] for each in http.get(f"/users/?after={number - 1}&limit=1").json()] != [number]
    eventually(lambda: http.get(f"/users/?email={user['email']}").json() == [])
    for query in ("", "?version=3", "?version=4", "?at=9999-01-01T00:00:00Z"):
        problem(http.get(f"{at}{query}"), 410, "user-erased")
    problem(http.get(at, headers={"If-None-Match": '"2"'}), 410, "user-erased")
    assert http.head(at).status_code == 410


def test_p9_it_is_shown_as_it_was_without_what_was_personal(http: httpx.Client, user: dict[str, Any], at: str) -> None:
    was = {"user_id": user["user_id"], **NULLS, "erased": True}
    times = [each["recorded_at"] for each in http.get(f"{at}/history").json()]
    for version in (1, 2):
        for query in (f"version={version}", f"at={times[version - 1]}"):
            answer = http.get(f"{at}?{query}", headers={"If-None-Match": f'"{version}"'})
            assert (answer.status_code, answer.json()) == (200, {**was, "version": version})
            assert "etag" not in answer.headers
    problem(http.get(f"{at}?at={times[2]}"), 410, "user-erased")
    problem(http.get(f"{at}?at=2020-01-01T00:00:00Z"), 404, "user-not-found")


def test_p9_its_history_and_its_events_keep_their_times_and_types(
    http: httpx.Client, user: dict[str, Any], at: str
) -> None:
    history, events = http.get(f"{at}/history").json(), http.get(f"/events/?stream=user-{user['user_id']}").json()
    for shown in (history, events):
        assert [each["type"] for each in shown] == ["UserCreated", "UserEmailUpdated", "UserErased"]
        assert [each.get("erased") for each in shown] == [True, True, None]
        assert all(each["recorded_at"] for each in shown)
    assert [each["changed"] for each in history] == [NULLS, {"email": None}, {}]
    number = {"user_id": user["user_id"]}
    assert [each["data"] for each in events] == [{**number, **NULLS}, {**number, "new_email": None}, number]


def test_p9_two_who_had_one_address_in_turn_are_told_apart(http: httpx.Client) -> None:
    email = address()
    first = created(http, email=email)
    erased(http, first["user_id"])
    second = created(http, email=email.upper())
    erased(http, created(http)["user_id"])
    assert http.get(f"/users/{second['user_id']}").json() == second
    assert http.get(f"/users/{second['user_id']}?version=1").json() == second
    eventually(lambda: http.get(f"/users/?email={email}").json() == [second])
    problem(http.post("/users/", json={**JOHN, "email": email}, headers=WAIT), 409, "email-taken")
    erased(http, second["user_id"])
    assert created(http, email=email)["user_id"] > second["user_id"]


# Followers


def test_p9_a_follower_sees_the_erasure_and_who_comes_back_nothing_personal(http: httpx.Client) -> None:
    start = http.get("/events/?limit=1000").json()[-1]["id"]
    path = str(http.base_url.join(f"/events/stream?after={start}"))
    stayed = Follower(path)
    user = created(http)
    eventually(lambda: stayed.messages)
    erased(http, user["user_id"])
    eventually(lambda: len(stayed.messages) == 2)
    stayed.leave()
    for headers in ({}, {"Last-Event-ID": str(start)}):
        back = Follower(path, **headers)
        eventually(partial(has, back, 2))
        back.leave()
        assert [each.data["type"] for each in back.messages[:2]] == ["UserCreated", "UserErased"]
        assert back.messages[0].data["data"] == {"user_id": user["user_id"], **NULLS}
        assert back.messages[0].data["erased"] is True
        assert stayed.messages[0].data["data"] == user_fields(user)


def has(follower: Follower, events: int) -> bool:
    return len(follower.messages) >= events


def user_fields(user: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in user.items() if name != "version"}


@pytest.mark.both_engines
def test_p9_what_is_kept_for_followers_is_forgotten_even_if_nobody_follows(stores: Stores) -> None:
    accept(stores, create())
    stores.handler.handle()
    with stores.events.begin() as connection:  # as many as fill a page
        filling = NewEvent("UserDeactivated", {"user_id": 2}, {})
        event_store.append(connection, Append("user-2", [filling] * PAGE_EVENTS))

    async def story() -> None:
        log = Store(stores.settings.event_store)
        heed(log.engine, Subjects.of(stores.settings))
        feed = Feed(log)
        watch = asyncio.create_task(feed.forget_erased())
        follower = feed.follow(0, Wanted())
        kept = b""
        while b"john" not in kept:
            kept += await anext(follower)
        assert is_kept(feed)
        accept(stores, erase(1))
        stores.handler.handle()
        await asyncio.to_thread(eventually, lambda: not is_kept(feed))
        watch.cancel()
        log.close()

    asyncio.run(story())


def is_kept(feed: Feed) -> bool:
    pages = b"".join(each.text for each in feed._pages._kept.values())
    return b"john" in pages or any(b"john" in each.message for each in feed._tail)


# Who may, who did, and the command


def test_p10_only_erasers_erase_and_they_see_their_own_command_and_nothing_else(closed: Closed) -> None:
    path = closed.post(closed.all, address(), Prefer="wait=10").headers["location"]
    eraser = keys.bearer(closed.keys["eraser"])
    for role, key in closed.keys.items():
        if role != "eraser":
            problem(closed.http.delete(path, headers=keys.bearer(key)), 403, "missing-role")
    answer = closed.http.delete(path, headers=eraser | WAIT)
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")
    assert closed.http.get(answer.headers["location"], headers=eraser).json() == answer.json()
    problem(closed.http.get(path, headers=eraser), 403, "missing-role")
    audited = closed.get("/audit?limit=1000", closed.keys["auditor"]).json()
    number = int(path.rpartition("/")[2])
    [shown] = [each for each in audited if each["type"] == "UserErased" and each["data"] == {"user_id": number}]
    assert shown["by"] == f"key:{closed.keys['eraser'].id}"
    assert audited == told(closed.settings, "audit", "--limit", "1000")


def test_p9_an_operator_erases_on_the_machine(shared_service: Service, http: httpx.Client) -> None:
    settings, user = shared_service.settings, created(http)
    number = str(user["user_id"])
    assert f"user {number} is erased" in cqrs(settings, "users", "erase", number)
    eventually(lambda: http.get(f"/users/{number}").status_code == 410)
    assert f"User {number} was erased." in cqrs(settings, "users", "erase", number, code=1)
    assert "There is no user 999999999." in cqrs(settings, "users", "erase", "999999999", code=1)
    [told_] = [each for each in told(settings, "audit", "--limit", "1000") if each["data"] == {"user_id": int(number)}]
    assert (told_["type"], told_["by"].startswith("cli:")) == ("UserErased", True)


def test_p9_an_operator_elsewhere_asks_the_api(shared_service: Service, http: httpx.Client) -> None:
    nowhere, user, url = Settings(data_dir=Path("/nowhere"), _env_file=None), created(http), shared_service.url
    number = str(user["user_id"])
    assert f"user {number} is erased" in cqrs(nowhere, "users", "erase", number, CQRS_API_URL=url)
    problem(http.get(f"/users/{number}"), 410, "user-erased")
    said = cqrs(nowhere, "users", "erase", number, code=1, CQRS_API_URL=url)
    assert f"answers 410: User {number} was erased." in said


def test_p9_an_erasure_that_no_worker_takes_up_is_done_once_one_runs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(stores, create())
    stores.handler.handle()
    monkeypatch.setattr("cli.stores.sending.WAIT_SECONDS", 0)
    said = cqrs(stores.settings, "users", "erase", "1")
    assert "the erasure of user 1 is accepted; it is done once the service runs" in said
    assert told(stores.settings, "users", "show", "1")["first_name"] == "John"
    stores.handler.handle()
    assert "user-1 was erased at " in cqrs(stores.settings, "users", "show", "1", code=1)
    was = told(stores.settings, "users", "show", "1", "--version", "1")
    assert was == {"user_id": 1, **NULLS, "version": 1, "erased": True}
    assert "None" not in cqrs(stores.settings, "users", "show", "1", "--version", "1")
    with engines.reading(stores.settings.event_store) as connection:
        assert event_store.read_latest(connection, limit=1)[0].metadata["principal"].startswith("cli:")


@pytest.mark.parametrize("id", ["john@example.com", "a@b"])
def test_a_request_id_that_looks_like_an_address_is_not_taken(http: httpx.Client, id: str) -> None:
    answer = http.post("/users/", json={**JOHN, "email": address()}, headers={"X-Request-ID": id})
    assert answer.headers["x-request-id"] == answer.json()["correlation_id"] != id
