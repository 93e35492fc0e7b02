"""Claims of a verified token, turned into a principal: `sub` names it, another claim gives its roles."""

from collections.abc import Mapping
from typing import Any

from shared.access.principals import Principal
from shared.access.roles import Role
from shared.plain import Plain

LEEWAY = 30
"""Seconds by which the provider's clock may differ from this one."""

MAX_SUBJECT = 255
"""Characters of the claim `sub`: OpenID Connect Core, section 2."""

LAST_SECOND = 2**53
"""Seconds since 1970; a later `exp` is cut to it, since a float holds whole seconds exactly only up to here."""


class InvalidToken(Plain):
    """A token that is refused. The message says why, and may be shown to the caller."""


def principal_of(claims: Mapping[str, Any], roles_claim: str, roles: Mapping[str, frozenset[Role]]) -> Principal:
    """The principal of a token's claims. `roles`: the roles that each value of the roles claim gives; others give none.

    Raises InvalidToken for a subject that can't be a principal's name.
    """
    subject = claims["sub"]
    if not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise InvalidToken("The token's subject is empty, too long, or has characters that can't be shown.")
    values = _texts(find(claims, roles_claim))
    found: frozenset[Role] = frozenset().union(*(roles.get(each, frozenset()) for each in values))
    return Principal(f"oidc:{claims['iss']}#{subject}", found, min(int(claims["exp"]), LAST_SECOND) + LEEWAY)


def find(claims: Mapping[str, Any], path: str) -> Any:
    """The claim named `path`, else the field that it leads to (`a.b`: the field `b` of the claim `a`), else None.

    Names may have dots themselves, as `https://example.org/roles` has: at each step the longest name comes first.
    """
    if path in claims:
        return claims[path]
    for at in reversed([index for index, letter in enumerate(path) if letter == "."]):
        inner = claims.get(path[:at])
        if isinstance(inner, dict) and (found := find(inner, path[at + 1 :])) is not None:
            return found
    return None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
