"""Principals: the callers of the API, and the users of the `cqrs` command."""

import getpass
import math
from socket import gethostname
from typing import NamedTuple

from shared.access.roles import ROLES, Role


class Principal(NamedTuple):
    """A caller: its name and its roles.

    `name` is `key:<id>`, `oidc:<issuer>#<subject>`, `local` or `cli:<user>@<host>`; it may be logged and is stored with
    commands and events. `until`: when the key or token expires, in seconds since 1970. `credential`: the digest of the
    key's text, by which the texts before and after a rotation are told apart; "" for anything but a key.
    """

    name: str
    roles: frozenset[Role]
    until: float = math.inf
    credential: str = ""


LOCAL = Principal("local", frozenset(ROLES))
"""Everybody who asks an open API."""

NOBODY = Principal("nobody", frozenset())
"""Everybody who asks a closed API without a key or token that is taken."""


def operator_here() -> str:
    """The name of the principal who runs the `cqrs` command: `cli:<user>@<host>`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        user = "unknown"
    return f"cli:{user}@{gethostname()}"
