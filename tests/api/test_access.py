"""Who may ask what: every route, with every role and with all that is no key; nothing else is learnt from a refusal."""

import asyncio
import base64
import re
import shutil
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.access import named
from api.http.routing import Route
from api.main import app, create_app
from shared.access.keys import new_key
from shared.access.roles import ROLES
from shared.settings import Settings
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.raw import Answers, exchange, request
from tests.support.service import free_port, start

Headers = list[tuple[str, str]]

ROUTES = [route for route in app.routes if isinstance(route, Route)]

CASES = [(method, route) for route in ROUTES for method in sorted(route.methods or ())]

IDS = [f"{method} {route.path}" for method, route in CASES]

NO_BODY = {"Content-Type": "text/plain"}
"""With the body of a command it is a 415 for whoever may send one, so that nothing is done."""

NO_VERSION = {"If-Match": '"4711"'}
"""With a command that takes no body: so it is rejected."""

CHALLENGE = re.compile(
    r'Bearer realm="[\w ]+"'
    r'(, error="(invalid_token|insufficient_scope)"(, error_description="[ !#-\[\]-~]+"|(, scope="[a-z]+( [a-z]+)*")))?'
)
"""What RFC 6750 (section 3) lets it be: neither a quote nor a backslash in it."""

NOT_MADE = {"digest": "0" * 16, "job_id": "01234567-89ab-7def-8123-456789abcdef"}
"""What is in paths and names nothing that is there: no command failed, and nothing was retried or rebuilt."""

MOMENT = {"date", "x-request-id"}
"""Headers that differ from answer to answer."""

Answer = tuple[int, dict[str, str], bytes]


class Asker:
    """Asks routes with whatever headers; streams are left as soon as they begin."""

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        john = closed.post(closed.all, "john@example.com", Prefer="wait=10")
        assert john.status_code == 201, john.text
        command = closed.post(closed.all, "jane@example.com").json()
        id, key = command["command_id"], keys.add(closed.settings, "reader", name="to be revoked").id
        self.there = {
            "user_id": john.headers["location"].rpartition("/")[2],
            "command_id": id,
            "name": "start.js",
            "key_id": key,
            "projection": "users",
            "position": "1",
            "stream": "operations-1",
            **NOT_MADE,
        }
        self.not_there = {each: value[::-1] for each, value in self.there.items()} | {
            "user_id": "4711",
            "position": "4711",
        }

    def ask(self, method: str, path: str, headers: Headers | dict[str, str], there: bool = True) -> Answer:
        if path.startswith("/console/static"):
            path = path.format(name="console.js")
        if "/projections/" in path:
            path = path.replace("{name}", "users")
        path = path.format(**(self.there if there else self.not_there))
        given = [*(headers.items() if isinstance(headers, dict) else headers), *NO_BODY.items()]
        given += NO_VERSION.items() if method == "DELETE" else []
        connection = HTTPConnection("127.0.0.1", self.closed.service.port, timeout=30)  # it sends any header as it is
        connection.putrequest(method, path)
        for name, value in given:
            connection.putheader(name, value.encode())
        connection.putheader("Content-Length", "2" if (has_body := method in {"POST", "PUT", "DELETE"}) else "0")
        connection.endheaders(b"{}" if has_body else None)
        answer = connection.getresponse()
        shown = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in MOMENT}
        is_stream = shown.get("content-type", "").startswith("text/event-stream")
        body = b"" if is_stream else answer.read()
        answer.close()
        connection.close()
        return answer.status, shown, body

    def status(self, method: str, path: str, headers: Headers | dict[str, str]) -> int:
        status, shown, body = self.ask(method, path, headers)
        if shown.get("location", "").startswith("/console/sign-in?"):
            return 401
        if status in {401, 403}:
            assert CHALLENGE.fullmatch(shown["www-authenticate"]), shown
            media_type = "text/html; charset=utf-8" if path.startswith("/console") else "application/problem+json"
            assert shown["content-type"] == media_type
            assert path.startswith("/console") or method == "HEAD" or f'"status":{status}'.encode() in body
        return status


@pytest.fixture(scope="module")
def asker(closed: Closed) -> Asker:
    return Asker(closed)


@pytest.fixture(scope="module")
def worthless(closed: Closed) -> dict[str, Headers]:
    """Headers that let nobody in, by what is wrong with them."""
    text, known = closed.all.text, ("Authorization", f"Bearer {closed.all.text}")
    wrong = "0" if text[-1] != "0" else "1"
    expired, revoked = (keys.add(closed.settings, *ROLES, name=name, seconds=1) for name in ("expired", "revoked"))
    rotated = keys.add(closed.settings, *ROLES, name="rotated")
    keys.revoke(closed.settings, revoked)
    keys.rotate(closed.settings, rotated)
    last = closed.new_key("reader")
    time.sleep(1)
    assert closed.get("/", last).status_code == 200
    tokens = {
        "garbage": "garbage",
        "a JSON Web Token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwicm9sZXMiOlsicmVhZGVyIl19.",
        "unknown": new_key().text,
        "of another secret": new_key(closed.all.id).text,
        "mistyped": text[:-1] + wrong,
        "mistyped in the middle": text[:40] + ("0" if text[40] != "0" else "1") + text[41:],
        "cut": text[:-1],
        "longer": text + wrong,
        "in capitals": text.upper(),
        "with a capital": "Cqrs" + text[4:],
        "within quotes": f'"{text}"',
        "id and digest": f"cqrs_{closed.all.id}",
        "two": f"{text} {text}",
        "two, by a comma": f"{text},{text}",
        "long": "cqrs_" + "0" * 60_000,
        "no ASCII": "cqrs_ä",
        "expired": expired.text,
        "revoked": revoked.text,
        "rotated": rotated.text,
    }
    others = {
        "Basic": f"Basic {base64.b64encode(f'key:{text}'.encode()).decode()}",
        "no scheme": text,
        "no token": "Bearer",
        "an empty token": "Bearer ",
        "another scheme": f"Token {text}",
        "no space": f"Bearer{text}",
        "a parameter": f'Bearer token="{text}"',
    }
    return {
        "none": [],
        "twice": [known, known],
        "two headers": [known, ("authorization", "Bearer garbage")],
        "another header": [("X-Api-Key", text), ("Proxy-Authorization", f"Bearer {text}"), ("Cookie", f"key={text}")],
        **{name: [("Authorization", f"Bearer {token}")] for name, token in tokens.items()},
        **{name: [("Authorization", its)] for name, its in others.items()},
    }


def is_public(route: Route) -> bool:
    return route.role in {"public", "docs"}  # the API listens on loopback


@pytest.mark.parametrize(("method", "route"), CASES, ids=IDS)
def test_p10_each_route_asks_for_its_role(asker: Asker, method: str, route: Route) -> None:
    for role, key in asker.closed.keys.items():
        may = is_public(route) or route.role == "any" or role in named(route.role)
        for asked in [method, "HEAD"] if method == "GET" else [method]:
            status, headers, body = asker.ask(asked, route.path, keys.bearer(key))
            assert (status == 403) is not may, role
            if not may and asked != "HEAD":
                assert f"This needs the role {' or '.join(named(route.role))}.".encode() in body
                assert f'scope="{" ".join(named(route.role))}"' in headers["www-authenticate"]
                assert CHALLENGE.fullmatch(headers["www-authenticate"])
    is_made = method != "GET" or not any(each in route.path for each in (*NOT_MADE, "/rebuild"))
    good = {200, 202, 204, 308, 415} if is_made else {200, 404}
    assert asker.status(method, route.path, keys.bearer(asker.closed.all)) in good


@pytest.mark.parametrize(("method", "route"), CASES, ids=IDS)
def test_p10_what_is_no_key_lets_nobody_in(
    asker: Asker, worthless: dict[str, Headers], method: str, route: Route
) -> None:
    for what, headers in worthless.items():
        for asked in [method, "HEAD"] if method == "GET" else [method]:
            status = asker.status(asked, route.path, headers)
            assert (status != 401) if is_public(route) else (status == 401), what


def test_p10_a_token_of_100_kilobytes_is_not_even_read(asker: Asker) -> None:
    assert {asker.status(method, route.path, keys.bearer("x" * 100_000)) for method, route in CASES} == {431}


@pytest.mark.parametrize(
    "spelled", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {}  ", "Bearer\t{}", " Bearer {}"]
)
def test_p10_the_scheme_is_written_in_any_case(asker: Asker, spelled: str) -> None:
    status = asker.status("GET", "/users/", {"Authorization": spelled.format(asker.closed.keys["reader"].text)})
    assert status == (401 if "\t" in spelled else 200)


def test_p10_without_a_role_nobody_learns_whether_a_thing_exists(asker: Asker, worthless: dict[str, Headers]) -> None:
    senders: list[Headers | dict[str, str]] = [worthless["none"], worthless["unknown"], worthless["revoked"]]
    senders += [keys.bearer(key) for key in asker.closed.keys.values()]
    compared = 0
    for method, path in [(method, route.path) for method, route in CASES if "_id}" in route.path]:
        for sender in senders:
            first, second = (asker.ask(method, path, sender, there) for there in (True, False))
            if first[0] in {401, 403}:
                assert first == second
                compared += 1
    assert compared > 20
    for one, other in (
        ("/events/?after=1", "/events/?after=99999"),
        ("/events/?stream=user-1", "/events/?stream=user-4711"),
        ("/events/stream?after=1", "/events/stream?after=99999"),
        ("/users/?email=john@example.com", "/users/?email=nobody@example.com"),
        ("/users/1?min_position=1", "/users/1?min_position=99999"),
        ("/users/1?version=1", "/users/1?version=99"),
        ("/users/1", "/users/1?nonsense"),
        ("/users/1", "/users/one"),
        ("/stats", "/stats?min_position=99999"),
    ):
        for sender in senders:
            first, second = asker.ask("GET", one, sender), asker.ask("GET", other, sender)
            if first[0] in {401, 403}:
                assert first == second


def test_p10_of_readiness_only_operators_see_more_than_a_word(asker: Asker) -> None:
    for role, key in asker.closed.keys.items():
        shown = asker.closed.get("/readyz", key).json()
        assert (set(shown) == {"status"}) is (role != "operator")
    assert set(asker.closed.http.get("/readyz").json()) == {"status"}


# What is refused is refused before its body


def head(*headers: str, length: int = 1000) -> bytes:
    return request("POST /users/", "Content-Type: application/json", f"Content-Length: {length}", *headers)


def test_p10_a_refusal_comes_before_the_body(closed: Closed) -> None:
    reader = f"Authorization: Bearer {closed.keys['reader'].text}"
    for headers, status in ([], 401), ([reader], 403):
        for more in [], ["Expect: 100-continue"]:
            with socket.create_connection(("127.0.0.1", closed.service.port), timeout=30) as client:
                client.sendall(head(*headers, *more))
                answers = Answers()
                began = time.monotonic()
                while not answers or not answers[0].body:
                    data = client.recv(65536)
                    assert data
                    assert b"100 Continue" not in data
                    answers.read(data)
                assert time.monotonic() - began < 20  # it waits for a body for 30
                assert [each.status for each in answers] == [status]


def test_p10_a_refusal_comes_before_the_body_in_http_1_0_too(closed: Closed) -> None:
    with socket.create_connection(("127.0.0.1", closed.service.port), timeout=30) as client:
        client.sendall(head().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        client.sendall(b"x" * 1000)
        while client.recv(65536):
            pass


def test_p10_a_stream_to_http_1_0_with_a_body_ends_with_the_connection(closed: Closed) -> None:
    key = keys.bearer(closed.all)["Authorization"]
    path = closed.post(closed.all, "stream-1-0@example.com", Prefer="wait=10").headers["location"]
    command = closed.get(f"{path}/history", closed.all).json()[0]["links"]["command"]
    whole = request(f"GET {command}/stream", f"Authorization: {key}", body=b"xy").replace(b"HTTP/1.1", b"HTTP/1.0")
    with socket.create_connection(("127.0.0.1", closed.service.port), timeout=30) as client:
        client.sendall(whole[:-2])
        time.sleep(0.1)
        client.sendall(whole[-2:])
        assert b"id: succeeded" in b"".join(iter(partial(client.recv, 65536), b""))


@pytest.mark.parametrize("after", [b"zz\r\n", b"1\r\nxx\r\n"], ids=["no chunk", "a wrong chunk"])
def test_p10_a_command_whose_body_turns_out_to_be_none_is_not_accepted(closed: Closed, after: bytes) -> None:
    """Also where the command has no body of its own: what is answered 400 was not done."""
    path = closed.post(closed.all, f"{len(after)}-chunks@example.com", Prefer="wait=10").headers["location"]
    off = closed.http.post(f"{path}/deactivation", headers=keys.bearer(closed.all) | {"Prefer": "wait=10"})
    assert (off.status_code, off.json()["version"]) == (200, 2)
    key = f"Authorization: Bearer {closed.all.text}"
    bad = request(f"DELETE {path}/deactivation", key, "Transfer-Encoding: chunked") + after
    assert [each.status for each in exchange(closed.service.port, bad)] == [400]
    later = closed.post(closed.all, f"{len(after)}-later@example.com", Prefer="wait=10")
    assert later.status_code == 201
    assert len(closed.get(f"{path}/history", closed.all).json()) == 2


def test_p10_a_client_that_is_refused_may_send_its_body_and_ask_again(closed: Closed) -> None:
    last = request("GET /livez", "Connection: close")
    answers = exchange(closed.service.port, head(), b"x" * 400, b"x" * 600 + last, pause=0.1)
    assert [each.status for each in answers] == [401, 200]
    answers = exchange(closed.service.port, head("Connection: close"), b"x" * 1000, pause=0.1)
    assert [each.status for each in answers] == [401]


def test_p10_a_client_that_is_refused_can_not_stay_by_never_sending_its_body(closed: Closed) -> None:
    began = time.monotonic()
    answers = exchange(closed.service.port, head(), b"x")
    assert [each.status for each in answers] == [401]
    assert time.monotonic() - began < 20


def test_p10_what_is_wrong_with_a_body_is_told_to_writers_only(closed: Closed) -> None:
    for content, type_ in ((b"{", "application/json"), (b"x", "text/plain"), (b"[" * 60_000, "application/json")):
        for key, status in ((None, 401), (closed.keys["reader"], 403)):
            headers = {"Content-Type": type_} | (keys.bearer(key) if key else {})
            assert closed.http.post("/users/", content=content, headers=headers).status_code == status


def test_p10_a_body_in_pieces_is_still_read(closed: Closed) -> None:
    body = b'{"first_name":"A","last_name":"B","email":"pieces@example.com"}'
    key = f"Authorization: Bearer {closed.keys['writer'].text}"
    pieces = head(key, "Connection: close", length=len(body)), body[:20], body[20:]
    assert [each.status for each in exchange(closed.service.port, *pieces, pause=0.1)] == [202]


# The OpenAPI document says it, too


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, its in document["paths"].items():
        for method, operation in its.items():
            yield method.upper(), path, operation


@pytest.mark.parametrize("auth", ["on", "off"])
def test_p10_the_document_names_the_roles_of_each_operation(tmp_path: Path, auth: Any) -> None:
    made = create_app(Settings(data_dir=tmp_path, auth=auth, _env_file=None))
    roles = {(method, route.path): route.role for route in ROUTES for method in route.methods or ()}
    document = made.openapi()
    for method, path, operation in operations(document):
        role = roles.pop((method, path))
        security = operation.get("security")
        if role == "public":
            assert not security
            continue
        optional: list[Any] = [{}] if auth == "off" else []
        assert security == [*optional, {"key": list(named(role))}]
        assert {"401", "403"} <= set(operation["responses"])
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    left = {path for _, path in roles if not path.startswith("/console")}
    assert left == {"/metrics", "/openapi.json", "/docs", "/docs/{name}", "/redoc"}


def test_p10_off_loopback_the_document_is_for_those_with_a_key(tmp_path: Path) -> None:
    made = create_app(Settings(data_dir=tmp_path, api_host="192.0.2.1", _env_file=None))
    assert made.state.access.closed

    async def ask() -> set[int]:
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return {(await client.get(path)).status_code for path in ("/docs", "/openapi.json", "/docs/start.js")}

    assert asyncio.run(ask()) == {401}


# Closed is closed


@pytest.mark.parametrize("module", [["api"], ["cli", "up"]])
def test_p10_what_would_let_nobody_in_does_not_start(files: Path, tmp_path: Path, module: list[str]) -> None:
    folder = shutil.copytree(files, tmp_path / "data")
    keys.revoke(settings := Settings(data_dir=folder, _env_file=None), keys.add(settings, "reader"))
    env = {"CQRS_DATA_DIR": str(folder), "CQRS_API_HOST": "0.0.0.0", "CQRS_API_PORT": str(free_port())}
    role = start(module, folder, env)
    assert role.wait(60) != 0
    said = folder.with_suffix(".log").read_text().splitlines()[-1]
    assert "requests need a key, and there is none" in said
    assert "cqrs keys add" in said
