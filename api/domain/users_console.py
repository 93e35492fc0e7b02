"""The console's page of users: all of them, or those with a number, an address or a name."""

import asyncio
import re
import sys
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.console.aggregates import rows
from api.console.doing import carried, reveal, revealed
from api.console.pages import Pages, back, form_of, page
from api.http.paging import MAX_INTEGER
from shared.domain.users.read_models import emails
from shared.domain.users.read_models import users as read_model
from shared.domain.users.read_models.users import User

router = Pages(section="Users")

PATH = "/console/users"

LIMIT = 50
"""Users on a page."""

PIECES = 10
"""Pieces of users through which one look for a name goes at most."""

NUMBER = re.compile("[0-9]{1,19}", re.ASCII)

STREAM = re.compile("(?:user-)?([1-9][0-9]{0,17})", re.ASCII)

Wanted = Annotated[str, Query(max_length=300, description="A number, an address, or a name's beginning")]
State = Annotated[Literal["", "active", "deactivated"], Query(description="Only users in this state")]
Number = Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="Start at this number, which is left out")]


class Found(NamedTuple):
    """Users, the highest number first."""

    users: list[User]
    before: int | None = None
    """The number below which there are more, or which a look for a name reached."""
    after: int | None = None
    """The number above which there are more."""


def finds(text: str) -> str | None:
    """The address of the page that shows whom the search may mean: by number, stream, address or name."""
    if match := STREAM.fullmatch(text):
        return f"{PATH}/{match[1]}"
    is_name = not any(each.isdigit() for each in text)
    return f"{PATH}?{urlencode({'q': text})}" if is_name or "@" in text else None


@router.get(PATH, role="reader", title="Users", menu=True, finds=finds)
async def list_users(
    request: Request, q: Wanted = "", state: State = "", before: Number = None, after: Number = None
) -> Response:
    """Users, or those that were looked for. One by its number is led to."""
    wanted = " ".join(q.split())
    if NUMBER.fullmatch(wanted) and 0 < int(wanted) <= MAX_INTEGER:
        return back(f"{PATH}/{int(wanted)}")
    active = None if not state else state == "active"
    shown = revealed(request, "reader")
    if "@" in wanted:
        kind, found = "address", Found(await rows(request, emails.emails, emails.users_with, **_all(wanted, active)))
    elif wanted and not shown:  # who has a name is personal, too
        kind, found = "unasked", Found([])
    elif wanted:
        kind, found = "name", await _named(request, wanted, before, active)
    else:
        kind, found = "", await _listed(request, before, after, active)
    asked = {name: value for name, value in {"q": q, "state": state}.items() if value}
    return page(
        request,
        "users.html",
        found=found,
        kind=kind,
        q=q,
        state=state,
        before=before,
        after=after,
        shown=shown,
        link=lambda **more: f"{PATH}?{urlencode(asked | more | (carried(request) if kind == 'name' else {}))}",
    )


@router.post(f"{PATH}/personal", role="reader", title="Users")
async def show_personal(request: Request) -> Response:
    """The same page, with what is personal."""
    form = form_of(request)
    asked = {name: form[name] for name in ("q", "state", "before", "after") if form.get(name)}
    return await reveal(request, "reader", f"{PATH}?{urlencode(asked)}" if asked else PATH)


def _all(email: str, active: bool | None) -> dict[str, object]:
    return {"email": email, "after": 0, "active": active, "limit": LIMIT}


async def _listed(request: Request, before: int | None, after: int | None, active: bool | None) -> Found:
    if after:
        up = await rows(
            request, read_model.users, read_model.users_after, user_id=after, active=active, limit=LIMIT + 1
        )
        users = up[:LIMIT][::-1]
        return Found(users, users[-1].user_id if users else None, users[0].user_id if len(up) > LIMIT else None)
    start = before or sys.maxsize
    down = await rows(request, read_model.users, read_model.users_before, user_id=start, active=active, limit=LIMIT + 1)
    users = down[:LIMIT]
    return Found(
        users, users[-1].user_id if len(down) > LIMIT else None, users[0].user_id if users and before else None
    )


async def _named(request: Request, name: str, before: int | None, active: bool | None) -> Found:
    """Look through users a piece at a time, so that others have their turn."""
    users: list[User] = []
    reached = before or sys.maxsize
    for _ in range(PIECES):
        more, reached = await rows(
            request,
            read_model.users,
            read_model.users_named,
            beginning=name,
            before=reached,
            active=active,
            limit=LIMIT + 1 - len(users),
        )
        users += more
        if not reached or len(users) > LIMIT:
            break
        await asyncio.sleep(0)
    if len(users) > LIMIT:
        return Found(users[:LIMIT], users[LIMIT - 1].user_id)
    return Found(users, reached or None)
