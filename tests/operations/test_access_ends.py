"""Keys that end: every API process refuses them within a second, on open streams and after waits, too."""

import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from shared.access.keys import Key
from shared.access.roles import ROLES, Role
from shared.settings import Settings
from tests.support import keys
from tests.support.follower import Follower
from tests.support.keys import bearer, forgets_and_knows_again
from tests.support.raw import request
from tests.support.service import Service, api, eventually, up
from tests.support.stores import JOHN
from tests.support.trouble import new_email

ROOT = Path(__file__).parents[2]

CLOSED = {"CQRS_AUTH": "on", "CQRS_MAX_RATE_PER_KEY": "0", "CQRS_MAX_RATE_PER_ADDRESS": "0"}

USER = b'{"first_name":"Late","last_name":"Doe","email":"late@example.com"}'

SOON = 1.0
"""Seconds in which a key that ended is refused, and its streams end."""

SLACK = 1.5
"""Seconds more on a machine that is busy."""


class Closed:
    """A service that asks for keys, and a second API process beside it."""

    def __init__(self, service: Service, second: httpx.Client) -> None:
        self.service, self.settings = service, service.settings
        self.apis = service.http, second

    def key(self, *roles: Role, seconds: float | None = None) -> Key:
        """One that both know."""
        key = keys.add(self.settings, *roles, seconds=seconds)
        eventually(lambda: self.statuses(key) == {200})
        return key

    def statuses(self, key: Key) -> set[int]:
        return {each.get("/", headers=bearer(key)).status_code for each in self.apis}

    def follow(self, path: str, key: Key) -> list[Follower]:
        """A stream of each API."""
        followers = [Follower(f"{each.base_url}{path}", **bearer(key)) for each in self.apis]
        assert {each.answer.status for each in followers} == {200}
        return followers

    def unhandled(self, key: Key, **more: str) -> str:
        """The id of a command of the key; its worker stands still."""
        answer = self.post(key, **more)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["command_id"])

    def post(self, key: Key, **more: str) -> httpx.Response:
        return self.apis[0].post("/users/", json={**JOHN, "email": new_email()}, headers=bearer(key) | more)


@pytest.fixture(scope="module")
def closed(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = shutil.copytree(files, tmp_path_factory.mktemp("ends") / "data")
    keys.add(Settings(data_dir=folder, _env_file=None), "reader", name="first")
    with up(folder, **CLOSED) as service, api(folder, **CLOSED) as second:
        yield Closed(service, second)


@pytest.fixture
def standing(closed: Closed) -> Iterator[None]:
    """Meanwhile no command is handled."""
    worker = closed.service.role("command-worker")
    assert worker
    worker.suspend()
    yield
    worker.resume()


def ends(closed: Closed, key: Key, streams: list[Follower], *, within: float = SOON) -> None:
    """All processes refuse the key, and its streams end as they should."""
    began = time.monotonic()
    eventually(lambda: closed.statuses(key) == {401}, within=within + SLACK)
    eventually(
        lambda: all(each.clean is not None for each in streams), within=began + within + SLACK - time.monotonic()
    )
    assert all(each.ended() for each in streams)


@pytest.mark.usefixtures("standing")
def test_p10_a_revoked_key_is_refused_by_all_within_a_second_and_its_streams_end(closed: Closed) -> None:
    key, other = closed.key("writer", "auditor"), closed.key("auditor")
    mine = closed.unhandled(key)
    streams = [*closed.follow("/events/stream", key), *closed.follow(f"/commands/{mine}/stream", key)]
    others = closed.follow("/events/stream", other)
    keys.revoke(closed.settings, key)
    ends(closed, key, streams)
    time.sleep(0.6)
    assert {each.clean for each in others} == {None}
    assert closed.statuses(other) == {200}
    for each in others:
        each.leave()


def test_p10_an_expired_key_is_refused_by_all_and_its_streams_end(closed: Closed) -> None:
    key = closed.key("auditor", seconds=2.5)
    streams = closed.follow("/events/stream", key)
    ends(closed, key, streams, within=2.5 + SOON)


def test_p10_after_a_rotation_the_old_text_counts_until_its_grace_is_over(closed: Closed) -> None:
    old = closed.key("auditor")
    streams = closed.follow("/events/stream", old)
    new = keys.rotate(closed.settings, old, grace=2)
    rotated_at = time.monotonic()
    eventually(lambda: closed.statuses(new) == {200})
    others = closed.follow("/events/stream", new)
    if time.monotonic() < rotated_at + 1.5:
        assert closed.statuses(old) == {200}
        assert {each.clean for each in streams} == {None}
    ends(closed, old, streams, within=2 + SOON)
    assert {each.clean for each in others} == {None}
    assert closed.statuses(new) == {200}
    at_once = keys.rotate(closed.settings, new)
    ends(closed, new, others)
    assert closed.statuses(at_once) == {200}


def test_p10_a_request_whose_key_is_revoked_while_it_waits_is_told_nothing_more(closed: Closed) -> None:
    """A command that was accepted stays accepted, and is shown as it was then; a query is refused."""
    key = closed.key("writer", "reader")
    worker = closed.service.role("command-worker")
    assert worker
    worker.suspend()
    try:
        mine = closed.unhandled(key)
        with ThreadPoolExecutor(2) as threads:
            post = threads.submit(closed.post, key, Prefer="wait=20")
            where = f"/commands/{mine}"
            get = threads.submit(closed.apis[1].get, where, headers=bearer(key) | {"Prefer": "wait=20"})
            time.sleep(0.5)
            assert not post.done()
            assert not get.done()
            keys.revoke(closed.settings, key)
            eventually(lambda: closed.statuses(key) == {401})
            worker.resume()
            accepted, refused = post.result(), get.result()
    finally:
        worker.resume()
    assert (accepted.status_code, accepted.json()["status"], accepted.json()["version"]) == (202, "accepted", None)
    assert JOHN["first_name"] not in accepted.text
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/invalid-credentials")
    every = closed.key("auditor")
    eventually(lambda: closed.apis[0].get(where, headers=bearer(every)).json()["status"] == "succeeded")


@pytest.mark.parametrize("line", ["POST /users/", "DELETE /users/1/deactivation"])
def test_p10_a_key_that_is_revoked_while_its_body_comes_sends_no_command(closed: Closed, line: str) -> None:
    key = closed.key("writer")
    headers = [f"{name}: {value}" for name, value in bearer(key).items()]
    whole = request(line, "Content-Type: application/json", "Connection: close", *headers, body=USER)
    with socket.create_connection(("127.0.0.1", closed.service.port), timeout=10) as client:
        client.sendall(whole[:-1])
        time.sleep(0.2)
        keys.revoke(closed.settings, key)
        eventually(lambda: closed.statuses(key) == {401})
        client.sendall(whole[-1:])
        answer = b"".join(iter(partial(client.recv, 65536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"/problems/invalid-credentials" in answer


# A table that can't be read


@pytest.fixture
def alone(files: Path, tmp_path: Path) -> Iterator[tuple[Settings, httpx.Client, Key]]:
    """An API that forgets what it knew of keys after two seconds, and a key that may do everything."""
    folder = shutil.copytree(files, tmp_path / "data")
    settings = Settings(data_dir=folder, _env_file=None)
    key = keys.add(settings, *ROLES)
    with api(folder, "tests.support.quick_keys", PYTHONPATH=str(ROOT), **CLOSED) as http:
        yield settings, http, key


def test_p10_while_keys_can_not_be_read_those_known_serve_for_a_while(
    alone: tuple[Settings, httpx.Client, Key],
) -> None:
    settings, http, key = alone
    store = settings.data_dir / "events.db"
    stream = Follower(f"{http.base_url}/events/stream", **bearer(key))
    away = store.with_suffix(".away")
    forgets_and_knows_again(http, key, lambda: store.rename(away), lambda: away.rename(store), stream)
    log = settings.data_dir.with_suffix(".log").read_text()
    assert log.count("keys can't be looked up") == 1
