"""Keys: all that were ever made, and what operators do with them. A key's text is shown once, and stored nowhere."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query, Request, Response

from api.console.doing import do, do_and_go_back
from api.console.pages import Pages, form_of, page, principal_of, service_of
from api.console.screens.system import sessions
from api.http.problems import Problem
from api.routes.keys import KeyId, Making, added, known_key, rotated
from shared.access.keys import NAME
from shared.access.roles import MEANINGS, ROLES
from shared.clock import written
from shared.operations import key_table
from shared.operations.commands import AddKey, Deed, RevokeKey, RotateKey

router = Pages(section="System")

PATH = "/console/system/keys"

LIMIT = 50
"""Keys on a page."""

LONGEST = 36_500
"""Days, or hours, for which a key or a former secret may count at most, if it ends at all."""

Skip = Annotated[int, Query(ge=0, le=1_000_000, description="Leave out so many of the newest keys")]


@router.get(PATH, role="operator", title="Keys")
async def list_keys(request: Request, skip: Skip = 0) -> Response:
    """All keys that were ever made, the newest first, and a form for another one."""
    known = (await service_of(request).log.read(key_table.all_keys))[::-1]
    more = len(known) > skip + LIMIT
    return page(
        request,
        "system_keys.html",
        keys=known[skip : skip + LIMIT],
        skip=skip,
        newer=max(0, skip - LIMIT),
        older=skip + LIMIT if more else None,
        roles={role: MEANINGS[role] for role in ROLES},
    )


@router.post(f"{PATH}/add", role="operator", title="Keys")
async def add_key(request: Request) -> Response:
    """Make a key and show it, only this once."""
    form = form_of(request)
    name, roles = form.get("name", "").strip(), [each for each in ROLES if form.get(f"role-{each}")]
    if not re.fullmatch(NAME, name):
        raise _invalid("A key's name has letters, digits and ._@/- only, 64 at most.")
    if not roles:
        raise _invalid("A key has one role at least.")
    days = _number(form.get("days", ""), "days")
    making = added(name, roles, written(datetime.now(UTC) + timedelta(days=days)) if days else None)
    return await _make(request, AddKey, making, name)


@router.get(f"{PATH}/{{key_id}}", role="operator", title="Key")
async def show_key(request: Request, key_id: KeyId) -> Response:
    """A key, and what can be done with it."""
    known = await known_key(request, key_id)
    holder = f"key:{known.id}"
    is_own = principal_of(request).name == holder
    its = await service_of(request).sessions.of(holder)
    return page(request, "system_key.html", key=known, is_own=is_own, sessions=its)


@router.post(f"{PATH}/{{key_id}}/sessions/end", role="operator", title="Key")
async def end_session(request: Request, key_id: KeyId) -> Response:
    """End a session that began with a key."""
    known = await known_key(request, key_id)
    return await sessions.end(request, f"key:{known.id}", f"{PATH}/{known.id}")


@router.post(f"{PATH}/{{key_id}}/rotate", role="operator", title="Key")
async def rotate_key(request: Request, key_id: KeyId) -> Response:
    """Give a key another secret and show it, only this once."""
    known = await known_key(request, key_id)
    hours = _number(form_of(request).get("hours", ""), "hours")
    making = rotated(known, written(datetime.now(UTC) + timedelta(hours=hours)) if hours else None)
    return await _make(request, RotateKey, making, known.name)


@router.post(f"{PATH}/{{key_id}}/revoke", role="operator", title="Key")
async def revoke_key(request: Request, key_id: KeyId) -> Response:
    """Refuse a key for good, if its id was typed."""
    known = await known_key(request, key_id)
    if form_of(request).get("id", "").strip() != known.id:
        raise Problem("not-confirmed", 422, f"Nothing was revoked: type {known.id}, the id of the key to revoke.")
    return await do_and_go_back(request, RevokeKey, {"key_id": known.id, "name": known.name}, f"{PATH}/{known.id}")


async def _make(request: Request, deed: type[Deed], making: Making, name: str) -> Response:
    key, given, made = making
    command_id, is_done = await do(request, deed, given, made)
    return page(request, "system_key_shown.html", key=key, name=name, command_id=command_id, is_done=is_done)


def _number(text: str, unit: str) -> int:
    """A number of days or hours, 0 if none is given. Raises Problem."""
    text = text.strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= LONGEST):
        raise _invalid(f"The {unit} must be a whole number, {LONGEST:,} at most.")
    return int(text)


def _invalid(detail: str) -> Problem:
    return Problem("invalid-request", 422, detail)
