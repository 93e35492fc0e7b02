"""What a page is made of: its route, its template, and the checks of what a browser sends."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import DBAPIError
from starlette.types import Scope

from api.console import shapes
from api.http.access import Access, Roles, may
from api.http.clients import is_known
from api.http.problems import Problem
from api.http.routing import Route, Router, read_whole
from api.reading.store import newer_event, store_unavailable
from api.service import Service
from shared.access.principals import NOBODY, Principal
from shared.access.roles import Role
from shared.messages import UnknownShape

HERE = Path(__file__).parent

FOLDERS = HERE / "templates", HERE.parent / "domain" / "templates"
"""Where templates stand: ours, and a team's."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # without any, a form would come with the origin `null`
    "Cache-Control": "no-store",
}

SIGN_IN = "/console/sign-in"

Finds = Callable[[str], str | None]
"""Makes of what somebody searches for the address of a page that may show it; None if it is nothing for this page."""

FORM = "application/x-www-form-urlencoded"

TOKEN = "token"  # noqa: S105 a field's name
"""The field of a form that only our pages can fill in."""

OWN = {"done", "waiting", "revealed"}
"""Parameters of a query that any page takes."""

OURS = re.compile(r"/console(?=[/?]|$)[!-~]*\Z")
"""Paths that one may be led to: none of another site."""

BELOW = re.compile("/console(/|$)")
"""Paths whose answers are pages, whatever is wrong."""

ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)


class Page(Route):
    """A route that answers people: its problems are pages, too, and what a form says is checked before its endpoint."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Awaitable[Response]],
        *,
        role: Roles,
        title: str,
        section: str = "",
        menu: bool = False,
        finds: Finds | None = None,
        **options: Any,
    ) -> None:
        """`title`: what the page is called; `section`: the title of the menu's page to which it belongs.

        `menu`: whether it is that page itself; `finds`: what the search leads to it.
        """
        super().__init__(path, endpoint, role=role, **options)
        self.title = title
        self.section = section
        self.in_menu = menu
        self.finds = finds

    def is_open(self, roles: frozenset[Role]) -> bool:
        """Whether it is shown to who has these roles."""
        needed = self.role
        return needed in {"any", "public"} or not roles.isdisjoint(needed if isinstance(needed, tuple) else {needed})

    async def respond(self, request: Request, guard: Access) -> Response:
        """The page, or a page with what is wrong."""
        if request.scope["query_string"]:
            _set_own_parameters_aside(request)
        try:
            await guard.admit(request, self.role, by_session=True)
            if request.method == "POST":
                await _read_form(request, guard)
            response = await self.answer(request, guard)
            guard.check_again(request)
        except Problem as problem:
            response = _shown(request, problem)
        except DBAPIError as error:
            response = _shown(request, store_unavailable(error))
        except UnknownShape as error:
            response = _shown(request, newer_event(error))
        return _with_headers(response)


class Pages(Router):
    """Collects the pages of a section; each says its `role`, its `title`, and whether it is in the `menu`."""

    kind = Page

    def __init__(self, *, section: str = "") -> None:
        """`section`: the title of the menu's page to which they belong, if to any."""
        super().__init__(in_schema=False, section=section)


def answer(scope: Scope, problem: Problem) -> Response:
    """The answer to a request that came to no page: a page all the same, if it is for the console."""
    return _with_headers(_shown(Request(scope), problem)) if BELOW.match(scope["path"]) else problem.response()


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """The page that a template makes of values. All of them are text, whatever is in them."""
    text = _environment().get_template(template).render(**_common(request), **values)
    return Response(text, status, media_type="text/html")


def fragment(request: Request, template: str, **values: Any) -> str:
    """A part of a page, for a stream that renews it."""
    return _environment().get_template(template).render(**_common(request), **values)


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent; of one that came twice, the last."""
    fields: Mapping[str, str] = request.scope["form"]
    return fields


def service_of(request: Request) -> Service:
    """The service behind the routes."""
    service: Service = request.app.state.service
    return service


def guard_of(request: Request) -> Access:
    """The check that every request passes."""
    guard: Access = request.app.state.access
    return guard


def principal_of(request: Request) -> Principal:
    """The principal of a request that was admitted."""
    principal: Principal = request.scope["principal"]
    return principal


def back(path: str, *, done: str | None = None, waiting: str | None = None, **more: str) -> Response:
    """Leads to a page of ours, which shows that a command was done, or waits to be."""
    its = {"done": done, "waiting": waiting, **more}
    query = "&".join(f"{name}={quote(value)}" for name, value in its.items() if value)
    there = path if OURS.match(path) else "/console"
    joint = "&" if "?" in there else "?"
    return Response(status_code=303, headers={"Location": f"{there}{joint if query else ''}{query}"})


def form_token(request: Request) -> str:
    """The token of a form on a page that this request is answered with; "" if none can be made now."""
    service = service_of(request)
    try:
        return service.token("form", _who(request))
    except DBAPIError:
        return ""


def version(name: str) -> str:
    """A few digits that change when a file of `static` does."""
    return _versions()[name]


def _who(request: Request) -> str:
    """What a token counts for: the session, or everybody where the API is open."""
    guard = guard_of(request)
    return request.cookies.get(guard.cookie, "") if guard.closed else "open"


def _set_own_parameters_aside(request: Request) -> None:
    pairs = parse_qs(request.url.query, keep_blank_values=True)
    request.scope["own"] = {name: pairs[name][-1] for name in OWN & pairs.keys()}
    left = [each for each in request.url.query.split("&") if each.partition("=")[0] not in OWN]
    request.scope["query_string"] = "&".join(left).encode()
    del request._url  # noqa: SLF001 it is made anew


async def _read_form(request: Request, guard: Access) -> None:
    """Put the form's fields into the scope. Raises Problem unless a page of ours had it sent."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM:
        raise Problem("unsupported-media-type", 415, f"A form is sent as {FORM}.")
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    if urlsplit(origin).netloc.lower() != host.lower():
        raise Problem("cross-origin", 403, "This was not sent by a page of this service.")
    try:
        fields = parse_qs((await read_whole(request)).decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Problem("malformed-form", 400, "This is no form that the console has.") from None
    request.scope["form"] = {name: values[-1] for name, values in fields.items()}
    service = service_of(request)
    if not shapes.same(form_of(request).get(TOKEN, ""), service.token("form", _who(request))):
        raise Problem("stale-form", 403, "The page is of another session. Load it anew and try again.")


def _with_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _shown(request: Request, problem: Problem) -> Response:
    """The page for a problem. Who isn't signed in is led to where one signs in."""
    if problem.status_code == 401 and request.method == "GET" and request.url.path != SIGN_IN:
        to = quote(f"{request.url.path}{f'?{request.url.query}' if request.url.query else ''}", safe="")
        response = Response(status_code=303, headers={"Location": f"{SIGN_IN}?to={to}"})
    else:
        is_sent = request.method == "POST" and problem.status_code not in {401, 403}
        sent_from = request.url.path.rpartition("/")[0] if is_sent else ""
        response = page(
            request, "problem.html", status=problem.status_code, problem=problem.document, sent_from=sent_from
        )
    for name, value in (problem.headers or {}).items():
        if name.lower() in {"accept-encoding", "allow", "retry-after", "www-authenticate"}:
            response.headers[name] = value
    return response


def _common(request: Request) -> dict[str, Any]:
    """What every template has. Whoever came to no page isn't known."""
    principal: Principal = request.scope.get("principal", NOBODY)
    route = request.scope.get("route")
    own = request.scope.get("own", {})
    return {
        "title": route.title if isinstance(route, Page) else "Console",
        "section": route.section if isinstance(route, Page) else "",
        "here": request.scope["path"],
        "menu": _menu(request),
        "principal": principal.name,
        "signed_in": is_known(principal),
        "may": lambda role: may(request, role),
        "token": lambda: form_token(request),
        "done": _id(own.get("done")),
        "waiting": _id(own.get("waiting")),
        "version": version,
    }


def _id(text: str | None) -> str | None:
    return text if text and ID.fullmatch(text) else None


def _menu(request: Request) -> list[tuple[str, str, bool]]:
    """The path and the title of each page in the menu, and whether it is open to the principal, as far as is known."""
    principal: Principal | None = request.scope.get("principal")
    routes = request.app.routes if "app" in request.scope else []
    pages = [each for each in routes if isinstance(each, Page) and each.in_menu]
    return [(each.path, each.title, not principal or each.is_open(principal.roles)) for each in pages]


@cache
def _versions() -> dict[str, str]:
    return {each.name: sha256(each.read_bytes()).hexdigest()[:12] for each in (HERE / "static").iterdir()}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= shapes.FILTERS
    return environment
