"""The API, an ASGI app; `python -m api` serves it."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from socket import gethostname
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp, Scope

from api.console import pages, screens
from api.domain import stats, user_console, users, users_console
from api.http import problems
from api.http.access import Access
from api.http.documentation import SCHEMES
from api.http.routing import Route, Router
from api.reading.store import newer_event, store_unavailable
from api.routes import audit, commands, events, health, home, keys, metrics, projections
from api.routes.submit import Resource
from api.service import Service
from api.serving.door import Door
from api.serving.envelope import Envelope
from api.serving.stopping import calling_on_stop
from shared import tuning
from shared.errors import refusal
from shared.errors.reasons import reason_of
from shared.messages import UnknownShape
from shared.operations.key_table import NOBODY_COMES_IN
from shared.schemas import check
from shared.settings import Settings, is_loopback
from shared.telemetry import logs, tracing

SWITCH_INTERVAL = 0.0005
"""Seconds after which a busy event loop lets the thread go on that commits: by default 5 ms, several times a batch."""

ROUTERS: list[Router] = [
    # in the order of the page at /docs
    users.router,
    stats.router,
    commands.router,
    events.router,
    keys.router,
    projections.router,
    audit.router,
    health.router,
    metrics.router,
    home.router,
    *screens.routers(users_console.router, user_console.router),
]

RESOURCES: list[Resource[Any]] = [
    # whose states the console shows beside events
    users.USER
]

ROLE = f"api@{gethostname()}"

log = logs.logger()


class App(FastAPI):
    """FastAPI in its envelope."""

    def build_middleware_stack(self) -> ASGIApp:
        """Around it all, since what is added as middleware doesn't see the answer to a bug.

        Raises TypeError for a route of FastAPI's own, which would ask nobody for a role.
        """
        for route in self.routes:
            if not isinstance(route, Route):
                raise TypeError(f"{route} is no route of api.http.routing.Router, which says role=")
        return Envelope(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        """The document, with the credentials that routes need; where the API is open, they may be left out."""
        document = super().openapi()
        document["components"]["securitySchemes"] = SCHEMES
        if not self.state.access.closed:
            for operation in (its for path in document["paths"].values() for its in path.values()):
                if operation.get("security", [{}])[:1] != [{}]:
                    operation["security"].insert(0, {})
        return document


def create_app(settings: Settings) -> FastAPI:
    """The API on the stores that the settings name; nothing is opened before it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.set_up(ROLE, settings)
        with _in_one_line():
            tracing.set_up(ROLE)
            check.check(settings)
            app.state.service = service = Service(settings)
            service.watch_erasures()
            if settings.closed:
                await _let_in(app.state.access, service)
            elif not is_loopback(settings.api_host):
                log.warning("anybody who reaches the API may do anything, by CQRS_AUTH=off", host=settings.api_host)
            tuning.collect_less()
            sys.setswitchinterval(SWITCH_INTERVAL)
            with calling_on_stop(service.streams.stop):
                yield
            await service.close()
            tracing.stop()

    app = App(
        title="Users, event-sourced",
        summary="Commands are accepted at once, handled in order, and visible milliseconds later.",
        description="HEAD is answered wherever GET is. A query parameter that isn't listed is refused by its name.",
        version="0.1.0",
        lifespan=lifespan,
        openapi_url=None,  # ours are in api.routes.home
        redirect_slashes=False,
        telemetry=_telemetry(),
        routes=[route for router in ROUTERS for route in router.routes],
    )
    app.state.access = Access(settings)
    app.state.folds = {each.category: each.fold for each in RESOURCES}
    app.add_middleware(Door, settings=settings, answer=pages.answer)
    problems.install(app, {DBAPIError: store_unavailable, UnknownShape: newer_event}, pages.answer)
    return app


async def _let_in(access: Access, service: Service) -> None:
    """Have keys and tokens looked at. Ends the process if the API would let nobody in."""
    credentials = access.credentials = service.credentials
    access.sessions = service.sessions
    await credentials.look()
    if credentials.lets_nobody_in:
        refusal.end(NOBODY_COMES_IN)
    service.watch_credentials()


@contextmanager
def _in_one_line() -> Iterator[None]:
    """A failure at the start or at the end, in a line of ours: the server would show its message, whatever is in it."""
    try:
        yield
    except Exception as error:
        log.critical("ended by a bug", exc_info=error)
        refusal.end(reason_of(error))


def _telemetry() -> TelemetryConfig:
    """FastAPI makes the span of a request. To ask for each what of this is set up costs it 4 % of a command."""
    asked = tracing.asked_for()
    return {"tracing": asked, "metrics": False, "logs": False, "auto_configure": False, "exclude": _is_probe}


def _is_probe(scope: Scope) -> bool:
    return scope["path"] in {"/livez", "/readyz", "/metrics"}


app = create_app(refusal.settings())
