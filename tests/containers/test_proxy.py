"""The proxy before a real API: who trickles, is silent or takes too much is told, and others are answered meanwhile."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.service import Service, eventually, free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"

WITHIN = 0.25
"""Seconds within which others are answered."""

POST = b"POST /users/ HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"

LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="there is no haproxy here")


class Proxy(NamedTuple):
    port: int
    api: Service

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=40, source_address=(source, 0))

    def said(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """All that is answered until the end of the connection, or until nothing comes any more."""
        try:
            with self.connect(source) as client:
                client.sendall(request)
                return all_of(client)
        except ConnectionError:
            return b""

    def slowest(self) -> float:
        """Seconds until others have their answers, the best of some rounds: the machine may be busy."""
        return min(max(self._takes("GET", "/livez"), self._takes("POST", "/users/")) for _ in range(5))

    def _takes(self, method: str, path: str) -> float:
        other = HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=("127.0.0.2", 0))
        body = b'{"first_name":"A","last_name":"B","email":"a%d@example.com"}' % time.monotonic_ns()
        began = time.monotonic()
        other.request(method, path, body if method == "POST" else None, {"Content-Type": "application/json"})
        assert other.getresponse().status in {200, 202}
        took = time.monotonic() - began
        other.close()
        return took


def all_of(client: socket.socket) -> bytes:
    told = b""
    while True:
        client.settimeout(1 if told else 15)
        try:
            more = client.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return told
        if not more:
            return told
        told += more


def unless_well(told: bytes) -> bytes | None:
    return None if told.startswith(b"HTTP/1.1 200 ") else told


def configuration(port: int, api: int) -> str:
    """As in the container, but for names that only Docker knows, and with bounds that a test reaches."""
    text = CONFIGURATION.read_text()
    for there, here in {
        "bind :8000": f"bind 127.0.0.1:{port}",
        "server-template api 32 api:8000": f"server api 127.0.0.1:{api}",
        " init-addr none resolvers docker": "",
        "gt 1000 }": "gt 60 }",
        "gt 500 }": "gt 40 }",
        "http-request 10s": "http-request 5s",
        "http-keep-alive 15s": "http-keep-alive 2s",
        "time 30s": "time 2s",
    }.items():
        assert there in text
        text = text.replace(there, here)
    return text


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    api = Service(
        folder / "data", CQRS_TRUSTED_PROXIES="127.0.0.1", CQRS_ALLOWED_HOSTS="*", CQRS_MAX_STREAMS_PER_CLIENT="1"
    )
    file = folder / "haproxy.cfg"
    file.write_text(configuration(port, api.port))
    process = None
    try:
        api.ready()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stdout=log, stderr=log)
        proxy = Proxy(port, api)
        eventually(lambda: is_there(proxy), within=30)
        yield proxy
    finally:
        if process:
            process.terminate()
            process.wait(20)
        api.stop()


def is_there(proxy: Proxy) -> bool:
    try:
        return b" 200 " in proxy.said(LIVE)
    except OSError:
        return False


def test_haproxy_takes_the_configuration_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration(free_port(), free_port()))
    done = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, re.findall("WARNING.*", done.stderr)) == (0, [])


@pytest.mark.parametrize(
    "start",
    [b"", b"GET /livez HTTP/1.1\r\nHost: te", POST + b"Content-Length: 99\r\n\r\n{"],
    ids=["no", "head", "body"],
)
def test_p8_who_is_silent_or_trickles_is_ended_and_others_are_answered(proxy: Proxy, start: bytes) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(proxy.connect()) for _ in range(30)]
        for each in slow:
            each.sendall(start)
        assert proxy.slowest() < WITHIN
        for each in slow:
            each.settimeout(20)
            told = each.recv(65536)
            assert told.startswith(b"HTTP/1.1 408 ") or (not start and told == b"")


def test_p8_one_source_can_t_take_every_connection(proxy: Proxy) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(proxy.connect())
        told = eventually(lambda: unless_well(proxy.said(LIVE)))  # each of its threads takes connections by itself
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"/problems/too-many-connections" in told
        for _ in range(20):
            with suppress(ConnectionError):
                stack.enter_context(proxy.connect())
        assert eventually(lambda: proxy.said(LIVE) == b"")
        assert proxy.slowest() < WITHIN
    eventually(lambda: is_there(proxy))


def test_http_2_is_not_spoken(proxy: Proxy) -> None:
    told = proxy.said(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    assert told.startswith((b"HTTP/1.1 400 ", b""))
    assert b"\x00\x00" not in told


@pytest.mark.parametrize("token", [b"h2c", b"websocket", b"x"])
def test_an_offered_upgrade_is_ignored_and_the_body_is_read(proxy: Proxy, token: bytes) -> None:
    body = b'{"first_name":"A","last_name":"B","email":"%s%d@example.com"}' % (token, time.monotonic_ns())
    head = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABk\r\n" % token
    with proxy.connect() as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert b"HTTP/1.1 202 " in client.recv(65536)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"HTTP/1.1 200 " in client.recv(65536)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{    }",
        POST + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\n" + b"X: x\r\n" * 1000 + b"\r\n",
    ],
    ids=["hosts", "space", "lengths", "coding", "long", "many"],
)
def test_what_two_may_read_differently_is_refused(proxy: Proxy, request_: bytes) -> None:
    told = proxy.said(request_)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", told), told
    assert told.count(b"HTTP/1.") == 1


def test_a_body_by_both_ways_of_framing_is_no_second_request(proxy: Proxy) -> None:
    smuggled = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
    told = proxy.said(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
    assert told.count(b'"alive"') <= 1  # it may be the request that it is by RFC 9112, section 6.3, or none
    assert told.startswith(b"HTTP/1.1 4")


def test_who_a_client_is_says_the_proxy_and_not_the_client(proxy: Proxy) -> None:
    stream = b"GET /events/stream HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 10.0.0.%d\r\n\r\n"
    with proxy.connect() as first:
        first.sendall(stream % 1)
        assert b" 200 " in first.recv(65536)
        assert b"/problems/too-many-streams-of-client" in proxy.said(stream % 2)
        assert b" 200 " in proxy.said(stream % 3, source="127.0.0.3")
