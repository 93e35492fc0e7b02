"""While somebody floods the API, or makes it wait, others are answered in time, and it stays as large as it was."""

import resource
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.raw import LAST, Answers, request, send
from tests.support.service import api, eventually
from tests.support.stores import JOHN

SOON = 0.25
"""Seconds in which others must be answered; on a machine that is busy otherwise, in one of three rounds."""

MOST = 50_000_000
"""Bytes by which the API may grow."""

HEAD, BODY, IDLE = 2.0, 2.5, 3.0
"""Seconds that a client has here."""

STREAMS = 100

Flood = Callable[[int], None]


class Running:
    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.port = http.base_url.port or 0
        listens = [each for each in psutil.net_connections("tcp") if each.laddr.port == self.port and each.pid]
        self.process = psutil.Process(listens[0].pid)

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """The seconds in which others were answered meanwhile. It may not have grown at any time."""
        before, done = self.process.memory_info().rss, threading.Event()
        seconds: list[float] = []
        largest = before

        def probe() -> None:
            nonlocal largest
            while not done.is_set():
                with httpx.Client(base_url=self.http.base_url, timeout=60, verify=False) as others:
                    answers = others.get("/livez"), others.post(**post())
                    seconds.extend(each.elapsed.total_seconds() for each in answers)
                    largest = max(largest, self.process.memory_info().rss)

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield seconds
        finally:
            done.set()
            thread.join()
        assert largest - before < MOST


@pytest.fixture(scope="module")
def folder(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("floods") / "data"
    shutil.copytree(files, folder)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    given = {"CQRS_HEAD_TIMEOUT": str(HEAD), "CQRS_BODY_TIMEOUT": str(BODY), "CQRS_IDLE_TIMEOUT": str(IDLE)}
    with api(folder, **given) as http:
        yield Running(http)


def post() -> dict[str, Any]:
    return {"url": "/users/", "json": {**JOHN, "email": f"{secrets.token_hex(8)}@example.com"}}


@contextmanager
def clients(port: int, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as opened:
        yield [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(number)]


def told(client: socket.socket) -> list[int]:
    """The statuses that somebody got before the server closed the connection."""
    answers = Answers()
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            answers.read(data)
    return [each.status for each in answers]


def in_time(running: Running, flood: Flood) -> None:
    for _ in range(3):
        with running.watched() as seconds:
            flood(running.port)
        if max(seconds) < SOON:
            return
    pytest.fail(f"slowest of {len(seconds)} answers to others in the last round: {max(seconds):.3f} s")


def one_header_of_200_mb(port: int) -> None:
    with clients(port, 1) as (client,):
        send(client, [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: ", *[b"a" * 1_000_000] * 200])
        assert told(client) == [431]


def many_bodies_without_an_end(port: int) -> None:
    with clients(port, 20) as many:
        for client in many:
            send(client, [b"POST /users/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"])
            send(client, [b"fffffff\r\n", b"a" * 1_000_000, b"a" * 1_000_000])
            assert told(client) == [413]


def trickled_heads(port: int) -> None:
    trickled(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: ")


def trickled_bodies(port: int) -> None:
    trickled(port, request("POST /users/", "Content-Type: application/json", "Content-Length: 50000"))


def trickled(port: int, beginning: bytes) -> None:
    with clients(port, 500) as many:
        for client in many:
            client.sendall(beginning)
        deadline = time.monotonic() + max(HEAD, BODY) + 1.5
        while time.monotonic() < deadline:
            for client in many:
                send(client, [b"a"])
            time.sleep(0.1)
        assert [told(client) for client in many] == [[408]] * 500


def silence(port: int) -> None:
    with clients(port, 2000) as many:
        assert [told(client) for client in many] == [[]] * 2000


def requests_behind_streams(port: int) -> None:
    behind = request("GET /livez") * 6000  # some 270 KB
    with clients(port, STREAMS) as many:
        for client in many:
            client.sendall(request("GET /events/stream"))
            while b"retry" not in client.recv(65536):
                pass
            client.settimeout(0.05)
            with suppress(TimeoutError):  # once nobody reads it
                client.sendall(behind)
        time.sleep(0.5)


@pytest.mark.parametrize(
    "flood",
    [
        one_header_of_200_mb,
        many_bodies_without_an_end,
        trickled_heads,
        trickled_bodies,
        silence,
        requests_behind_streams,
    ],
)
def test_others_are_answered_in_time_while_there_is(running: Running, flood: Flood) -> None:
    in_time(running, flood)


def test_who_waits_longest_makes_room_and_who_comes_then_is_answered(folder: Path) -> None:
    with api(folder, CQRS_MAX_CONNECTIONS="20") as http, clients(http.base_url.port or 0, 60) as silent:
        assert httpx.get(f"{http.base_url}/livez").status_code == 200
        assert [told(client) for client in silent[:30]] == [[]] * 30
        silent[-1].sendall(LAST)
        assert told(silent[-1]) == [200]


def test_while_all_connections_are_being_answered_another_is_refused(folder: Path) -> None:
    with api(folder, CQRS_MAX_CONNECTIONS="8") as http, clients(http.base_url.port or 0, 8) as many:
        for client in many:
            client.sendall(request("GET /events/stream"))
            client.recv(1)
        refused = httpx.get(f"{http.base_url}/livez")
        assert refused.status_code == 503
        assert (refused.json()["type"], refused.headers["retry-after"]) == ("/problems/too-many-connections", "1")
        many[0].close()
        eventually(lambda: httpx.get(f"{http.base_url}/livez").status_code == 200)


def test_who_has_every_connection_loses_one_to_another_client(folder: Path) -> None:
    with api(folder, CQRS_MAX_CONNECTIONS="8") as http, clients(http.base_url.port or 0, 8) as many:
        http.close()
        for client in many:
            client.sendall(request("GET /events/stream"))
            client.recv(1)
        with httpx.Client(base_url=http.base_url, transport=httpx.HTTPTransport(local_address="127.0.0.9")) as other:
            assert other.get("/livez").status_code == 200
            assert other.get("/livez").status_code == 200
        with suppress(ConnectionResetError):
            while many[0].recv(65536):
                pass


def test_who_takes_his_answers_by_and_by_makes_room(folder: Path) -> None:
    with api(folder, CQRS_MAX_CONNECTIONS="4") as http, ExitStack() as opened:
        http.close()
        slow = [opened.enter_context(socket.socket()) for _ in range(4)]
        for client in slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(("127.0.0.1", http.base_url.port))
            client.sendall(request("GET /docs/swagger-ui-bundle.js") * 20)
            client.setblocking(False)

        def is_answered() -> bool:
            for client in slow:
                with suppress(OSError):
                    client.recv(40000)
            time.sleep(0.1)
            return httpx.get(f"{http.base_url}/livez").status_code == 200

        eventually(is_answered, within=8)  # the system would end them, if they took nothing, after 10


def test_who_takes_his_answers_by_and_by_has_as_long_as_for_a_body(folder: Path) -> None:
    with api(folder, CQRS_BODY_TIMEOUT="1") as http, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", http.base_url.port))
        client.sendall(request("GET /docs/swagger-ui-bundle.js") * 20)

        process, port = Running(http).process, client.getsockname()[1]

        def is_closed() -> bool:
            """By the API: what the system has taken from it still comes."""
            client.recv(40000)
            time.sleep(0.1)
            return all(each.raddr[1:] != (port,) for each in process.net_connections("tcp"))

        eventually(is_closed, within=8)


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2)")
def test_out_of_files_the_api_does_not_spin_and_goes_on_once_there_are_some(folder: Path) -> None:
    with low_limit_of_files(), api(folder) as http:
        process = Running(http).process
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(hard, 8000)
        assert f"files={soft}" in folder.with_suffix(".log").read_text()
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 5, hard))
        with clients(http.base_url.port or 0, 100):
            before = sum(process.cpu_times()[:2])
            time.sleep(1)
            assert sum(process.cpu_times()[:2]) - before < 0.5
        eventually(lambda: httpx.get(f"{http.base_url}/livez").status_code == 200)


@contextmanager
def low_limit_of_files() -> Iterator[None]:
    """For processes that are started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
