"""How requests are read, where a live service can't show it."""

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Cookie, Depends, Header, Query, Request, Response
from starlette.applications import Starlette

from api.http.access import Access
from api.http.problems import MAX_ERRORS
from api.http.routing import Router
from api.main import create_app
from api.serving.envelope import Envelope
from shared.settings import Settings


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_bug(tmp_path: Any) -> None:
    come = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(come)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    where = {"path": "/users/", "raw_path": b"/users/", "root_path": "", "query_string": b"", "scheme": "http"}
    scope = {"type": "http", "method": "POST", "headers": headers, "http_version": "1.1", **where}
    asyncio.run(create_app(Settings(data_dir=tmp_path))(scope, receive, send))
    assert sent[0]["status"] == 400


def test_lists_defaults_and_headers_in_several_lines_are_read() -> None:
    router = Router()
    seen: list[Any] = []

    @router.get("/{number}", role="public")
    async def show(
        request: Request,
        number: int,
        kind: Annotated[list[str] | None, Query()] = None,
        limit: int = 7,
        prefer: Annotated[str | None, Header()] = None,
        x_other: Annotated[str, Header(alias="X-Other")] = "none",
    ) -> Response:
        seen.append((number, kind, limit, prefer, x_other))
        return Response()

    async def ask() -> None:
        starlette = Starlette(routes=router.routes)
        starlette.state.access = Access(Settings(_env_file=None))
        app = httpx.ASGITransport(Envelope(starlette))
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            await client.get("/1")
            headers = [("Prefer", "wait=1"), ("prefer", "respond-async"), ("X-Other", "x")]
            await client.get("/2?kind=a&kind=b&limit=3", headers=headers)

    asyncio.run(ask())
    assert seen == [(1, None, 7, None, "none"), (2, ["a", "b"], 3, "wait=1, respond-async", "x")]


def test_a_route_that_says_no_role_is_refused_at_the_start(tmp_path: Any) -> None:
    async def show(request: Request) -> Response:
        return Response()

    with pytest.raises(TypeError, match="role"):
        Router().get("/")(show)  # type: ignore[call-arg]
    app = create_app(Settings(data_dir=tmp_path))
    app.get("/plain")(show)
    with pytest.raises(TypeError, match=r"plain.*role"):
        app.build_middleware_stack()


@pytest.mark.parametrize("needs", [Depends(lambda: 1), Cookie()])
def test_a_signature_that_would_not_be_read_is_refused_at_the_start(needs: Any) -> None:
    async def show(request: Request, more: Annotated[int, needs]) -> Response:
        return Response()

    with pytest.raises(TypeError, match="show"):
        Router().get("/", role="public")(show)


def test_a_path_or_a_query_with_a_character_that_no_store_holds_is_refused(tmp_path: Any) -> None:
    async def ask() -> list[httpx.Response]:
        app = httpx.ASGITransport(create_app(Settings(data_dir=tmp_path, _env_file=None)))
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            return [await client.get(path) for path in ("/commands/%00", "/events/?stream=%00", "/events/?type=a%00")]

    answers = asyncio.run(ask())
    assert [(answer.status_code, answer.json()["errors"][0]["in"]) for answer in answers] == [
        (422, "path"), (422, "query"), (422, "query"),
    ]  # fmt: skip


def test_of_a_query_with_ten_thousand_parameters_none_is_looked_at(tmp_path: Any) -> None:
    async def ask(path: str) -> Any:
        app = httpx.ASGITransport(create_app(Settings(data_dir=tmp_path)))
        async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as client:
            answer = await client.get(path)
            return answer.status_code, answer.json()["errors"]

    told = {"in": "query", "field": "", "detail": "Has more than 100 parameters"}
    assert asyncio.run(ask("/users/?" + "&".join(map(str, range(10_000))))) == (422, [told])
    status, errors = asyncio.run(ask("/users/?" + "&".join(map(str, range(100)))))
    assert (status, len(errors), errors[0]["field"]) == (422, MAX_ERRORS, "0")
