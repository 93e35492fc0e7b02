"""The check on each request, before its body is read: who sends it, and whether he may."""

from typing import Literal, Protocol

from fastapi import Request
from starlette.types import Scope

from api.http.problems import Problem, unavailable
from shared.access.principals import LOCAL, Principal
from shared.roles import Role

Roles = Role | tuple[Role, ...] | Literal["any", "public", "docs"]
"""What a route asks for: a role; one of several; `any` role; none (`public`); or none on this machine (`docs`)."""

NOBODY = Principal("nobody", frozenset())
"""Whoever sends no credentials, or none that count."""

SCHEME = b"bearer "

CHALLENGE = 'Bearer realm="cqrs"'
"""What `WWW-Authenticate` says (RFC 6750, section 3)."""

UNAUTHENTICATED = Problem(
    "unauthenticated",
    401,
    "This needs a key or a token: Authorization: Bearer …",
    headers={"WWW-Authenticate": CHALLENGE},
)


class Credentials(Protocol):
    """Whatever knows keys and tokens."""

    async def principal(self, token: str) -> Principal:
        """The principal who sends this. Raises Problem: 401 if it counts for nobody, 503 if that can't be told."""


class Access:
    """The check of an API. One that is open takes every request as LOCAL's."""

    def __init__(self, *, closed: bool, on_loopback: bool) -> None:
        self.closed = closed
        self._on_loopback = on_loopback
        self.credentials: Credentials | None = None
        """Set when the API starts."""

    async def admit(self, request: Request, roles: Roles) -> None:
        """Put the principal into the request's scope and metadata. Raises Problem if the request may not be made."""
        scope = request.scope
        if not self.closed:
            _identify(scope, LOCAL)
            return
        if roles == "docs":
            roles = "public" if self._on_loopback else "any"
        try:
            principal = await self._principal(scope)
        except Problem:
            _identify(scope, NOBODY)
            if roles == "public":
                return
            raise
        _identify(scope, principal)
        _check(principal, roles)

    async def _principal(self, scope: Scope) -> Principal:
        token = _token(scope)
        if self.credentials is None:
            raise unavailable("credentials-unavailable", "The API is starting.")
        return await self.credentials.principal(token)


def may(request: Request, role: Role) -> bool:
    """Whether the principal of a request that was admitted has the role."""
    principal: Principal = request.scope["principal"]
    return role in principal.roles


def invalid_credentials(why: str) -> Problem:
    """A 401 for a key or token that counts for nobody; `why` in ASCII, without quotes."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{why}"'
    return Problem("invalid-credentials", 401, why, headers={"WWW-Authenticate": challenge})


def named(roles: Roles) -> tuple[Role, ...]:
    """The roles of which one is needed; none for `any`, `public` and `docs`."""
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
        challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(needed)}"'
        raise Problem("missing-role", 403, f"This needs the role {words}.", headers={"WWW-Authenticate": challenge})


def _token(scope: Scope) -> str:
    """What stands behind `Authorization: Bearer`. Raises Problem if there is none, or more than one."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise invalid_credentials("Authorization came more than once")
    if not found or found[0][: len(SCHEME)].lower() != SCHEME:
        raise UNAUTHENTICATED
    return str(found[0][len(SCHEME) :].strip().decode("latin-1"))
