"""The list of commands."""

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.console.commands import looking, sending
from api.console.commands.looking import STATUSES, Asked, Found, only
from api.console.live import Parts, live
from api.console.pages import Pages, back, fragment, page, service_of
from api.http.access import may
from api.http.problems import Problem, invalid
from api.routes.commands import OWN, find
from api.service import Service
from shared.clock import parsed, written
from shared.stores import inbox, searching
from shared.stores.searching import Wanted

COUNTED = 5_000
"""Newer commands that are counted; of more it is said that there are more."""

TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
"""A time as forms send it, in UTC, or as it is stored."""

Text = Annotated[str, Query(max_length=300)]
From = Annotated[str, Query(alias="from", max_length=40)]
To = Annotated[str, Query(alias="to", max_length=40)]

router = Pages(section="Commands")


@router.get("/console/commands", role=OWN, title="Commands", menu=True)
async def list_commands(
    request: Request,
    id: Text = "",
    stream: Text = "",
    type: Text = "",
    status: Text = "",
    principal: Text = "",
    correlation_id: Text = "",
    begin: From = "",
    end: To = "",
    before: Text = "",
) -> Response:
    """Commands, the latest first; of whoever is no auditor their own."""
    service = service_of(request)
    given = {
        "stream": _stream(request, stream.strip()),
        "type": type.strip(),
        "status": status if status in STATUSES else "",
        "principal": principal.strip() if may(request, "auditor") else "",
        "correlation_id": correlation_id.strip(),
        "from": begin.strip(),
        "to": end.strip(),
    }
    if id.strip():
        return await _lead_to(request, id.strip())
    wanted = _wanted(request, given)
    async with service.turn(request, service.inbox):
        top = await service.inbox.read(inbox.last_seq)
        asked = Asked(
            wanted,
            given["status"],
            *await _bounds(request, given["from"], given["to"], await _seq_of(service, before) if before else top + 1),
        )
        found = await looking.look(service, asked)
    older = []
    if wanted.stream and found.before and not status:
        older = await looking.rows(service, await looking.by_events(service, wanted, before=found.before))
    rows = await looking.rows(service, found.commands)
    query = urlencode({name: value for name, value in given.items() if value})
    follow = urlencode(
        {
            "after": await _id_at(service, top) if top else "",
            "open": ".".join(row.command.command_id for row in rows if not row.outcome),
            **{name: value for name, value in wanted._asdict().items() if value},
        }
    )
    return page(
        request,
        "commands.html",
        given=given,
        statuses=STATUSES,
        types=sorted(sending.routes(request.app)),
        example=f"{next(iter(request.app.state.folds), 'stream')}-7",
        rows=rows,
        found=found,
        back_to=await _time_of(request, found),
        older=older,
        query=query,
        older_than=await _id_at(service, found.before) if found.before else "",
        is_first=not before,
        follow=f"/console/commands/live?{follow}",
    )


@router.get("/console/commands/live", role=OWN, title="Commands")
async def follow_commands(
    request: Request,
    after: Text = "",
    open: Annotated[str, Query(max_length=37 * looking.PAGE)] = "",
    stream: Text = "",
    type: Text = "",
    principal: Text = "",
    correlation_id: Text = "",
) -> Response:
    """How many commands came since, and what becomes of those that the page shows without an outcome."""
    service = service_of(request)
    begin = await _seq_of(service, after) if after else 0
    given = {"stream": stream, "type": type, "principal": principal, "correlation_id": correlation_id}
    wanted = _wanted(request, given)
    query = urlencode({name: value for name, value in given.items() if value})

    async def look() -> Parts:
        newer = await service.inbox.read(searching.count, wanted, after=begin, before=begin + 1 + COUNTED)
        parts = {"newer": fragment(request, "commands_newer.html", newer=newer, most=COUNTED, query=query)}
        found = await service.inbox.read(inbox.find_all, open.split("."))
        shown = [each for each in found.values() if only(request) in {"", each.principal}]
        for row in await looking.rows(service, shown):
            parts[f"status-{row.command.command_id}"] = fragment(request, "commands_status.html", row=row)
        return parts

    return live(request, look)


async def _id_at(service: Service, seq: int) -> str:
    """The id of the first command from a seq on, which pages name: a seq would tell how many commands there are."""
    return "".join(each.command_id for each in await service.inbox.read(inbox.read_after, seq - 1, limit=1))


async def _seq_of(service: Service, id: str) -> int:
    """The seq of a command, whoever sent it. Raises Problem."""
    command = await service.inbox.read(inbox.find, id)
    if not command:
        raise Problem("command-not-found", 404, f"No command {id} was accepted.")
    return command.seq


def _stream(request: Request, text: str) -> str:
    """The stream that is meant: a number alone will do where there is one kind of streams."""
    categories = list(request.app.state.folds)
    return f"{categories[0]}-{text}" if text.isdigit() and len(categories) == 1 else text


def _wanted(request: Request, given: dict[str, str]) -> Wanted:
    """What is looked for, as far as the principal may see it."""
    wanted = Wanted(given["stream"], given["type"], given["principal"], given["correlation_id"])
    return wanted._replace(principal=only(request) or wanted.principal)


async def _lead_to(request: Request, id: str) -> Response:
    command = await find(request, id)
    return back(f"/console/commands/{command.command_id}")


async def _bounds(request: Request, begin: str, end: str, before: int) -> tuple[int, int]:
    """The seqs between which commands were accepted in these times."""
    read = service_of(request).inbox.read
    after = await read(searching.seq_at, _time("from", begin)) - 1 if begin else 0
    return after, min(before, await read(searching.seq_at, _time("to", end))) if end else before


async def _time_of(request: Request, found: Found) -> str | None:
    """When the last command that was looked at was accepted, if the look was cut."""
    if not found.is_cut:
        return None
    return await service_of(request).inbox.read(searching.accepted_at, found.before or 1)


def _time(name: str, text: str) -> str:
    """The stored form of a time. Raises Problem."""
    match = TIME.fullmatch(text)
    if not match:
        raise invalid([{"loc": ("query", name), "msg": "must be a time such as 2026-01-31 12:00, in UTC"}])
    day, minute, second, zone = match.groups()
    try:
        return written(parsed(f"{day}T{minute}{second or ':00'}{zone or 'Z'}"))
    except ValueError as error:
        raise invalid([{"loc": ("query", name), "msg": str(error)}]) from None
