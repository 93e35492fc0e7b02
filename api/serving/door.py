"""Requests that may come in: they name this API as their host, and no page of another origin made them."""

import re
from collections.abc import Awaitable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import Answer, Problem, as_json
from shared.settings import Settings, is_loopback

HEADERS = {b"host", b"origin", b"content-encoding", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"}

LOCAL_NAMES = "localhost", "127.0.0.1", "[::1]"

AUTHORITY = re.compile(r"([^:\[\]]+|\[[^\[\]]+\])(?::(\d+))?")

NAVIGATION = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}

MISDIRECTED = Problem(
    "misdirected-request", 421, "Requests name this machine as their host, or what CQRS_ALLOWED_HOSTS names."
)
CROSS_ORIGIN = Problem("cross-origin", 403, "A page of another origin may not make a browser send this.")
ENCODED = Problem(
    "unsupported-media-type", 415, "A body has no Content-Encoding.", headers={"Accept-Encoding": "identity"}
)


class Door:
    """A middleware. An API that listens on more than loopback checks hosts and origins only if hosts are named."""

    def __init__(self, app: ASGIApp, settings: Settings, answer: Answer = as_json) -> None:
        self._app = app
        self._answer = answer
        named = settings.allowed_hosts.split(",") if settings.allowed_hosts else []
        self._checks = "*" not in named and bool(named or is_loopback(settings.api_host))
        self._named = set(named)
        own = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host.lower()
        self._here = {*LOCAL_NAMES, own}
        self._is_us = lru_cache(256)(self._names_us)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        problem = self._objection(scope) if scope["type"] == "http" else None
        return self._answer(scope, problem)(scope, receive, send) if problem else self._app(scope, receive, send)

    def _objection(self, scope: Scope) -> Problem | None:
        given = {name: value for name, value in scope["headers"] if name in HEADERS}
        if given.get(b"content-encoding", b"identity").lower() != b"identity":
            return ENCODED
        if not self._checks:
            return None
        host = given.get(b"host")
        if host is not None and not self._is_us(host, *scope["server"]):  # HTTP/1.0 may have none
            return MISDIRECTED
        return CROSS_ORIGIN if len(given) > 1 and self._is_elsewhere(scope["method"], given, host) else None

    def _names_us(self, host: bytes, address: str, port: int | None) -> bool:
        """Whether it is a name of ours, or the address that the connection came to: rebinding DNS needs a name."""
        authority = host.decode("latin-1").lower()
        its = AUTHORITY.fullmatch(authority)
        if not its:
            return False
        name, number = its.groups()
        own_port = number in {None, str(port)}
        return not self._named.isdisjoint({authority, name}) or (name in {*self._here, address} and own_port)

    def _is_elsewhere(self, method: str, given: dict[bytes, bytes], host: bytes | None) -> bool:
        """Whether a browser says that the request comes from a page that isn't ours.

        A link to us may be followed: the page that has it can't read what it leads to, and a GET changes nothing.
        """
        if b"origin" in given:
            authority = given[b"origin"].decode("latin-1").lower().rpartition("://")[2]
            own = host is not None and authority == host.decode("latin-1").lower()
            return not own and authority not in self._named
        if given.get(b"sec-fetch-site", b"none") in {b"none", b"same-origin"}:
            return False
        return method not in {"GET", "HEAD"} or not NAVIGATION.items() <= given.items()
