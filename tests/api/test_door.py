"""An API on loopback answers those who name it, and no page of another origin."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from api.serving.door import Door
from shared.settings import Settings
from tests.support.raw import LAST, exchange, request
from tests.support.service import api

EVIL = "http://evil.example"

LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

PATHS = [
    "/livez",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/users/",
    "/events/stream",
    "/commands/x",
    "/nowhere",
]


@pytest.fixture(scope="module")
def port(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of an API on loopback."""
    folder = tmp_path_factory.mktemp("door") / "data"
    shutil.copytree(files, folder)
    with api(folder) as http:
        yield http.base_url.port or 0


def ask(settings: Settings, method: str = "GET", server: str = "127.0.0.1", **headers: str) -> int:
    """The status with which a request comes back; 204 if it was let in. `sec_fetch_site` is Sec-Fetch-Site."""
    scope = {
        "type": "http",
        "method": method,
        "server": (server, 8000),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await Door(Response(status_code=204), settings)(scope, receive, send)

    asyncio.run(run())
    return int(sent[0]["status"])


def settings(**given: Any) -> Settings:
    return Settings(**given, _env_file=None)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_of_an_api_on_loopback_answers_to_a_name_that_was_rebound(port: int, path: str) -> None:
    for host in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}", "127.0.0.1.evil.example"):
        first, _ = exchange(port, request(f"GET {path}", host=host) + LAST)
        assert (first.status, first.json()["type"]) == (421, "/problems/misdirected-request")
        assert "x-request-id" in first.headers


@pytest.mark.parametrize("path", PATHS)
def test_no_page_of_another_origin_reads_or_changes_anything(port: int, path: str) -> None:
    for headers in ([f"Origin: {EVIL}"], ["Origin: null"], ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"]):
        for method in ("GET", "POST", "OPTIONS"):
            first, _ = exchange(port, request(f"{method} {path}", *headers, host=f"localhost:{port}") + LAST)
            assert (first.status, first.json()["type"]) == (403, "/problems/cross-origin")


def test_an_api_answers_to_its_own_names(port: int) -> None:
    for name in ("localhost", "127.0.0.1", "[::1]", "LocalHost"):
        for host in (name, f"{name}:{port}"):
            own = f"Origin: http://{host}", "Sec-Fetch-Site: same-origin"
            pair = request("GET /livez", host=host) + request("POST /users/", *own, host=host)
            assert [each.status for each in exchange(port, pair + LAST)] == [200, 422, 200]
        assert exchange(port, request("GET /livez", host=f"{name}:1") + LAST)[0].status == 421


def test_without_a_host_http_1_0_comes_from_a_tool(port: int) -> None:
    assert exchange(port, b"GET /livez HTTP/1.0\r\n\r\n")[0].status == 200


@pytest.mark.parametrize("host", ["", "localhost:", "localhost:x", "[::1", "::1", "localhost:8000:8000", "0.0.0.0"])
def test_what_is_no_name_of_this_api_is_not_answered(host: str) -> None:
    assert ask(settings(), host=host) == 421


def test_the_name_that_it_listens_on_is_its_own() -> None:
    for own, host in {"127.0.0.2": "127.0.0.2:8000", "::1": "[::1]:8000", "localhost": "localhost"}.items():
        assert ask(settings(api_host=own), host=host) == 204
        assert ask(settings(api_host=own), host="192.0.2.1") == 421


def test_the_address_that_a_connection_came_to_is_its_own() -> None:
    """So Prometheus may ask containers by their addresses; a page that rebinds DNS comes under a name."""
    named = settings(api_host="0.0.0.0", allowed_hosts="api.example")
    assert ask(named, host="192.0.2.7:8000", server="192.0.2.7") == 204
    for host in ("192.0.2.7:9000", "192.0.2.8:8000", "evil.example:8000"):
        assert ask(named, host=host, server="192.0.2.7") == 421


def test_an_api_on_more_than_loopback_checks_nothing_unless_hosts_are_named() -> None:
    for own in ("0.0.0.0", "::", "192.0.2.1", "api.example"):
        assert ask(settings(api_host=own), host="any.example", origin=EVIL) == 204
        named = settings(api_host=own, allowed_hosts="api.example")
        assert ask(named, host="any.example") == 421
        assert ask(named, host="localhost:8000") == 204


def test_hosts_that_are_named_are_answered_and_pages_of_theirs() -> None:
    named = settings(allowed_hosts="api.example, Other.example:8443,[2001:db8::1]")
    for host in ("api.example", "API.example:9", "other.example:8443", "[2001:db8::1]:80", "localhost"):
        assert ask(named, host=host) == 204
    for host in ("other.example", "other.example:8000", "x.api.example"):
        assert ask(named, host=host) == 421
    for origin in ("https://api.example", "https://other.example:8443", "http://localhost:8000"):
        assert ask(named, "POST", host="localhost:8000", origin=origin, sec_fetch_site="cross-site") == 204
    for origin in ("https://api.example:9", "https://other.example", "http://localhost:3000", "http://localhost"):
        assert ask(named, "POST", host="localhost:8000", origin=origin) == 403


def test_a_star_opens_it_to_all() -> None:
    assert ask(settings(allowed_hosts="*"), "POST", host="any.example", origin=EVIL) == 204


@pytest.mark.parametrize("value", ["https://api.example", "api.example/", "a b", "*.example", "host:port", "::1"])
def test_what_names_no_host_is_refused_as_a_setting(value: str) -> None:
    with pytest.raises(ValueError, match="names with commas between"):
        settings(allowed_hosts=value)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_may_be_followed_and_nothing_else_asked_for(site: str) -> None:
    link = {name.lower().replace("-", "_"): value for name, value in (LINK | {"Sec-Fetch-Site": site}).items()}
    assert ask(settings(), host="localhost", **link) == 204
    assert ask(settings(), "POST", host="localhost", **link) == 403
    for other in ({"sec_fetch_dest": "iframe"}, {"sec_fetch_mode": "no-cors"}, {"origin": "null"}):
        assert ask(settings(), host="localhost", **(link | other)) == 403
    assert ask(settings(), host="evil.example", **link) == 421


def test_what_a_browser_does_by_itself_or_for_a_page_of_ours_is_let_in() -> None:
    for site in ("none", "same-origin"):
        assert ask(settings(), "POST", host="localhost", sec_fetch_site=site) == 204
