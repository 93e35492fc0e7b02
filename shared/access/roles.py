"""Roles: what a principal may do. None implies another, and a principal may have several."""

from collections.abc import Iterable
from typing import Literal, get_args

Role = Literal["reader", "writer", "auditor", "operator", "eraser"]

ROLES: tuple[Role, ...] = get_args(Role)

MEANINGS: dict[Role, str] = {
    "reader": "sees users as they are and as they were, statistics, and its own commands",
    "writer": "sends commands, and sees its own",
    "auditor": "sees the log, histories, any command, and what operators did",
    "operator": "sees metrics and full readiness, retries commands, pauses and rebuilds projections, "
    "makes keys with any role",
    "eraser": "erases users, and sees its own commands",
}
"""What each role may do, in words, for docs/reference/roles.md."""


def roles_of(names: Iterable[str]) -> frozenset[Role]:
    """The roles among these names; other names are left out."""
    named = set(names)
    return frozenset(role for role in ROLES if role in named)
