"""Principals: who sends a request, or who works with the `cqrs` command."""

import getpass
import math
from socket import gethostname
from typing import NamedTuple

from shared.access.roles import ROLES, Role


class Principal(NamedTuple):
    """Who does something, and what he may do.

    `name` is `key:<id>`, `oidc:<issuer>#<subject>`, `local` or `cli:<user>@<host>`; it may be logged and is stored with
    commands and events. `until`: seconds since 1970 from which on the credentials count no more. `credential`: the
    digest of the key, which tells apart a key's texts before and after a rotation.
    """

    name: str
    roles: frozenset[Role]
    until: float = math.inf
    credential: str = ""


LOCAL = Principal("local", frozenset(ROLES))
"""Whoever asks an open API: on this machine, or where `CQRS_AUTH=off` says so."""

NOBODY = Principal("nobody", frozenset())
"""Whoever sends no credentials, or none that count."""


def operator_here() -> str:
    """The name of the principal who runs the `cqrs` command: `cli:<user>@<host>`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = "unknown"
    return f"cli:{user}@{gethostname()}"
