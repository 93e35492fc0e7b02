"""Streams of events: nothing missed, nothing twice, and an end for all of it."""

import asyncio
import random
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.requests import Request
from starlette.types import Message

from api.http import streaming
from api.http.streaming import HEARTBEAT_EVERY, Streams
from api.reading import feed, log_pages
from shared.access.principals import LOCAL
from shared.database.sqlite import path_of
from shared.messages import NewEvent
from shared.stores import event_store
from shared.stores.event_store import Append
from tests.support.follower import Follower
from tests.support.service import Service, answers, api, eventually, free_port, start, stores_of
from tests.support.stores import JOHN, Stores

WAIT = {"Prefer": "wait=10"}


def happen(stores: Stores, events: int, *, stream: str = "user-1", padding: int = 0) -> int:
    """So many events in one transaction; the log's last position."""
    data = {"user_id": 1, "new_email": "x" * padding}
    with stores.events.begin() as connection:
        return event_store.append(connection, Append(stream, [NewEvent("UserEmailUpdated", data, {})] * events))


def email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def url(http: httpx.Client, path: str) -> str:
    return str(http.base_url.join(path))


@contextmanager
def following(url: str, **headers: str) -> Iterator[Follower]:
    follower = Follower(url, **headers)
    try:
        yield follower
    finally:
        follower.leave()


def there_is_room(http: httpx.Client) -> bool:
    with following(url(http, "/events/stream")) as one_more:
        return one_more.answer.status == 200


# The promise, on both engines


@pytest.mark.long
@pytest.mark.both_engines
def test_who_is_cut_off_again_and_again_misses_nothing_and_sees_nothing_twice(stores: Stores) -> None:
    sizes = random.choices([1, 1, 1, 3, 30, log_pages.PAGE_EVENTS], k=100)
    last = happen(stores, feed.TAIL_EVENTS + log_pages.PAGE_EVENTS) + sum(sizes)
    seen: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        for goal in (last // 2, last):  # with the API begun anew in between
            with api(stores.settings.data_dir, **stores_of(stores.settings)) as http:
                growing = thread.submit(grow, stores, sizes[::2] if goal < last else sizes[1::2])
                while len(seen) < goal:
                    enough = min(random.randrange(1, 500), goal - len(seen))
                    with following(url(http, "/events/stream"), **{"Last-Event-ID": str(len(seen))}) as follower:
                        eventually(partial(has, follower, enough), within=60)
                    seen += follower.ids
                growing.result(60)
    assert seen[:last] == list(range(1, last + 1))


def grow(stores: Stores, sizes: list[int]) -> None:
    for size in sizes:
        happen(stores, size)
        time.sleep(0.02)


def has(follower: Follower, events: int) -> bool:
    return len(follower.messages) >= events


@pytest.mark.both_engines
def test_who_follows_from_long_ago_gets_pages_and_then_what_happens(stores: Stores) -> None:
    last = happen(stores, 3 * feed.TAIL_EVENTS)
    with (
        api(stores.settings.data_dir, **stores_of(stores.settings)) as http,
        following(url(http, "/events/stream?after=0")) as behind,
        following(url(http, "/events/stream")) as live,
    ):
        eventually(partial(has, behind, last), within=60)
        eventually(lambda: live.last_id == str(last))
        end = happen(stores, 7)
        eventually(lambda: has(behind, end) and has(live, 7))
        assert (behind.ids, live.ids) == (list(range(1, end + 1)), list(range(last + 1, end + 1)))
        assert [each.data for each in live.messages] == http.get("/events/", params={"after": last}).json()


@pytest.mark.both_engines
def test_filters_hold_for_what_was_and_for_what_comes(stores: Stores) -> None:
    happen(stores, 2, stream="user-1")
    happen(stores, feed.TAIL_EVENTS, stream="user-2")
    with (
        api(stores.settings.data_dir, **stores_of(stores.settings)) as http,
        following(url(http, "/events/stream?after=0&stream=user-1")) as one,
        following(url(http, "/events/stream?after=0&type=UserCreated&type=Other")) as created,
        following(url(http, "/events/stream?after=0&type=UserEmailUpdated&stream=user-3")) as three,
    ):
        eventually(lambda: one.ids == [1, 2])
        happen(stores, 1, stream="user-3")
        happen(stores, 1, stream="user-1")
        with stores.events.begin() as log:
            last = event_store.append(log, Append("user-4", [NewEvent("UserCreated", {"user_id": 4, **JOHN}, {})]))
        eventually(lambda: (one.ids, created.ids, three.ids) == ([1, 2, last - 1], [last], [last - 2]))


# Live


def test_an_event_is_with_its_followers_within_50_ms(shared_service: Service) -> None:
    with following(f"{shared_service.url}/events/stream") as follower:
        medians = []
        for _ in range(3):
            before = len(follower.messages)
            for _ in range(30):
                shared_service.http.post("/users/", json={**JOHN, "email": email()}, headers=WAIT).raise_for_status()
            eventually(partial(has, follower, before + 30))
            # An event is recorded before it is committed: this is a little more than what is promised.
            took = [each.came - recorded(each.data["recorded_at"]) for each in follower.messages[before:]]
            medians.append(statistics.median(took))
    assert min(medians) < 0.05


def recorded(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def test_the_last_event_id_comes_before_after(shared_service: Service) -> None:
    http = shared_service.http
    first = http.post("/users/", json={**JOHN, "email": email()}, headers=WAIT)
    position = http.get("/readyz").json()["projections"]["users"]["position"]
    assert first.status_code == 201
    with following(f"{shared_service.url}/events/stream?after=0", **{"Last-Event-ID": str(position - 1)}) as follower:
        eventually(lambda: follower.ids == [position])


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/events/stream?after=-1", {}),
        ("/events/stream?after=x", {}),
        ("/events/stream", {"Last-Event-ID": "x"}),
        ("/events/stream", {"Last-Event-ID": "-1"}),
    ],
)
def test_a_place_that_is_none_is_refused(shared_service: Service, path: str, headers: dict[str, str]) -> None:
    answer = shared_service.http.get(path, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_curl_sees_server_sent_events(shared_service: Service, tmp_path: Path) -> None:
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    seen = tmp_path / "seen"
    with seen.open("wb") as file:
        process = subprocess.Popen([curl, "-siN", f"{shared_service.url}/events/stream"], stdout=file)
    try:
        eventually(lambda: re.search(rb"\r\n\r\nretry: \d+\n\nid: \d+\n\n", seen.read_bytes()))
        assert b"content-type: text/event-stream\r\n" in seen.read_bytes()
        address = email()
        shared_service.http.post("/users/", json={**JOHN, "email": address})
        line = rf'id: (\d+)\ndata: \{{"id":\1,"type":"UserCreated",.*"email":"{address}".*\}}\n\n$'
        eventually(lambda: re.search(line.encode(), seen.read_bytes()))
    finally:
        process.terminate()
        process.wait(30)


# Commands


def test_a_command_s_stream_ends_with_its_outcome(shared_service: Service) -> None:
    running = shared_service
    worker = running.role("command-worker")
    assert worker
    worker.suspend()
    try:
        body = {**JOHN, "email": email()}
        accepted, rejected = (running.http.post("/users/", json=body).json() for _ in range(2))
        streams = [Follower(f"{running.url}{each['links']['self']}/stream") for each in (accepted, rejected)]
        eventually(lambda: [[each.id for each in its.messages] for its in streams] == [["accepted"], ["accepted"]])
    finally:
        worker.resume()
    assert all(each.ended() for each in streams)
    assert [each.last_id for each in streams] == ["succeeded", "rejected"]
    for its in streams:
        last = its.messages[-1].data
        assert last == running.http.get(last["links"]["self"]).json()


def test_who_has_seen_the_outcome_is_told_that_there_is_no_more(shared_service: Service) -> None:
    http = shared_service.http
    path = http.post("/users/", json={**JOHN, "email": email()}).headers["location"]
    with following(f"{shared_service.url}{path}/stream") as follower:
        assert follower.ended()
    again = Follower(f"{shared_service.url}{path}/stream", **{"Last-Event-ID": "accepted"})
    assert again.ended()
    assert [each.id for each in again.messages] == [follower.last_id] == ["succeeded"]
    assert http.get(f"{path}/stream", headers={"Last-Event-ID": "succeeded"}).status_code == 204


def test_a_command_that_was_not_accepted_has_no_stream(shared_service: Service) -> None:
    answer = shared_service.http.get("/commands/x/stream")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/command-not-found")


# Limits and ends


def test_beyond_the_limit_a_stream_is_503_until_somebody_leaves(stores: Stores) -> None:
    with (
        api(stores.settings.data_dir, CQRS_MAX_STREAMS="2") as http,
        following(url(http, "/events/stream")),
        following(url(http, "/events/stream")) as second,
    ):
        answer = http.get("/events/stream")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-many-streams")
        assert answer.headers["retry-after"]
        second.leave()
        eventually(lambda: there_is_room(http))


@pytest.mark.long
def test_who_takes_nothing_is_dropped_and_holds_up_nobody(stores: Stores) -> None:
    happen(stores, 2 * feed.TAIL_EVENTS, padding=20_000)  # more than its buffers and those of the kernel take
    with (
        api(stores.settings.data_dir, CQRS_MAX_STREAMS="2") as http,
        stuck(http.base_url.port or 0),
        following(url(http, "/events/stream")) as live,
    ):
        last = happen(stores, 1)
        eventually(lambda: live.ids == [last])
        assert not there_is_room(http)
        eventually(lambda: there_is_room(http), within=streaming.SEND_TIMEOUT + 20)
        assert live.clean is None


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the system must end the connection")
def test_of_who_takes_nothing_nothing_is_left(stores: Stores) -> None:
    happen(stores, 2 * feed.TAIL_EVENTS, padding=20_000)
    with api(stores.settings.data_dir) as http:
        port = http.base_url.port or 0
        pid = next(each.pid for each in psutil.net_connections("tcp") if each.laddr.port == port and each.pid)
        role = psutil.Process(pid)
        http.close()
        idle = eventually(lambda: not established(role, port) and role.memory_info().rss)
        with stuck(port), stuck(port):
            eventually(lambda: len(established(role, port)) == 2)
            eventually(lambda: not established(role, port), within=60)
            assert role.memory_info().rss - idle < 50_000_000


@contextmanager
def stuck(port: int) -> Iterator[None]:
    """Somebody who asks for everything and reads nothing."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield


def established(role: psutil.Process, port: int) -> list[Any]:
    return [each for each in role.net_connections() if each.raddr and each.laddr.port == port]


@pytest.mark.parametrize("server", [["api"], ["uvicorn", "api.main:app"]])
def test_told_to_stop_the_api_ends_its_streams_at_once(stores: Stores, server: list[str]) -> None:
    port = free_port()
    own = {"CQRS_DATA_DIR": str(stores.settings.data_dir), "CQRS_API_PORT": str(port)}
    arguments = ["--port", str(port)] if server[0] == "uvicorn" else []
    process = start([*server, *arguments], stores.settings.data_dir, own)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=35) as http:
        eventually(lambda: answers(http, "/livez"), within=60)
        path = http.post("/users/", json={**JOHN, "email": email()}).headers["location"]  # there is no worker
        streams = [Follower(url(http, each)) for each in ("/events/stream", "/events/stream?after=0", f"{path}/stream")]
        eventually(lambda: streams[-1].last_id == "accepted")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert all(each.ended() for each in streams)
    code = process.wait(20)
    assert time.monotonic() - began < 4
    assert code == (0 if server == ["api"] else -signal.SIGTERM)


def test_a_stream_outlives_trouble_with_the_store(stores: Stores) -> None:
    with api(stores.settings.data_dir) as http, following(url(http, "/events/stream")) as follower:
        last = happen(stores, 1)
        eventually(lambda: follower.ids == [last])
        log = path_of(stores.settings.event_store)
        aside = log.rename(log.with_suffix(".aside"))
        eventually(lambda: http.get("/events/stream").status_code == 503)
        assert http.get("/events/").status_code == 503
        aside.rename(log)
        happen(stores, 1)
        eventually(lambda: follower.ids == [last, last + 1])


def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_EVERY", 0.05)
    sent: list[tuple[float, bytes]] = []

    async def messages() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"data: x\n\n"
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.2)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append((time.monotonic(), message.get("body", b"")))

    request = Request({"type": "http", "client": None, "principal": LOCAL})
    asyncio.run(Streams(1, 1).answer(request, messages())({}, receive, send))
    words = [text for _, text in sent]
    assert words[:6] == [b"", b"retry: 1000\n\n", *[b"data: x\n\n"] * 4]
    assert set(words[6:-1]) == {b":\n\n"}
    assert len(words) > 8
    assert words[-1] == b""
    assert all(after - before < 1 for (before, _), (after, _) in pairwise(sent))


def test_the_proxy_waits_longer_than_it_is_silent() -> None:
    configured = Path("deploy/haproxy.cfg").read_text()
    timeouts = re.findall(r"timeout (?:client|server) (\d+)([sm])", configured)
    assert len(timeouts) == 2
    assert all(int(number) * {"s": 1, "m": 60}[unit] > 2 * HEARTBEAT_EVERY for number, unit in timeouts)
