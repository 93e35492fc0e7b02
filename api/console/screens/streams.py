"""A stream: its events in order, and the state of its aggregate before and after each."""

from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response

from api.console.doing import carried, is_revealed, reveal
from api.console.log.search import pages_that_find
from api.console.log.shown import HIDDEN, PER_PAGE, fields_of
from api.console.log.states import states_of
from api.console.pages import Pages, form_of, page, service_of
from api.http.paging import MAX_INTEGER
from api.http.problems import Problem
from shared.stores import event_store

router = Pages(section="Log")

After = Annotated[int, Query(ge=0, le=MAX_INTEGER)]


@router.get("/console/streams/{stream}", role="auditor", title="Stream")
async def show_stream(request: Request, stream: str, after: After = 0) -> Response:
    """The events of a stream past a version."""
    service = service_of(request)
    last = await _last(request, stream)
    shows = is_revealed(request, "auditor", stream)
    fold = request.app.state.folds.get(stream.rpartition("-")[0])
    async with service.turn(request, service.log):
        events = await service.log.read(event_store.read_stream, stream, after=after, limit=PER_PAGE)
        states = await states_of(service.log, fold, events, revealed=shows)
    fields = {event.version: fields_of(event, revealed=shows) for event in events}
    return page(
        request,
        "streams.html",
        stream=stream,
        last=last,
        after=after,
        before=max(0, after - PER_PAGE),
        events=events,
        fields=fields,
        states=states,
        hides=any(each.instead == HIDDEN for its in fields.values() for each in its.values()),
        revealed=shows,
        carried=carried(request),
        end=(last - 1) // PER_PAGE * PER_PAGE,
        elsewhere=pages_that_find(request, stream),
    )


@router.post("/console/streams/{stream}", role="auditor", title="Stream")
async def reveal_stream(request: Request, stream: str) -> Response:
    """Show what is personal in the stream."""
    await _last(request, stream)  # else anything could be said in the audit trail
    after = form_of(request).get("after", "")
    where = f"?after={after}" if after.isdigit() and after.isascii() else ""
    return await reveal(request, "auditor", f"/console/streams/{quote(stream)}{where}", [stream])


async def _last(request: Request, stream: str) -> int:
    """The last version of a stream. Raises Problem if there is no such stream, or a store's error."""
    last = await service_of(request).log.read(event_store.stream_version, stream)
    if not last:
        raise Problem("stream-not-found", 404, f"There is no stream {stream}.")
    return last
