"""Signing in and out, and the files that pages load."""

from functools import cache
from typing import Annotated

from fastapi import Query, Request, Response

from api.console.pages import HERE, Pages, back, form_of, guard_of, page, principal_of, service_of
from api.http.problems import Problem, not_found
from api.http.routing import Router
from shared.stores import sessions

router = Pages()
files = Router(in_schema=False)

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

UNCHANGING = {"Cache-Control": "max-age=31536000, immutable", "Content-Security-Policy": "default-src 'none'"}
"""Headers of files: their addresses change when they do."""

To = Annotated[str, Query(description="The page to go on to")]


@router.get("/console/sign-in", role="public", title="Sign in")
async def show_sign_in(request: Request, to: To = "/console") -> Response:
    """Where a key is asked for."""
    return _form(request, to)


@router.post("/console/sign-in", role="public", title="Sign in")
async def sign_in(request: Request) -> Response:
    """Begin a session."""
    guard = guard_of(request)
    service = service_of(request)
    form = form_of(request)
    to = form.get("to", "/console")
    if not guard.closed:
        return back(to)
    guard.count(request)
    try:
        token = await service.sessions.begin(form.get("key", "").strip())
    except Problem as problem:
        return _form(request, to, wrong=problem.document["detail"], status=problem.status_code)
    response = back(to)
    response.set_cookie(guard.cookie, token, path="/", secure=guard.needs_tls, httponly=True, samesite="strict")
    return response


@router.post("/console/sign-out", role="any", title="Sign out")
async def sign_out(request: Request) -> Response:
    """End the session, or with the field `all` every session that began with the same key."""
    guard = guard_of(request)
    service = service_of(request)
    if token := request.cookies.get(guard.cookie):
        await service.sessions.end(
            principal_of(request).name, None if form_of(request).get("all") else sessions.digest_of(token)
        )
    response = back("/console/sign-in")
    response.delete_cookie(guard.cookie, path="/", secure=guard.needs_tls, httponly=True)
    return response


@files.get("/console/static/{name}", role="public")
async def show_file(request: Request, name: str, v: str = "") -> Response:
    """A file that pages load; `v` is the version that they ask for."""
    content = _files().get(name)
    if content is None:
        raise not_found(request.url.path)
    return Response(content, headers=UNCHANGING, media_type=TYPES[f".{name.rpartition('.')[2]}"])


def _form(request: Request, to: str, *, wrong: str = "", status: int = 200) -> Response:
    return page(request, "sign_in.html", status=status, to=to, wrong=wrong, needs_tls=guard_of(request).needs_tls)


@cache
def _files() -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in (HERE / "static").iterdir() if each.suffix in TYPES}
