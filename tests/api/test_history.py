"""A user as it was: at a version, at a time, and how it came to be."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from api.routes.history import EVENTS_AT_ONCE
from shared.domain.users.history import fold
from shared.domain.users.read_models.users import user, users
from shared.messages import NewEvent
from shared.stores import event_store
from shared.stores.event_store import Append
from tests.api.test_http import problem
from tests.support.service import api, stores_of
from tests.support.stores import JOHN, Stores, accept, create, update
from workers.projecting import runner

WAIT = {"Prefer": "wait=10"}

SECOND = timedelta(seconds=1)


def changed_twice(http: httpx.Client) -> tuple[str, list[str]]:
    """The path of a user at version 3, and its addresses."""
    emails = [f"{secrets.token_hex(6)}@example.com" for _ in range(3)]
    path = http.post("/users/", json={**JOHN, "email": emails[0]}, headers=WAIT).headers["location"]
    for email in emails[1:]:
        assert http.put(path, json={"email": email}, headers=WAIT).status_code == 200
    return path, emails


def recorded(http: httpx.Client, path: str) -> list[str]:
    return [each["recorded_at"] for each in http.get(f"{path}/history").json()]


# Both engines, through the stores


@pytest.mark.both_engines
def test_the_fold_of_any_version_is_what_the_read_model_shows_of_it(stores: Stores) -> None:
    accept(stores, create("0@example.com"))
    for version in range(1, 6):
        stores.handler.handle()
        runner.catch_up(stores.events, stores.read_model, users)
        with stores.read_model.begin() as shown, stores.events.begin() as log:
            row = user(shown, 1)
            assert row
            assert row.version == version
            assert fold(None, event_store.read_stream(log, "user-1", upto=version)) == row
        accept(stores, update(1, f"{version}@example.com"))


@pytest.mark.both_engines
def test_a_long_history_is_folded_page_by_page_to_any_version(stores: Stores) -> None:
    changes = [NewEvent("UserEmailUpdated", {"user_id": 1, "new_email": f"{n}@example.com"}, {}) for n in range(2000)]
    with stores.events.begin() as connection:
        event_store.append(
            connection, Append("user-1", [NewEvent("UserCreated", {"user_id": 1, **JOHN}, {}), *changes])
        )
    with api(stores.settings.data_dir, **stores_of(stores.settings)) as http:
        for version in (1, EVENTS_AT_ONCE, EVENTS_AT_ONCE + 1, 2 * EVENTS_AT_ONCE, 2001):
            shown = http.get("/users/1", params={"version": version}).json()
            email = JOHN["email"] if version == 1 else f"{version - 2}@example.com"
            assert shown == {"user_id": 1, **JOHN, "email": email, "version": version}


@pytest.mark.both_engines
def test_a_time_is_that_of_the_last_version_recorded_by_then_also_when_the_clock_was_set_back(stores: Stores) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for version, minutes in enumerate([0, 60, 5]):
        insert(stores, version, noon + timedelta(minutes=minutes))
    with api(stores.settings.data_dir, **stores_of(stores.settings)) as http:
        for minutes, version in {0: 1, 4: 1, 5: 3, 59: 3, 60: 3}.items():
            at = (noon + timedelta(minutes=minutes)).isoformat()
            assert http.get("/users/1", params={"at": at}).json()["version"] == version, minutes


def insert(stores: Stores, before: int, time: datetime) -> None:
    """An event recorded at a time of our own."""
    event = ("UserEmailUpdated", '{"user_id": 1, "new_email": "x@example.com"}')
    created = ("UserCreated", '{"user_id": 1, "first_name": "J", "last_name": "D", "email": "j@example.com"}')
    type_, data = event if before else created
    number = before + 1
    values = {"position": number, "stream": "user-1", "version": number, "type": type_, "data": data, "metadata": "{}"}
    with stores.events.begin() as connection:
        recorded_at = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        connection.execute(event_store.events.insert(), {**values, "recorded_at": recorded_at})


# HTTP


def test_a_user_is_shown_as_it_was_at_each_version(http: httpx.Client) -> None:
    path, emails = changed_twice(http)
    for version, email in enumerate(emails, 1):
        answer = http.get(path, params={"version": version})
        assert answer.json() == {**http.get(path).json(), "email": email, "version": version}
        assert answer.headers["etag"] == f'"{version}"'
        again = http.get(path, params={"version": version}, headers={"If-None-Match": f'"{version}"'})
        assert again.status_code == 304


def test_a_user_is_shown_as_it_was_at_a_time(http: httpx.Client) -> None:
    path, emails = changed_twice(http)
    for version, time in enumerate(recorded(http, path), 1):
        assert http.get(path, params={"at": time}).json()["email"] == emails[version - 1]
        elsewhere = datetime.fromisoformat(time).astimezone().isoformat()
        assert http.get(path, params={"at": elsewhere}).json()["version"] == version
        just_before = (datetime.fromisoformat(time) - timedelta(microseconds=1)).isoformat()
        answer = http.get(path, params={"at": just_before})
        assert answer.status_code == 404 if version == 1 else answer.json()["version"] == version - 1


def test_the_future_is_now(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    for at in ((datetime.now(UTC) + SECOND).isoformat(), "9999-12-31T23:59:59Z"):
        assert http.get(path, params={"at": at}).json() == http.get(path).json()


def test_before_it_was_created_there_was_no_such_user(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    body = problem(http.get(path, params={"at": "2000-01-31T12:00:00+01:00"}), 404, "user-not-found")
    assert re.fullmatch(r"There was no user \d+ yet at 2000-01-31T11:00:00.000000Z\.", body["detail"])


def test_a_version_that_is_not_there_yet_says_which_one_is(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    body = problem(http.get(path, params={"version": 4}), 404, "version-not-found")
    assert "at version 3: there is no version 4" in body["detail"]


@pytest.mark.parametrize("query", ["?version=1", "?at=2026-01-31T12:00:00Z", "?at=9999-01-31T12:00:00Z", "/history"])
def test_a_user_that_never_was_has_no_past(http: httpx.Client, query: str) -> None:
    body = problem(http.get(f"/users/999999999{query}"), 404, "user-not-found")
    assert body["detail"] == "There is no user 999999999."


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("version=0", "version"),
        ("version=x", "version"),
        ("at=yesterday", "at"),
        ("at=1769860800", "at"),
        ("at=2026-01-31T12:00:00", "at"),
        ("at=2026-01-31", "at"),
        ("at=2026-02-30T12:00:00Z", "at"),
        ("at=0001-01-01T00:00:00%2B01:00", "at"),
        ("at=", "at"),
        ("version=1&at=2026-01-31T12:00:00Z", "at"),
    ],
)
def test_what_is_no_version_and_no_time_is_refused(http: httpx.Client, query: str, field: str) -> None:
    body = problem(http.get(f"/users/1?{query}"), 422, "invalid-request")
    assert [(each["in"], each["field"]) for each in body["errors"]] == [("query", field)]


@pytest.mark.parametrize("time", ["2999-12-31T23:59:60Z", "2999-06-30t23:59:60.5z", "3000-01-01T05:29:60.5+05:30"])
def test_a_leap_second_is_a_time(http: httpx.Client, time: str) -> None:
    path, _ = changed_twice(http)
    assert http.get(path, params={"at": time}).json()["version"] == 3


@pytest.mark.parametrize("time", ["2999-12-31T12:00:60Z", "2999-12-30T23:59:60Z", "2999-12-31T23:59:61Z"])
def test_a_second_that_can_be_no_leap_second_is_refused(http: httpx.Client, time: str) -> None:
    problem(http.get("/users/1", params={"at": time}), 422, "invalid-request")


def test_a_time_may_have_a_plus_as_it_was_typed(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    time = "9999-01-31t12:00:00.5+01:00"
    assert http.get(f"{path}?at={time}").json() == http.get(f"{path}?at={quote(time)}").json() == http.get(path).json()


def test_the_history_tells_what_changed_when_and_by_which_command(http: httpx.Client) -> None:
    path, emails = changed_twice(http)
    created, *updates = http.get(f"{path}/history").json()
    assert (created["type"], created["changed"]) == ("UserCreated", {**JOHN, "email": emails[0]})
    assert [each["changed"] for each in updates] == [{"email": email} for email in emails[1:]]
    for version, each in enumerate((created, *updates), 1):
        assert http.get(each["links"]["self"]).json()["version"] == each["version"] == version
        command = http.get(each["links"]["command"]).json()
        assert (command["command_id"], command["version"]) == (each["command_id"], version)
        event = http.get("/events/", params={"after": each["position"] - 1, "limit": 1}).json()[0]
        assert (event["version"], event["recorded_at"]) == (version, each["recorded_at"])


def test_a_long_history_comes_in_pages(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    first = http.get(f"{path}/history", params={"limit": 2})
    second = http.get(first.links["next"]["url"])
    assert [[each["version"] for each in page.json()] for page in (first, second)] == [[1, 2], [3]]
    assert "next" not in second.links
    assert http.get(f"{path}/history", params={"after": 3}).json() == []


def test_a_past_beyond_the_log_is_refused(http: httpx.Client) -> None:
    path, _ = changed_twice(http)
    for query in ("?version=1", "/history?"):
        problem(http.get(f"{path}{query}&min_position=999999999"), 422, "position-unknown")
