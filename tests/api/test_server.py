"""The server beneath the app, asked in raw bytes: what it takes for a request, what it refuses, and in which words."""

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pydantic_core import to_json

from tests.support.raw import LAST, Answers, exchange, in_chunks, request
from tests.support.service import api
from tests.support.stores import JOHN

JSON = "Content-Type: application/json"

OFFERS = ["h2c", "HTTP/2.0", "websocket", "TLS/1.0, h2c", "x"]

FRAMINGS: list[Callable[..., bytes]] = [request, in_chunks]

MAX = 64 * 1024


@pytest.fixture(scope="module")
def port(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of an API that has no workers."""
    folder = tmp_path_factory.mktemp("server") / "data"
    shutil.copytree(files, folder)
    with api(folder) as http:
        yield http.base_url.port or 0


def user() -> bytes:
    return to_json({**JOHN, "email": f"{secrets.token_hex(8)}@example.com"})


def statuses(answers: Answers) -> list[int]:
    return [each.status for each in answers]


def assert_refused(answers: Answers, status: int, type: str) -> None:
    """Once, as a problem, and then the connection is closed."""
    assert statuses(answers) == [status]
    only = answers[0]
    assert only.headers["content-type"] == "application/problem+json"
    assert only.headers["connection"] == "close"
    assert (only.json()["type"], only.json()["status"]) == (f"/problems/{type}", status)
    assert "date" in only.headers


# Upgrades


@pytest.mark.parametrize("framed", FRAMINGS)
@pytest.mark.parametrize("offer", OFFERS)
def test_an_upgrade_that_is_offered_is_not_taken(port: int, offer: str, framed: Callable[..., bytes]) -> None:
    offering = "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {offer}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
    posts = [framed("POST /users/", JSON, *offering, body=user()) for _ in range(3)]
    assert statuses(exchange(port, *posts, LAST)) == [202, 202, 202, 200]
    together = b"".join([*(framed("POST /users/", JSON, *offering, body=user()) for _ in range(3)), LAST])
    assert statuses(exchange(port, together)) == [202, 202, 202, 200]


@pytest.mark.parametrize("framed", FRAMINGS)
@pytest.mark.parametrize("apart", [True, False])
def test_no_body_is_read_as_a_request(port: int, framed: Callable[..., bytes], apart: bool) -> None:
    inner = request("GET /metrics") * 5
    whole = framed("GET /livez", "connection: keep-alive, upgrade", "UPGRADE: h2c", body=inner)
    head, _, body = whole.partition(b"\r\n\r\n")
    pieces = [head, b"\r\n\r\n", body, LAST] if apart else [whole + LAST]
    assert [each.json() for each in exchange(port, *pieces)] == [{"status": "alive"}] * 2


def test_a_body_that_comes_byte_by_byte_is_whole(port: int) -> None:
    for framed in FRAMINGS:
        whole = framed("POST /users/", JSON, "Connection: upgrade", "Upgrade: h2c", body=user())
        pieces = [bytes([byte]) for byte in whole]
        assert statuses(exchange(port, *pieces, LAST, pause=0)) == [202, 200]


@pytest.mark.parametrize(
    ("sent", "status", "type"),
    [
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501, "not-implemented"),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "not-implemented"),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "not-implemented"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", 505, "http-version-not-supported"),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "http-version-not-supported"),
        (b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", 505, "http-version-not-supported"),
        (b"GET /\r\n\r\n", 505, "http-version-not-supported"),
    ],
)
def test_another_protocol_is_refused(port: int, sent: bytes, status: int, type: str) -> None:
    assert_refused(exchange(port, sent, LAST), status, type)


# Framing


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        *([f"Content-Length: {each}"] for each in ["5, 5", "+5", "-5", "0x5", "5 5", "", "9" * 30, "5;5"]),
        ["Content-Length : 5"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: \vchunked"],
        ["Transfer-Encoding: identity"],
        ["X-Folded: a", " b"],
        ["X-Folded: a", "\tContent-Length: 5"],
        ["X-Nul: a\0b"],
        ["X-CR: a\rContent-Length: 5"],
        ["X-LF: a\nContent-Length: 5"],
        ["X-Control: a\x01b"],
        ["No colon"],
        [": no name"],
        ["X Space: a"],
        ["Host: localhost"],
        ["Host: 127.0.0.1"],
        ["Expect: 100-continue", "Expect: 100-continue"],
    ],
)
def test_a_head_that_others_may_read_otherwise_is_refused(port: int, lines: list[str]) -> None:
    assert_refused(exchange(port, request("POST /users/", *lines) + b"GET /" + LAST), 400, "malformed-request")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        *(
            b"GET /livez HTTP/1.1\r\nHost: %s\r\n\r\n" % each
            for each in (b"a b", b"a/b", b"u@h", b"h:x", b"[::1", b"h:1:2", b"[:::]", b"[1]")
        ),
        b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: localhost\n\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\n\r\n",
        b"GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /users/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0",
    ],
)
def test_what_is_no_request_is_refused_at_once(port: int, sent: bytes) -> None:
    assert_refused(exchange(port, sent, within=20), 400, "malformed-request")


def test_a_body_that_is_refused_while_it_is_expected_is_no_bug(port: int) -> None:
    head = request("POST /users/", JSON, "Expect: 100-continue", "Transfer-Encoding: chunked")
    assert_refused(exchange(port, head + b"x\r\n"), 400, "malformed-request")
    (metrics,) = exchange(port, request("GET /metrics", "Connection: close"))
    assert b'status="500"' not in metrics.body


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"0x5\r\n",
        b"-5\r\n",
        b"5 \r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhello0\r\n",
        b"f" * 17 + b"\r\n",
        b"5;a\nb\r\n",
    ],
)
def test_a_body_in_wrong_chunks_is_refused(port: int, chunks: bytes) -> None:
    head = request("POST /users/", JSON, "Transfer-Encoding: chunked")
    assert_refused(exchange(port, head + chunks + LAST), 400, "malformed-request")
    assert_refused(exchange(port, head, chunks, LAST), 400, "malformed-request")


def test_a_coding_of_transfer_that_is_not_known_is_refused(port: int) -> None:
    answers = exchange(port, request("POST /users/", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n")
    assert_refused(answers, 501, "not-implemented")


def test_a_trailer_is_no_header(port: int) -> None:
    whole = in_chunks("POST /users/", JSON, body=user())
    trailers = whole.removesuffix(b"\r\n") + b"X-Request-ID: trailer\r\nContent-Encoding: gzip\r\nHost: x\r\n\r\n"
    first, _ = exchange(port, trailers + LAST)
    assert (first.status, first.headers["x-request-id"] != "trailer") == (202, True)


def test_a_target_may_name_its_host(port: int) -> None:
    absolute = request("GET http://localhost/livez", host="elsewhere.example")
    foreign = request("GET http://elsewhere.example/livez")
    rooted = request("GET http://localhost?a=1")
    assert statuses(exchange(port, absolute + foreign + rooted + LAST)) == [200, 421, 422, 200]


def test_blank_lines_before_a_request_are_no_request(port: int) -> None:
    assert statuses(exchange(port, b"\r\n\r\n" + request("GET /livez") + b"\r\n", b"\r\n" + LAST)) == [200, 200]


# Sizes


def test_a_head_is_taken_up_to_its_bound_and_refused_beyond(port: int) -> None:
    head = request("GET /livez", "X-Long: ")
    fits = head.replace(b"X-Long: ", b"X-Long: " + b"a" * (MAX - len(head)))
    assert statuses(exchange(port, fits + LAST)) == [200, 200]
    beyond = fits.replace(b"X-Long: ", b"X-Long: a")
    half = len(beyond) // 2
    for pieces in [beyond + LAST], [beyond[:half], beyond[half:] + LAST], [beyond[:-4], b"a" * MAX]:
        assert_refused(exchange(port, *pieces), 431, "request-header-fields-too-large")


def test_a_hundred_headers_are_taken_and_more_refused(port: int) -> None:
    headers = [f"X-{n}: a" for n in range(99)]
    assert statuses(exchange(port, request("GET /livez", *headers) + LAST)) == [200, 200]
    for more in (1, 900):
        sent = request("GET /livez", *headers, *(f"Y-{n}: a" for n in range(more)))
        assert_refused(exchange(port, sent + LAST), 431, "request-header-fields-too-large")


def test_a_request_line_is_bounded(port: int) -> None:
    assert_refused(exchange(port, request("GET /" + "a" * MAX) + LAST), 414, "uri-too-long")


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"X-A: a\r\n" * MAX, b"0\r\nX: " + b"a" * MAX, b"1;" + b"a" * MAX, b"1\r\na\r\n" * MAX]
)
def test_what_is_around_a_body_in_chunks_is_bounded(port: int, endless: bytes) -> None:
    head = request("POST /users/", JSON, "Transfer-Encoding: chunked")
    assert_refused(exchange(port, head + endless, LAST), 431, "request-header-fields-too-large")
    assert_refused(exchange(port, head, endless, LAST), 431, "request-header-fields-too-large")


def test_a_body_is_taken_up_to_its_bound_and_refused_beyond(port: int) -> None:
    for framed in (request, partial(in_chunks, size=4096)):
        assert statuses(exchange(port, framed("GET /livez", body=b"a" * MAX) + LAST)) == [200, 200]
        assert_refused(exchange(port, framed("GET /livez", body=b"a" * (MAX + 1)) + LAST), 413, "content-too-large")


def test_a_length_beyond_the_bound_is_refused_before_the_body_comes(port: int) -> None:
    head = request("POST /users/", JSON, f"Content-Length: {MAX + 1}")
    assert_refused(exchange(port, head, within=20), 413, "content-too-large")


def test_a_body_that_nobody_reads_upsets_no_later_request(port: int) -> None:
    body = request("GET /metrics") * 10
    for framed in FRAMINGS:
        for line, status in {"GET /livez": 200, "POST /nowhere": 404, "DELETE /users/": 405}.items():
            sent = framed(line, body=body)
            assert statuses(exchange(port, sent + sent + LAST)) == [status, status, 200]
            assert statuses(exchange(port, sent[:-9], sent[-9:] + sent, LAST)) == [status, status, 200]


def test_requests_that_come_together_are_answered_in_order(port: int) -> None:
    ids = [str(number) for number in range(500)]
    together = b"".join(request("GET /livez", f"X-Request-ID: {each}") for each in ids)
    assert len(together) < MAX
    assert [each.headers["x-request-id"] for each in exchange(port, together + LAST)][:-1] == ids


def test_requests_that_come_while_others_are_answered_are_each_answered_once(port: int) -> None:
    ids = [str(number) for number in range(500)]  # less than 64 KB, behind which an answer is the last
    requests = [request("POST /users/", f"X-Request-ID: {each}", JSON, body=b"{}") for each in ids]
    pieces = [piece for whole in requests for piece in (whole[:50], whole[50:])]
    assert [each.headers["x-request-id"] for each in exchange(port, *pieces, LAST, pause=0)][:-1] == ids


# Expectations and versions


def test_who_expects_it_is_told_to_continue(port: int) -> None:
    whole = request("POST /users/", JSON, "Expect: 100-continue", body=user())
    head, _, body = whole.partition(b"\r\n\r\n")
    assert statuses(exchange(port, head + b"\r\n\r\n", body + LAST, pause=0.5)) == [100, 202, 200]
    assert statuses(exchange(port, whole + LAST))[-2:] == [202, 200]


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /users/", [JSON, f"Content-Length: {MAX + 1}"], 413),
        ("POST /users/", ["Content-Type: text/plain", "Content-Length: 9"], 415),
        ("POST /users/", ["Content-Type: text/plain", "Transfer-Encoding: chunked"], 415),
        ("POST /users/", [JSON, "Content-Encoding: gzip", "Content-Length: 9"], 415),
        ("POST /nowhere", [JSON, "Content-Length: 9"], 404),
        ("DELETE /users/", [JSON, "Content-Length: 9"], 405),
        ("PUT /users/x", [JSON, "Content-Length: 9"], 404),
        ("POST /users/", [JSON, "Host: other", "Content-Length: 9"], 400),
        ("POST /users/", [JSON, "Origin: http://elsewhere.example", "Content-Length: 9"], 403),
    ],
)
def test_who_expects_to_continue_is_refused_at_once(port: int, line: str, headers: list[str], status: int) -> None:
    assert statuses(exchange(port, request(line, "Expect: 100-continue", *headers), within=20)) == [status]


def test_another_expectation_fails(port: int) -> None:
    answers = exchange(port, request("POST /users/", JSON, "Expect: 200-ok", body=user()))
    assert_refused(answers, 417, "expectation-failed")


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_a_coding_of_content_is_refused(port: int, coding: str) -> None:
    encoded, _ = exchange(port, request("POST /users/", JSON, f"Content-Encoding: {coding}", body=user()) + LAST)
    assert (encoded.status, encoded.headers["accept-encoding"]) == (415, "identity")
    assert encoded.json()["type"] == "/problems/unsupported-media-type"
    as_it_is = request("POST /users/", JSON, "Content-Encoding: Identity", body=user())
    assert statuses(exchange(port, as_it_is + LAST)) == [202, 200]


@pytest.mark.parametrize("path", ["/livez", "/openapi.json", "/nowhere", "/metrics"])
def test_an_answer_to_http_1_0_has_no_transfer_encoding(port: int, path: str) -> None:
    for headers in (b"", b"Host: localhost\r\nConnection: keep-alive\r\n"):
        (only,) = exchange(port, b"GET %s HTTP/1.0\r\n%s\r\n" % (path.encode(), headers))
        assert "transfer-encoding" not in only.headers
        assert only.headers["connection"] == "close"
        assert only.body


def test_a_stream_to_http_1_0_ends_with_the_connection(port: int) -> None:
    (posted,) = exchange(port, request("POST /users/", JSON, "Connection: close", body=user()))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET %s/stream HTTP/1.0\r\n\r\n" % posted.json()["links"]["self"].encode())
        received = b""
        while b"data:" not in received:
            received += client.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert body.startswith(b"retry: 1000\n\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
