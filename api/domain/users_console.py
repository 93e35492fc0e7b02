"""The console's page of users: all of them, or those with a number, an address or a name."""

import asyncio
import re
import sys
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.console.aggregates import rows, stream_of
from api.console.doing import reveal, revealed
from api.console.pages import Pages, back, form_of, page
from api.domain.users import USER
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


class Asked(NamedTuple):
    """What a page is asked for."""

    q: str
    state: str
    before: int | None
    after: int | None

    @property
    def text(self) -> str:
        """What is looked for; "" for all users."""
        return " ".join(self.q.split())

    @property
    def is_address(self) -> bool:
        """Whether it is looked for by an address."""
        return "@" in self.text

    @property
    def is_name(self) -> bool:
        """Whether it is looked for by a name's beginning."""
        return bool(self.text) and not self.is_address

    @property
    def active(self) -> bool | None:
        """Whether users are active that are looked for; None for all."""
        return self.state == "active" if self.state else None

    def query(self) -> dict[str, str]:
        """The parameters of every page of these users."""
        return {name: value for name, value in {"q": self.q, "state": self.state}.items() if value}


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
    asked = Asked(q, state, before, after)
    if NUMBER.fullmatch(asked.text) and 0 < int(asked.text) <= MAX_INTEGER:
        return back(f"{PATH}/{int(asked.text)}")
    shown = revealed(request, "reader")
    is_unasked = asked.is_name and shown is None  # who has a name is personal, too
    found = Found([]) if is_unasked else await _find(request, asked)

    def is_shown(user: User) -> bool:
        return _stream(user) in (shown or ())

    if asked.is_name:
        found = found._replace(users=list(filter(is_shown, found.users)))
    return page(
        request,
        "users.html",
        found=found,
        asked=asked,
        is_unasked=is_unasked,
        is_shown=is_shown,
        hides=not all(map(is_shown, found.users)),
        link=lambda **more: f"{PATH}?{urlencode(asked.query() | more)}",
    )


@router.post(f"{PATH}/personal", role="reader", title="Users")
async def show_personal(request: Request) -> Response:
    """The same page, with what is personal."""
    form = form_of(request)
    state, before, after = form.get("state", ""), _number(form.get("before", "")), _number(form.get("after", ""))
    asked = Asked(form.get("q", ""), state if state in {"active", "deactivated"} else "", before, after)
    found = await _find(request, asked)
    where = {name: value for name, value in asked._asdict().items() if value}
    path = f"{PATH}?{urlencode(where)}" if where else PATH
    return await reveal(request, "reader", path, [_stream(each) for each in found.users])


def _number(text: str) -> int | None:
    return int(text) if NUMBER.fullmatch(text) and 0 < int(text) <= MAX_INTEGER else None


def _stream(user: User) -> str:
    return stream_of(USER, user.user_id)


async def _find(request: Request, asked: Asked) -> Found:
    """The users that are asked for."""
    if asked.is_address:
        its = {"email": asked.text, "after": 0, "active": asked.active, "limit": LIMIT}
        return Found(await rows(request, emails.emails, emails.users_with, **its))
    if asked.is_name:
        return await _named(request, asked)
    return await _listed(request, asked)


async def _listed(request: Request, asked: Asked) -> Found:
    its = {"active": asked.active, "limit": LIMIT + 1}
    if asked.after:
        up = await rows(request, read_model.users, read_model.users_after, user_id=asked.after, **its)
        users = up[:LIMIT][::-1]
        return Found(users, users[-1].user_id if users else None, users[0].user_id if len(up) > LIMIT else None)
    start = asked.before or sys.maxsize
    down = await rows(request, read_model.users, read_model.users_before, user_id=start, **its)
    users = down[:LIMIT]
    newer = users[0].user_id if users and asked.before else None
    return Found(users, users[-1].user_id if len(down) > LIMIT else None, newer)


async def _named(request: Request, asked: Asked) -> Found:
    """Look through users a piece at a time, so that others have their turn."""
    users: list[User] = []
    reached = asked.before or sys.maxsize
    for _ in range(PIECES):
        more, reached = await rows(
            request,
            read_model.users,
            read_model.users_named,
            beginning=asked.text,
            before=reached,
            active=asked.active,
            limit=LIMIT + 1 - len(users),
        )
        users += more
        if not reached or len(users) > LIMIT:
            break
        await asyncio.sleep(0)
    if len(users) > LIMIT:
        return Found(users[:LIMIT], users[LIMIT - 1].user_id)
    return Found(users, reached or None)
