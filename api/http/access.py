"""The check on each request, before its body is read: who sends it, and whether their roles allow it."""

import time
from typing import Literal, Protocol

from fastapi import Request
from starlette.types import Scope

from api.http.clients import Rates, address_of, client_of, is_known
from api.http.problems import Problem, too_many, unavailable
from api.http.recent import MOMENT, Recent
from shared.access.principals import LOCAL, NOBODY, Principal
from shared.access.roles import Role
from shared.settings import Settings, is_loopback
from shared.telemetry.refused import Refused

Roles = Role | tuple[Role, ...] | Literal["any", "public", "docs"]
"""What a route needs: a role; one of several; `any` role; no key (`public`); `docs`: no key on loopback, else any."""

SCHEME = b"bearer "

SESSION = "cqrs-session"

DEFAULT_RATES = {"key": 1000, "address": 100}
"""Requests a second of a key, and of an address without one, where the API is closed."""

CHALLENGE = 'Bearer realm="cqrs"'
"""What `WWW-Authenticate` says (RFC 6750, section 3)."""


class Credentials(Protocol):
    """The check of keys and tokens, as the API gives it: `api.access.credentials.Credentials`."""

    async def principal(self, token: str) -> Principal:
        """The principal whose key or token this is. Raises Problem: 401 if nobody's, 503 if it can't be checked."""

    def counts(self, principal: Principal) -> bool:
        """Whether a principal that was let in earlier would be let in now."""


class Sessions(Protocol):
    """The check of sessions of people who signed in to the console: `api.access.sessions.Sessions`."""

    async def principal(self, token: str) -> Principal:
        """The principal whose session this is. Raises Problem: 401 if it is nobody's, 503 if it can't be checked."""


class Access:
    """The check that all requests of an API pass. In an open API every request is LOCAL's.

    A request takes from the rate of its key or token; without one that is valid, from the rate of its address. Public
    routes are answered at any rate, so that health checks work from a busy address, too; a key or token that is sent
    with them takes from the address's rate, and is not looked at when nothing of that is left.
    """

    def __init__(self, settings: Settings) -> None:
        self.closed = settings.closed
        self._on_loopback = is_loopback(settings.api_host)
        self._by_key = self._rates("key", settings.max_rate_per_key)
        self._by_address = self._rates("address", settings.max_rate_per_address)
        self._refused = Refused()
        self._recent = Recent()
        self.credentials: Credentials | None = None
        self.sessions: Sessions | None = None
        """Both are set when the API starts."""
        self.needs_tls = not self._on_loopback
        self.cookie = f"__Host-{SESSION}" if self.needs_tls else SESSION
        """The cookie of a session. Browsers take the longer name only over TLS."""

    async def admit(self, request: Request, roles: Roles, *, by_session: bool = False) -> None:
        """Put the principal into the request's scope and metadata. Raises Problem if the request may not be made.

        `by_session`: a browser may send the cookie of a session in the place of a key. It must not change anything
        then, unless the caller sees that it was a page of ours that had it sent.
        """
        by_session = by_session or roles == "docs"
        if roles == "docs":
            roles = "public" if self._on_loopback else "any"
        session = request.cookies.get(self.cookie, "") if by_session and self.closed else ""
        try:
            principal = await self._principal(request.scope, roles, session) if self.closed else LOCAL
            _identify(request.scope, principal)
            if roles != "public":
                self._take(request.scope, principal)
                _check(principal, roles)
        except Problem as problem:
            self._refused.count(problem.name, client_of(request))
            raise

    def check_again(self, request: Request) -> None:
        """Raises Problem if a key or token ended while its request waited for more than a moment."""
        if not self.closed or time.monotonic() < request.scope["admitted_at"] + MOMENT:
            return
        if not self.still_admits(request):
            problem = invalid_credentials("The key or token is no longer accepted")
            self._refused.count(problem.name, client_of(request))
            raise problem

    def still_admits(self, request: Request) -> bool:
        """Whether the key or token of a request that was admitted would be taken now."""
        return self.credentials is None or self.credentials.counts(request.scope["principal"])

    async def is_signed_in(self, request: Request) -> bool:
        """Whether the session that a request came with goes on, if it came with one. Raises a store's error."""
        session = request.cookies.get(self.cookie, "")
        if not self.closed or not session or self.sessions is None:
            return True
        try:
            await self.sessions.principal(session)
        except Problem as problem:
            return problem.status_code != 401
        return True

    def count(self, request: Request) -> None:
        """Count a request that brings its key in its body for its address. Raises Problem if the rate is used up."""
        self._take(request.scope, NOBODY)

    async def _principal(self, scope: Scope, roles: Roles, session: str) -> Principal:
        """The principal. Raises Problem if it is nobody and the route isn't public."""
        scope["admitted_at"] = now = time.monotonic()
        if roles == "public" and not self._looks(scope, session):
            return NOBODY
        try:
            if session:
                return await self._signed_in(session)
            authorization = _authorization(scope)
            return self._recent.find(authorization, now) or await self._whose(authorization)
        except Problem as problem:
            if roles == "public":
                return NOBODY
            _identify(scope, NOBODY)
            if problem.status_code == 401:
                self._take(scope, NOBODY)
            raise

    async def _signed_in(self, session: str) -> Principal:
        """The principal of a session. Raises Problem."""
        if self.sessions is None:
            raise unavailable("credentials-unavailable", "The API is starting.")
        return await self.sessions.principal(session)

    async def _whose(self, authorization: bytes) -> Principal:
        """The principal, by a check of the key or token. Raises Problem."""
        token = _token(authorization)
        if self.credentials is None:
            raise unavailable("credentials-unavailable", "The API is starting.")
        principal = await self.credentials.principal(token)
        self._recent.add(authorization, principal)
        return principal

    def _looks(self, scope: Scope, session: str) -> bool:
        """Whether credentials are looked at on a public route: there are some, and the address has its rate left."""
        if not session and not any(name == b"authorization" for name, _ in scope["headers"]):
            return False
        return self._by_address is None or self._by_address.take(address_of(scope)) >= 0

    def _take(self, scope: Scope, principal: Principal) -> None:
        """Count the request. Raises Problem if the client's rate is used up.

        What is left is told once it is less than half: to tell it each time would cost an answer 1.2 µs.
        """
        known = is_known(principal)
        rates = self._by_key if known else self._by_address
        if rates is None:
            return
        left = rates.take(principal.name if known else address_of(scope))
        if rates.is_low(left):
            scope["rate"] = rates.fields(left)
        if left < 0:
            raise too_many("too-many-requests", f"Of {rates.per_second} requests a second none is left.")

    def _rates(self, name: str, per_second: int | None) -> Rates | None:
        if per_second is None:
            per_second = DEFAULT_RATES[name] if self.closed else 0
        return Rates(name, per_second) if per_second else None


def may(request: Request, role: Role) -> bool:
    """Whether the principal of a request that was admitted has the role."""
    principal: Principal = request.scope["principal"]
    return role in principal.roles


def invalid_credentials(why: str) -> Problem:
    """A 401 for a key or token that is nobody's. `why` is sent in a header, too: ASCII without quotes."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{why}"'
    return Problem("invalid-credentials", 401, why, headers={"WWW-Authenticate": challenge})


def named(roles: Roles) -> tuple[Role, ...]:
    """The roles of which a route needs one; empty for `any`, `public` and `docs`."""
    if isinstance(roles, tuple):
        return roles
    return () if roles in {"any", "public", "docs"} else (roles,)  # type: ignore[return-value]


def _identify(scope: Scope, principal: Principal) -> None:
    scope["principal"] = principal
    scope["metadata"]["principal"] = principal.name


def _check(principal: Principal, roles: Roles) -> None:
    """Raises Problem unless the principal has one of the roles."""
    if roles == "public" or (roles == "any" and principal.roles):
        return
    needed = named(roles)
    if principal.roles.isdisjoint(needed):
        words = " or ".join(needed) or "any"
        scope = f', scope="{" ".join(needed)}"' if needed else ""
        challenge = f'{CHALLENGE}, error="insufficient_scope"{scope}'
        raise Problem("missing-role", 403, f"This needs the role {words}.", headers={"WWW-Authenticate": challenge})


def _authorization(scope: Scope) -> bytes:
    """The header's value, empty if there is none. Raises Problem if there is more than one."""
    found: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise invalid_credentials("Authorization came more than once")
    return found[0] if found else b""


def _token(authorization: bytes) -> str:
    """What stands behind `Bearer`. Raises Problem if nothing does."""
    if authorization[: len(SCHEME)].lower() != SCHEME:
        challenge = {"WWW-Authenticate": CHALLENGE}
        raise Problem("unauthenticated", 401, "This needs a key or a token: Authorization: Bearer …", headers=challenge)
    return authorization[len(SCHEME) :].strip().decode("latin-1")
