"""The whole service as `cqrs up` starts it: the README's example, and what a role's death costs."""

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest

from shared.stores import inbox
from shared.stores.inbox import Acceptance, Submission
from tests.support.service import Service, api, eventually, up
from tests.support.stores import JOHN, Stores, accept, create, inbox_of, update
from tests.support.trouble import new_email
from workers.handling import handler

WAIT = {"Prefer": "wait=10"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that is empty when the first test has it."""
    with up(tmp_path_factory.mktemp("journey") / "data", CQRS_MAX_WAIT="5") as service:
        yield service


@pytest.fixture(scope="module")
def many(running: Service) -> Iterator[Service]:
    """The same data, with more workers. The first service is gone from here on."""
    assert running.stop() == 0
    with up(running.data_dir, "--command-workers", "3", "--projection-workers", "2") as service:
        yield service


def post(service: Service) -> str:
    """Where the accepted command is."""
    answer = service.http.post("/users/", json={**JOHN, "email": new_email()})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def status(service: Service, location: str) -> str:
    body: dict[str, str] = service.http.get(location).json()
    return body["status"]


def handled(service: Service, location: str, *, within: float = 10) -> None:
    eventually(lambda: status(service, location) == "succeeded", within=within)


def last(service: Service) -> int:
    """The log's last position."""
    latest: dict[str, int] = service.http.get("/readyz").json()["projections"]["users"]
    return latest["position"] + latest["lag"]


def stream(user: str) -> str:
    """By the path of the user."""
    return user.removeprefix("/").replace("users/", "user-")


def accepted(service: Service, *submissions: Submission) -> list[int]:
    """The users of commands that are put into the inbox in one batch, without a message."""
    with inbox_of(service.settings) as connection:
        answers = inbox.accept(connection, submissions)
    return [int(each.command.stream.removeprefix("user-")) for each in answers if isinstance(each, Acceptance)]


def curls(page: str) -> Iterator[tuple[str, str, dict[str, str], str | None]]:
    """What a page's curl commands send to a service on this machine: method, path, headers, body."""
    for command in re.findall(r"^curl (.*http://127.*)$", page.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(command)
        options = dict(pairwise(words))
        headers = dict(after.split(": ") for word, after in pairwise(words) if word == "-H")
        [path] = [urlsplit(word).path for word in words if word.startswith("http:")]
        yield options.get("-X", "POST" if "-d" in options else "GET"), path, headers, options.get("-d")


def test_the_readme_s_example_is_answered_as_it_says(running: Service) -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text()
    events, user = page.partition("```json\n")[2].partition("\n```")[0].replace(", …", "").rsplit("\n", 1)
    http = running.http
    answers = [http.request(method, path, headers=headers, content=body) for method, path, headers, body in curls(page)]
    assert [answer.status_code for answer in answers] == [202, 200, 200, 200]
    created, changed, log, shown = (answer.json() for answer in answers)
    assert created["user_id"] == 1
    assert [{name: event[name] for name in ("id", "type", "data")} for event in log] == json.loads(events)
    assert changed == shown == json.loads(user)
    assert http.get("/users/").json() == [shown]


def test_messages_alone_bring_a_command_all_the_way(running: Service) -> None:
    seconds = []
    for _ in range(5):
        answer = running.http.post("/users/", json={**JOHN, "email": new_email()}, headers=WAIT)
        assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait=5")
        seconds.append(answer.elapsed.total_seconds())
    assert median(seconds) < 1


@pytest.mark.long
def test_p1_each_role_killed_in_turn_costs_seconds_and_nothing_else(running: Service) -> None:
    before, locations = last(running), []
    users = len(running.http.get("/users/").json())
    for role in ("command-worker", "projection-worker", "api", "valkey"):
        locations += [post(running) for _ in range(10)]
        running.kill(role)
        eventually(lambda: running.answers("/livez"))
        locations += [post(running) for _ in range(10)]
        for location in locations:
            handled(running, location)
        shown = users + len(locations)
        eventually(lambda: len(running.http.get("/users/?limit=1000").json()) == shown)  # noqa: B023
    ids = [event["id"] for event in running.http.get("/events/", params={"after": before, "limit": 1000}).json()]
    assert ids == list(range(before + 1, before + len(locations) + 1))


def test_p3_two_api_processes_keep_the_order_in_which_a_client_sent(running: Service) -> None:
    with api(running.data_dir) as other:
        user = running.http.post("/users/", json={**JOHN, "email": new_email()}).json()["links"]["user"]
        addresses = [new_email() for _ in range(60)]
        for number, address in enumerate(addresses):
            http = (running.http, other)[number % 2]
            assert http.put(user, json={"email": address}).status_code == 202
        shown = eventually(lambda: (its := running.http.get(user).json()).get("version") == 61 and its)
    assert shown["email"] == addresses[-1]
    events = running.http.get("/events/", params={"stream": stream(user)}).json()
    assert [event["data"]["new_email"] for event in events[1:]] == addresses


def test_p8_a_command_nobody_understands_fails_and_those_behind_it_go_on(running: Service) -> None:
    [user] = accepted(running, create(new_email()))
    accepted(running, update(user, new_email())._replace(type="Unknown"))
    accepted(running, update(user, email := new_email()))
    eventually(lambda: running.http.get(f"/users/{user}").json().get("email") == email, within=20)


def test_p8_an_inbox_that_is_gone_accepts_nothing_and_queries_go_on(running: Service) -> None:
    store = running.data_dir / "inbox.db"
    gone = store.rename(store.with_stem("gone"))
    running.kill("api")
    eventually(lambda: running.answers("/livez"))
    answer = running.http.post("/users/", json={**JOHN, "email": "b@example.com"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert running.http.get("/readyz").status_code == 503
    assert running.http.get("/users/1").status_code == 200
    gone.rename(store)
    handled(running, post(running))


def test_one_message_is_enough_for_many_chunks(running: Service) -> None:
    before, commands = last(running), handler.CHUNK * 8 + 100
    *_, user = accepted(running, *(create(new_email()) for _ in range(commands)))
    eventually(lambda: running.http.get(f"/users/{user}").status_code == 200)
    shown = {"position": before + commands, "lag": 0, "paused": False, "stopped": None}
    assert running.http.get("/readyz").json()["projections"]["users"] == shown


def test_an_api_that_is_told_to_stop_answers_who_waits_with_the_plain_202(running: Service) -> None:
    worker, its_api = running.role("command-worker"), running.role("api")
    assert worker
    assert its_api
    body = {**JOHN, "email": new_email()}
    worker.suspend()
    try:
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(running.http.post, "/users/", json=body, headers={"Prefer": "wait=30"})
            eventually(lambda: running.http.get("/users/").status_code == 200 and len(its_api.net_connections()) > 2)
            its_api.terminate()
            assert answer.result(30).status_code == 202
    finally:
        worker.resume()


@pytest.mark.long
def test_data_survives_a_restart(running: Service, request: pytest.FixtureRequest) -> None:
    eventually(lambda: running.answers("/livez"))
    location = post(running)
    user = eventually(lambda: running.http.get(location).json()["links"].get("user"))
    eventually(lambda: running.http.get(user).status_code == 200)
    before = running.http.get(user).json()
    second = request.getfixturevalue("many")
    assert status(second, location) == "succeeded"
    assert second.http.get(user).json() == before
    handled(second, post(second))
    assert second.http.get("/users/", params={"min_position": last(second)}).status_code == 200


@pytest.mark.long
def test_three_command_workers_and_two_projection_workers_keep_every_promise(many: Service) -> None:
    before, locations, users, addresses = last(many), [], [], [[new_email() for _ in range(5)] for _ in range(30)]
    for new in addresses:
        locations.append(post(many))
        users.append(many.http.get(locations[-1]).json()["links"]["user"])
        locations += [many.http.put(users[-1], json={"email": each}).headers["location"] for each in new]
    for location in locations:
        handled(many, location)
    events = many.http.get("/events/", params={"after": before, "limit": 1000}).json()
    assert [event["id"] for event in events] == list(range(before + 1, before + 181))
    for user, emails in zip(users, addresses, strict=True):
        its = [event for event in events if event["stream"] == stream(user)]
        assert [event["version"] for event in its] == list(range(1, 7))
        assert [event["data"]["new_email"] for event in its[1:]] == emails
        shown = many.http.get(user, params={"min_position": before + 180}).json()
        assert (shown["email"], shown["version"]) == (emails[-1], 6)


def test_p8_who_waits_for_a_read_model_that_is_gone_gets_the_plain_202(stores: Stores) -> None:
    stores.read_model.dispose()
    (stores.settings.data_dir / "read-users.db").unlink()
    with api(stores.settings.data_dir) as http, ThreadPoolExecutor() as threads:
        answer = threads.submit(http.post, "/users/", json=JOHN, headers=WAIT)
        eventually(stores.handler.handle)
        assert (answer.result().status_code, answer.result().headers["location"][:10]) == (202, "/commands/")
        assert http.get("/users/1").status_code == 503


@pytest.mark.usefixtures("poison")
def test_a_command_that_failed_shows_its_problem(stores: Stores) -> None:
    [command] = accept(stores, create("poison@example.com", idempotency_key="k"))
    stores.handler.handle()
    for _ in range(2):
        stores.handler.retry()
    with api(stores.settings.data_dir) as http:
        body = http.get(f"/commands/{command.command_id}").json()
        assert (body["status"], body["version"], body["position"]) == ("failed", None, None)
        assert body["problem"]["type"] == "/problems/command-failed"
        waited = http.post(
            "/users/", json={**JOHN, "email": "poison@example.com"}, headers={"Idempotency-Key": "k", **WAIT}
        )
        assert (waited.status_code, waited.json()["type"]) == (500, "/problems/command-failed")
