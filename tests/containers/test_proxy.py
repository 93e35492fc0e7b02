"""The proxy before a real API: who trickles, is silent or takes too much is told, and others are answered meanwhile."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest

from shared.access.keys import new_key
from tests.support.service import Service, eventually, free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"

WITHIN = 0.25
"""Seconds within which others are answered."""

POST = b"POST /users/ HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"

LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

OPERATOR = new_key()

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


@contextmanager
def before_an_api(folder: Path, **own: str) -> Iterator[Proxy]:
    port = free_port()
    api = Service(folder / "data", port=None, CQRS_TRUSTED_PROXIES="127.0.0.1", CQRS_ALLOWED_HOSTS="*", **own)
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


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with before_an_api(tmp_path_factory.mktemp("proxy"), CQRS_MAX_STREAMS_PER_CLIENT="1") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    own = {"CQRS_AUTH": "on", "CQRS_OPERATOR_KEY": OPERATOR.text, "CQRS_MAX_RATE_PER_ADDRESS": "5"}
    with before_an_api(tmp_path_factory.mktemp("closed"), **own) as proxy:
        yield proxy


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


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", "Connection: close", *lines, "", ""]).encode()


def test_p10_what_an_api_says_of_keys_and_roles_comes_through_as_it_was(closed: Proxy) -> None:
    bearer = f"Authorization: Bearer {OPERATOR.text}"
    told = closed.said(head("/users/1"), source="127.0.0.4")
    assert re.match(rb"HTTP/1.1 401 .*\r\nwww-authenticate: Bearer realm=.*/problems/unauthenticated", told, DOTALL)
    told = closed.said(head("/users/1", bearer), source="127.0.0.4")
    assert re.match(rb"HTTP/1.1 403 .*\r\nwww-authenticate: Bearer .*insufficient_scope.*missing-role", told, DOTALL)
    assert b" 401 " in closed.said(head("/users/1", bearer, bearer), source="127.0.0.4")
    assert b'"dependencies"' in closed.said(head("/readyz", bearer))
    assert b'{"status":"ready"}' in closed.said(head("/readyz"))


DOTALL = re.DOTALL | re.IGNORECASE


def test_p8_an_address_has_a_rate_of_its_own_whatever_it_says_of_where_it_is(closed: Proxy) -> None:
    def answers(source: str) -> list[bytes]:
        asked = (head("/users/1", f"X-Forwarded-For: 10.0.0.{number}") for number in range(10))
        return [closed.said(each, source=source) for each in asked]

    for source in ("127.0.0.2", "127.0.0.3"):
        told = answers(source)
        assert b" 401 " in told[0]
        [*_, last] = (each for each in told if b" 429 " in each)
        assert re.search(rb"\r\nretry-after: 1\r\n", last, re.IGNORECASE)
        assert re.search(rb'\r\nratelimit-policy: "address";q=5;w=1\r\n', last, re.IGNORECASE)
        assert b"/problems/too-many-requests" in last
    assert b" 200 " in closed.said(LIVE, source="127.0.0.2")
