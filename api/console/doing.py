"""What buttons do: the same as the command line and the API, as commands that the worker handles."""

import re
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from fastapi import Request, Response

from api.console import shapes
from api.console.pages import back, guard_of, principal_of, service_of
from api.http.access import may
from api.http.problems import Problem
from api.routes.submit import accept, result
from shared.access.roles import Role
from shared.operations.commands import Deed, ShowPersonal
from shared.operations.record import CATEGORY
from shared.stores.inbox import Submission
from shared.stores.outcomes import Outcome

PREFER = "wait=10"
"""Seconds a page waits for what a button does; what takes longer is shown as under way."""

REVEALED_FOR = 15 * 60
"""Seconds for which a page goes on showing what is personal."""

UNTIL = re.compile(r"\d{1,12}", re.ASCII)
"""The time until then, as pages have it."""


async def do(
    request: Request, deed: type[Deed], given: dict[str, Any], made: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, bool]:
    """Have a deed done; returns its command's id, and whether it was done within the time that a page waits.

    `given` has the fields that the form gives, `made` those that it doesn't. Raises Problem if it can't be done, or a
    store's error.
    """
    accepted, headers = await accept(
        request, Submission(deed.__name__, CATEGORY, 1, given, metadata=request.scope["metadata"], made=made), None
    )
    outcome = await result(request, None, accepted, PREFER, headers)
    return accepted.command.command_id, isinstance(outcome, Outcome)


async def do_and_go_back(request: Request, deed: type[Deed], given: dict[str, Any], path: str) -> Response:
    """Have a deed done, and lead to a page that says so. Raises Problem, or a store's error."""
    id, done = await do(request, deed, given)
    return back(path, done=id) if done else back(path, waiting=id)


async def reveal(request: Request, role: Role, path: str, streams: Sequence[str]) -> Response:
    """Record of whom a page shows what is personal, then lead there. Raises Problem, or a store's error.

    `streams`: those of these people. `path` may have a query, which is part of neither the record nor what may be seen.
    """
    if not may(request, role):
        raise Problem("missing-role", 403, f"This needs the role {role}.")
    page = unquote(path.partition("?")[0])
    _, done = await do(request, ShowPersonal, {"page": page, "streams": [*streams]})
    if not done:
        raise Problem("not-recorded", 503, "It could not be recorded yet that you are shown this: no worker answers.")
    until = str(int(time.time()) + REVEALED_FOR)
    return back(path, revealed=".".join([until, _token(request, page, until, *streams), *streams]))


def revealed(request: Request, role: Role) -> frozenset[str] | None:
    """The streams of those of whom this page shows what is personal; None if nobody with the role asked for it.

    They are those in the audit trail: of whoever came to the page since, it must show no more than before.
    """
    given: str = request.scope.get("own", {}).get("revealed", "")
    until, _, rest = given.partition(".")
    token, *streams = rest.split(".")
    if not UNTIL.fullmatch(until) or int(until) < time.time() or not may(request, role):
        return None
    its = shapes.same(token, _token(request, request.scope["path"], until, *streams))
    return frozenset(streams) if its else None


def is_revealed(request: Request, role: Role, stream: str) -> bool:
    """Whether this page shows what is personal of the one with this stream."""
    return stream in (revealed(request, role) or ())


def carried(request: Request) -> dict[str, str]:
    """The parameters with which a link to another part of the same page goes on showing what is personal."""
    own = request.scope.get("own", {})
    return {"revealed": own["revealed"]} if "revealed" in own else {}


def _token(request: Request, path: str, until: str, *streams: str) -> str:
    """What shows these people on the page to the principal, in this session, if it is one."""
    session = request.cookies.get(guard_of(request).cookie, "")
    return service_of(request).token("revealed", principal_of(request).name, session, path, until, *streams)
