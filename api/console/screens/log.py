"""The log: its events, the latest first, and an event with all that is known of it."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import Path, Query, Request, Response

from api.console.doing import is_revealed, reveal
from api.console.live import Parts, live
from api.console.log import correlated
from api.console.log.shown import HIDDEN, KNOWN, PER_PAGE, address_of, fields_of
from api.console.pages import Pages, fragment, page, service_of
from api.http.paging import MAX_INTEGER
from api.http.problems import Problem
from api.routes.events import TYPES
from api.service import Service
from shared import chain
from shared.messages import RecordedEvent
from shared.operations.record import EVENTS
from shared.stores import event_store

router = Pages(section="Log")

MOST_ANNOUNCED = 1000
"""New events that are counted; beyond, there are more."""

NEAR = 3
"""Events before and after one that are shown beside it."""


class Proof(NamedTuple):
    """An event's hash and the one before it, "" where there is none, and whether they fit what is stored."""

    its: str
    before: str
    fits: bool


Types = Annotated[list[str] | None, Query()]
Position = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
Number = Annotated[int | None, Query(ge=0, le=MAX_INTEGER)]


@router.get("/console/log", role="auditor", title="Log", menu=True)
async def show_log(
    request: Request, type: Types = None, stream: str = "", before: Number = None, after: Number = None
) -> Response:
    """A page of events, the latest first."""
    service = service_of(request)
    types, its_stream = [each for each in type or [] if each] or None, stream.strip() or None
    last = await service.feed.last()
    events, is_newest = await _page_of(service, types, its_stream, before=before, after=after)
    wanted = [("type", each) for each in types or []] + ([("stream", its_stream)] if its_stream else [])
    return page(
        request,
        "log.html",
        events=events[:PER_PAGE],
        last=last,
        newest=events[0].position if events else last,
        is_newest=is_newest,
        has_older=len(events) > PER_PAGE,
        types=types or [],
        known=list(dict.fromkeys([*TYPES, *EVENTS, *(types or [])])),
        stream=its_stream or "",
        wanted=urlencode(wanted),
        address_of=address_of,
    )


@router.get("/console/log/live", role="auditor", title="Log")
async def follow_log(request: Request, after: Number = 0, type: Types = None, stream: str = "") -> Response:
    """How many such events are new, again and again."""
    service = service_of(request)
    begin, seen, count = after or 0, -1, 0
    wanted = urlencode([("type", each) for each in type or []] + ([("stream", stream)] if stream else []))

    async def look() -> Parts:
        nonlocal seen, count
        last = await service.feed.lately()
        if last != seen:  # else nobody needs to be asked
            count = last - begin
            if type or stream:
                query = event_store.count
                count = await service.log.read(
                    query, types=type, stream=stream or None, after=begin, most=MOST_ANNOUNCED + 1
                )
            seen = last
        return {"new": fragment(request, "log_new.html", count=count, most=MOST_ANNOUNCED, wanted=wanted)}

    return live(request, look)


@router.get("/console/log/{position}", role="auditor", title="Event")
async def show_event(request: Request, position: Position) -> Response:
    """An event, its neighbours, and what belongs to the same request."""
    service = service_of(request)
    near = await service.log.read(event_store.read_all, after=max(0, position - NEAR - 1), limit=2 * NEAR + 1)
    event = _at(position, near)
    id, tree = event.metadata.get("correlation_id"), None
    if isinstance(id, str):
        async with service.turn(request, service.log):
            tree = await correlated.around(service, event, id)
    shows = is_revealed(request, "auditor", event.stream)
    fields = fields_of(event, revealed=shows)
    return page(
        request,
        "log_event.html",
        event=event,
        is_known=event.type in KNOWN,
        fields=fields,
        hides=any(each.instead == HIDDEN for each in fields.values()),
        revealed=shows,
        near=near,
        proof=await _proof(service, position),
        correlation_id=id,
        tree=tree,
        looked=correlated.AROUND,
        address_of=address_of,
    )


@router.post("/console/log/{position}", role="auditor", title="Event")
async def reveal_event(request: Request, position: Position) -> Response:
    """Show what is personal in the event."""
    event = _at(position, await service_of(request).log.read(event_store.read_all, after=position - 1, limit=1))
    return await reveal(request, "auditor", f"/console/log/{position}", [event.stream])


def _at(position: int, events: Sequence[RecordedEvent]) -> RecordedEvent:
    """The event at a position. Raises Problem if it is none of these."""
    for each in events:
        if each.position == position:
            return each
    raise Problem("event-not-found", 404, f"There is no event at position {position}.")


async def _page_of(
    service: Service, types: Sequence[str] | None, stream: str | None, *, before: int | None, after: int | None
) -> tuple[list[RecordedEvent], bool]:
    """The events of a page, the latest first, with one more if there are older ones; and whether none are newer."""
    limit = PER_PAGE + 1
    if after is not None:
        newer = await service.log.read(event_store.read_all, after=after, types=types, stream=stream, limit=limit)
        if len(newer) == limit:
            return [*newer[-2::-1], *await _latest(service, types, stream, before=newer[0].position, limit=1)], False
    events = await _latest(service, types, stream, before=before, limit=limit)
    return events, before is None


async def _latest(
    service: Service, types: Sequence[str] | None, stream: str | None, *, before: int | None, limit: int
) -> list[RecordedEvent]:
    end = MAX_INTEGER if before is None else before
    found = await service.log.read(event_store.read_latest, types=types, stream=stream, before=end, limit=limit)
    return found[::-1]


async def _proof(service: Service, position: int) -> Proof:
    found = await service.log.read(event_store.hashes, after=max(0, position - 2), upto=position)
    [(_, *stored, its)] = await service.log.read(event_store.read_stored, after=position - 1, limit=1)
    before = found.get(position - 1) if position > 1 else chain.START
    fits = bool(before and its and chain.link(before, position, *stored) == its)
    return Proof(its.hex() if its else "", before.hex() if before else "", fits)
