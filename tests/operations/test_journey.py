"""The whole service as `cqrs up` starts it: the README's example, and what a role's death costs."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.service import Service, api, eventually
from tests.support.stores import JOHN, Stores, accept, create, update
from workers.handling import handler

WAIT = {"Prefer": "wait=10"}

Start = Callable[..., Service]


def post(service: Service, email: str) -> str:
    """Where the accepted command is."""
    answer = service.http.post("/users/", json={**JOHN, "email": email})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def status(service: Service, location: str) -> str:
    body: dict[str, str] = service.http.get(location).json()
    return body["status"]


def handled(service: Service, location: str, *, within: float = 10) -> None:
    eventually(lambda: status(service, location) == "succeeded", within=within)


def curls(page: str) -> Iterator[tuple[str, str, dict[str, str], str | None]]:
    """What a page's curl commands send: method, path, headers, body."""
    for command in re.findall(r"^curl (.*)$", page.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(command)
        options = dict(pairwise(words))
        headers = dict(after.split(": ") for word, after in pairwise(words) if word == "-H")
        [path] = [urlsplit(word).path for word in words if word.startswith("http:")]
        yield options.get("-X", "POST" if "-d" in options else "GET"), path, headers, options.get("-d")


def test_the_readme_s_example_is_answered_as_it_says(service: Start) -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text()
    events, user = page.partition("```json\n")[2].partition("\n```")[0].replace(", …", "").rsplit("\n", 1)
    http = service().ready().http
    answers = [http.request(method, path, headers=headers, content=body) for method, path, headers, body in curls(page)]
    assert [answer.status_code for answer in answers] == [202, 200, 200, 200]
    created, changed, log, shown = (answer.json() for answer in answers)
    assert created["user_id"] == 1
    assert [{name: event[name] for name in ("id", "type", "data")} for event in log] == json.loads(events)
    assert changed == shown == json.loads(user)
    assert http.get("/users/").json() == [shown]


def test_data_survives_a_restart(service: Start) -> None:
    first = service().ready()
    location = post(first, "a@example.com")
    eventually(lambda: first.http.get("/users/1").status_code == 200)
    assert first.stop() == 0
    second = service().ready()
    assert status(second, location) == "succeeded"
    assert second.http.get("/users/1").json()["email"] == "a@example.com"
    handled(second, post(second, "b@example.com"))
    assert second.http.get("/users/2", params={"min_position": 2}).status_code == 200


def test_p1_each_role_killed_in_turn_costs_seconds_and_nothing_else(service: Start) -> None:
    running = service().ready()
    locations = []
    for role in ("command-worker", "projection-worker", "beat", "api", "valkey"):
        locations += [post(running, f"before.{role}.{number}@example.com") for number in range(10)]
        running.kill(role)
        eventually(lambda: running.answers("/livez"))
        locations += [post(running, f"after.{role}.{number}@example.com") for number in range(10)]
        for location in locations:
            handled(running, location)
        eventually(lambda: len(running.http.get("/users/").json()) == len(locations))  # noqa: B023
    ids = [event["id"] for event in running.http.get("/events/").json()]
    assert ids == list(range(1, len(locations) + 1))


def test_p8_an_inbox_that_is_gone_accepts_nothing_and_queries_go_on(service: Start, tmp_path: Path) -> None:
    running = service().ready()
    post(running, "a@example.com")
    eventually(lambda: running.http.get("/users/1").status_code == 200)
    (tmp_path / "data" / "inbox.db").rename(tmp_path / "data" / "gone.db")
    running.kill("api")
    eventually(lambda: running.answers("/livez"))
    answer = running.http.post("/users/", json={**JOHN, "email": "b@example.com"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert running.http.get("/readyz").status_code == 503
    assert running.http.get("/users/1").status_code == 200
    (tmp_path / "data" / "gone.db").rename(tmp_path / "data" / "inbox.db")
    handled(running, post(running, "b@example.com"))


def test_three_command_workers_and_two_projection_workers_keep_every_promise(service: Start) -> None:
    running = service("--command-workers", "3", "--projection-workers", "2").ready()
    locations = []
    for number in range(30):
        locations.append(post(running, f"{number}@example.com"))
        for change in range(5):
            answer = running.http.put(f"/users/{number + 1}", json={"email": f"{number}.{change}@example.com"})
            locations.append(answer.headers["location"])
    for location in locations:
        handled(running, location)
    events = running.http.get("/events/", params={"limit": 1000}).json()
    assert [event["id"] for event in events] == list(range(1, 181))
    for number in range(1, 31):
        its = [event for event in events if event["stream"] == f"user-{number}"]
        assert [event["version"] for event in its] == list(range(1, 7))
        assert [event["data"]["new_email"] for event in its[1:]] == [f"{number - 1}.{c}@example.com" for c in range(5)]
    users = running.http.get("/users/", params={"min_position": 180}).json()
    assert [(user["email"], user["version"]) for user in users] == [(f"{n}.4@example.com", 6) for n in range(30)]


def test_an_api_that_is_told_to_stop_answers_who_waits_with_the_plain_202(service: Start) -> None:
    running = service().ready()
    worker, its_api = running.role("command-worker"), running.role("api")
    assert worker
    assert its_api
    worker.suspend()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(running.http.post, "/users/", json=JOHN, headers={"Prefer": "wait=30"})
        eventually(lambda: running.http.get("/users/").status_code == 200 and len(its_api.net_connections()) > 2)
        its_api.terminate()
        assert answer.result(10).status_code == 202
    worker.resume()


def test_messages_alone_bring_a_command_all_the_way(service: Start) -> None:
    running = service(CQRS_MAX_WAIT="5").ready()
    beat = running.role("beat")
    assert beat
    beat.suspend()
    for number in range(5):
        answer = running.http.post("/users/", json={**JOHN, "email": f"{number}@example.com"}, headers=WAIT)
        assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait=5")
        assert answer.elapsed.total_seconds() < 1
    beat.resume()


def test_one_message_is_enough_for_many_chunks(service: Start, stores: Stores) -> None:
    accept(stores, *(create(f"{number}@example.com") for number in range(handler.CHUNK * 8 + 100)))
    running = service().ready()
    users = handler.CHUNK * 8 + 100
    eventually(lambda: running.http.get(f"/users/{users}").status_code == 200)
    assert running.http.get("/readyz").json()["projections"]["users"] == {
        "position": users,
        "lag": 0,
        "paused": False,
        "stopped": None,
    }


def test_p8_a_command_nobody_understands_fails_and_those_behind_it_go_on(service: Start, stores: Stores) -> None:
    accept(stores, create("a@example.com"), update(1, "b@example.com")._replace(type="Unknown"))
    accept(stores, update(1, "c@example.com"))
    running = service().ready()
    eventually(lambda: running.http.get("/users/1").json().get("email") == "c@example.com", within=20)


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


def test_p3_two_api_processes_keep_the_order_in_which_a_client_sent(service: Start, tmp_path: Path) -> None:
    running = service().ready()
    with api(tmp_path / "data") as other:
        post(running, "start@example.com")
        addresses = [f"{number}@example.com" for number in range(60)]
        for number, address in enumerate(addresses):
            http = (running.http, other)[number % 2]
            assert http.put("/users/1", json={"email": address}).status_code == 202
        last = eventually(lambda: (user := running.http.get("/users/1").json()).get("version") == 61 and user)
    assert last["email"] == addresses[-1]
    events = running.http.get("/events/").json()
    assert [event["data"]["new_email"] for event in events[1:]] == addresses
