"""Whatever is wrong, a browser that asks for something below /console gets a page."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from api.main import create_app
from shared.settings import Settings
from tests.support.service import Service

EVIL = {"Origin": "http://evil.example"}


def assert_page(answer: httpx.Response, status: int, words: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert words in answer.text
    assert 'href="/console"' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "words"),
    [
        ("GET", "/console/nowhere", {}, 404, "There is nothing at /console/nowhere."),
        ("GET", "/console/<script>", {}, 404, "There is nothing at /console/&lt;script&gt;."),
        ("POST", "/console/no/where", {}, 404, "There is nothing at /console/no/where."),
        ("GET", "/console/static/nothing.js", {}, 404, "There is nothing at"),
        ("DELETE", "/console/log", {}, 405, "DELETE is not among GET, HEAD."),
        ("GET", "/console/sign-out", {}, 405, "GET is not among POST."),
        ("POST", "/console/sign-out", {"content": b" " * (64 * 1024 + 1)}, 413, "A body is 65536 bytes at most."),
        ("POST", "/console/sign-out", {"headers": EVIL}, 403, "A page of another origin may not"),
        ("GET", "/console", {"headers": {"Host": "evil.example"}}, 421, "Requests name this machine as their host"),
        ("GET", "/console", {"headers": {"Content-Encoding": "gzip"}}, 415, "A body has no Content-Encoding."),
    ],
)
def test_what_no_page_answers_is_a_page(
    shared_service: Service, method: str, path: str, more: Mapping[str, Any], status: int, words: str
) -> None:
    answer = shared_service.http.request(method, path, **more)
    assert_page(answer, status, words)
    if status == 405:
        assert answer.headers["allow"]
    elsewhere = shared_service.http.request(method, path.replace("/console", "/consoles"), **more)
    assert elsewhere.headers["content-type"] == "application/problem+json"


def test_a_head_that_is_refused_unread_has_nothing_of_the_one_before_it(shared_service: Service) -> None:
    with httpx.Client(base_url=shared_service.url) as http:
        assert http.get("/console").status_code == 200
        refused = http.get("/livez", headers={"X-Long": "x" * 70_000})
    assert (refused.status_code, refused.headers["content-type"]) == (431, "application/problem+json")


def test_a_bug_is_a_page() -> None:
    app = create_app(Settings(_env_file=None))  # it has no service: it was never started
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
            return await http.get(path)

    assert_page(asyncio.run(ask("/console")), 500, "This is a bug. The log has its traceback.")
    assert asyncio.run(ask("/users/")).headers["content-type"] == "application/problem+json"
