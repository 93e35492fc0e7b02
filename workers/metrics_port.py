"""The port at which a worker shows its metrics. If others can reach it, scrapes need a key with the role `operator`."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from sqlalchemy.exc import DBAPIError

from shared.access.keys import key_of
from shared.database import engines
from shared.operations import key_table
from shared.operations.holders import Holders, holder_of, holders_of
from shared.settings import Settings
from shared.telemetry import metrics

LOOK_EVERY = 0.5
"""The least seconds between two reads of the table of keys, so that scrapes can't keep a worker busy with them."""

PATIENCE = 5.0
"""Seconds without a byte after which a client is left: it has a thread, and may not even have a key."""

MAX_THREADS = 100
"""Threads of the process beyond which further clients are left at once."""

CHALLENGE = 'Bearer realm="cqrs"'
"""What `WWW-Authenticate` says (RFC 6750, section 3)."""

Start = Callable[[str, list[tuple[str, str]]], object]

App = Callable[[dict[str, Any], Start], Iterable[bytes]]
"""A WSGI application, called in a thread for each request."""


def serve(settings: Settings) -> None:
    """Show the metrics at a port of this process, if the settings have one."""
    metrics.show_zeros()
    if not settings.metrics_port:
        return
    app: App = make_wsgi_app(metrics.registry())
    if settings.closed_at(settings.metrics_host):
        app = Guard(app, settings.event_store)
    nothing = CollectorRegistry()  # it answers from the first moment on, before `app` is in its place
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host, nothing)
    except OSError as error:
        logging.getLogger(__name__).warning("no metrics at port %d: %s", settings.metrics_port, error.strerror)
        return
    _bound(server)
    server.set_app(app)


def _bound(server: WSGIServer) -> None:
    """Bound the threads that clients have, and for how long, since each has one before it has shown a key."""
    server.RequestHandlerClass.timeout = PATIENCE  # type: ignore[attr-defined]
    server.verify_request = lambda *_: threading.active_count() < MAX_THREADS  # type: ignore[method-assign]
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # else each that is left has a traceback


class Guard:
    """A WSGI application around another, which only keys with the role `operator` reach. Takes no provider's tokens."""

    def __init__(self, app: App, event_store: str) -> None:
        """`event_store`: its URL."""
        self._app = app
        self._event_store = event_store
        self._lock = threading.Lock()
        self._looked_at = -math.inf
        self._holders: Holders | None = None

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request, or refuse it as the API would."""
        refused = self._refusal(environ.get("HTTP_AUTHORIZATION", ""))
        if refused is None:
            return self._app(environ, start)
        status, type_, challenge = refused
        headers = [("Content-Type", "application/problem+json"), ("WWW-Authenticate", challenge)]
        start(f"{status.value} {status.phrase}", headers if challenge else headers[:1])
        title = type_.replace("-", " ").capitalize()
        return [json.dumps({"type": f"/problems/{type_}", "title": title, "status": status.value}).encode()]

    def _refusal(self, authorization: str) -> tuple[HTTPStatus, str, str] | None:
        """The status, the problem's type and the text of `WWW-Authenticate`; None if the key is an operator's."""
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return HTTPStatus.UNAUTHORIZED, "unauthenticated", CHALLENGE
        text = text.strip()
        holders = self._look() if key_of(text) else {}
        if holders is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, "credentials-unavailable", ""
        holder = holder_of(text, holders)
        if holder is None:
            return HTTPStatus.UNAUTHORIZED, "invalid-credentials", f'{CHALLENGE}, error="invalid_token"'
        if "operator" not in holder.roles:
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="operator"'
            return HTTPStatus.FORBIDDEN, "missing-role", challenge
        return None

    def _look(self) -> Holders | None:
        """The holders of keys as of a moment ago; None if the table can't be read."""
        with self._lock:
            if time.monotonic() > self._looked_at + LOOK_EVERY:
                self._holders = _read(self._event_store)
                self._looked_at = time.monotonic()
            return self._holders


def _read(event_store: str) -> Holders | None:
    try:
        with engines.reading(event_store) as connection:
            return holders_of(key_table.all_keys(connection))
    except DBAPIError:
        return None
