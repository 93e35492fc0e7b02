"""The console's page of one user: as it is and as it was, how it came to be so, and what can be done to it."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.console import aggregates
from api.console.aggregates import Aggregate, Past, stream_of
from api.console.doing import carried, is_revealed, reveal
from api.console.pages import Pages, back, form_of, page
from api.domain.users import USER, UserId
from api.http.access import may
from api.http.paging import MAX_INTEGER, Version
from api.http.problems import Problem
from shared.domain.users import history
from shared.domain.users.messages import DeactivateUser, EraseUser, ReactivateUser, UserCommand
from shared.domain.users.read_models.users import User

router = Pages(section="Users")

PATH = "/console/users/{user_id}"

LIMIT = 50
"""Changes on a page."""

Before = Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="Changes before this version")]


@router.get(PATH, role="reader", title="User")
async def show_user(request: Request, user_id: UserId, version: Version = None, before: Before = None) -> Response:
    """The user as it is beside what it was at a version, and its changes. 410 for one that was erased."""
    user = await aggregates.look(request, USER, user_id)
    then: Past[User] | None = None
    if not user.erased:
        then = await aggregates.as_it_was(request, USER, user_id, version or user.version)
    changes = await _changes(request, user, user_id, before) if may(request, "auditor") else []
    return page(
        request,
        "user.html",
        status=410 if user.erased else 200,
        number=user_id,
        user=user,
        then=then,
        changes=changes[:LIMIT],
        older=changes[LIMIT - 1]["version"] if len(changes) > LIMIT else None,
        before=before,
        shown=(shown := is_revealed(request, "reader", stream_of(USER, user_id))),
        link=lambda **more: f"/console/users/{user_id}?{urlencode(more | (carried(request) if shown else {}))}",
        carried=carried(request) if shown else {},
    )


@router.post(f"{PATH}/personal", role="reader", title="User")
async def show_personal(request: Request, user_id: UserId) -> Response:
    """The same page, with what is personal."""
    form, path = form_of(request), f"/console/users/{user_id}"
    asked = {name: form[name] for name in ("version", "before") if form.get(name)}
    where = f"{path}?{urlencode(asked)}" if asked else path
    return await reveal(request, "reader", where, [stream_of(USER, user_id)])


@router.post(f"{PATH}/deactivate", role="writer", title="User")
async def deactivate_user(request: Request, user_id: UserId) -> Response:
    """Have the user take no more changes."""
    return await _do(request, DeactivateUser, user_id)


@router.post(f"{PATH}/reactivate", role="writer", title="User")
async def reactivate_user(request: Request, user_id: UserId) -> Response:
    """Have the user take changes again."""
    return await _do(request, ReactivateUser, user_id)


@router.post(f"{PATH}/erase", role="eraser", title="User")
async def erase_user(request: Request, user_id: UserId) -> Response:
    """Erase the user for good, if its number was typed."""
    if form_of(request).get("number", "").strip() != str(user_id):
        raise Problem("not-confirmed", 422, f"Nothing was erased: type {user_id}, the number of the user to erase.")
    return await _do(request, EraseUser, user_id)


async def _do(request: Request, command: type[UserCommand], user_id: int) -> Response:
    """Have a command done to the user at the version that the form's page showed, and lead back."""
    version = form_of(request).get("version", "")
    if not (version.isascii() and version.isdigit() and 0 < int(version) <= MAX_INTEGER):
        raise Problem("malformed-form", 400, "This is no form that the console has.")
    id, done = await aggregates.change(request, USER, command, user_id, version=int(version))
    leads = partial(back, f"/console/users/{user_id}")
    return leads(done=id) if done else leads(waiting=id)


async def _changes(
    request: Request, user: Aggregate[User], user_id: int, before: int | None
) -> Sequence[dict[str, Any]]:
    start = before or user.version + 1
    return await aggregates.changes(request, USER, user_id, history.changed, before=start, limit=LIMIT + 1)
