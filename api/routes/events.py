"""The log of events, as it was recorded."""

from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from pydantic import BaseModel, Field

from api.http.documentation import ERASED, LOG, STREAM, UNREADABLE, headers, stream_of
from api.http.paging import MAX_INTEGER, After, Limit, MinPosition, page
from api.http.routing import Router
from api.http.streaming import LAST_EVENT_ID, EventStream
from api.reading.log_pages import Wanted
from api.service import Service, unknown
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.stores import event_store

router = Router(tags=["events"])

TYPES = list(dict.fromkeys(type for each in PROJECTIONS.values() for type in each.events))
"""The names of all events."""

Types = Annotated[list[str] | None, Query(description="Only these types", examples=[TYPES])]
Stream = Annotated[str | None, Query(description="Only this stream", examples=["user-1"])]


class Event(BaseModel):
    """An event as it was recorded."""

    id: int = Field(examples=[1], description="Its position in the log")
    type: str = Field(examples=TYPES)
    data: dict[str, Any] = Field(
        examples=[{"user_id": 1, "first_name": "John", "last_name": "Doe", "email": "john.doe@example.com"}]
    )
    schema_version: int = Field(examples=[1], description="Of its data, which is as it was recorded")
    stream: str = Field(examples=["user-1"])
    version: int = Field(examples=[1], description="Its place in the stream")
    recorded_at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    metadata: dict[str, Any] = Field(examples=[{"command_id": "019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"}])
    erased: bool = ERASED
    unreadable: bool = UNREADABLE


@router.get("/events/", role="auditor", response_model=list[Event], responses={200: headers("Link"), **LOG})
async def list_events(
    request: Request,
    after: After = 0,
    limit: Limit = 100,
    type: Types = None,
    stream: Stream = None,
    min_position: MinPosition = None,
) -> Response:
    """Events in the order in which they happened."""
    service: Service = request.app.state.service
    await service.require_logged(min_position)
    async with service.turn(request, service.log):
        events = await service.log.read(event_store.read_all, after=after, types=type, stream=stream, limit=limit + 1)
        return await page(request, events, RecordedEvent.shown, limit=limit, key="id")


@router.get(
    "/events/stream",
    role="auditor",
    status_code=200,
    response_class=EventStream,
    responses={200: stream_of(Event, id="position"), **LOG, **STREAM},
)
async def follow_events(
    request: Request,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_INTEGER, description="Start behind this position; else with what comes next")
    ] = None,
    type: Types = None,
    stream: Stream = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INTEGER, description=LAST_EVENT_ID)] = None,
) -> Response:
    """Events as they happen, as server-sent events. Each is as in `GET /events/`, and its `id` is its position.

    `Last-Event-ID` comes before `after`: an EventSource that comes back sends both.
    """
    service: Service = request.app.state.service
    last = await service.feed.last()
    position = next((each for each in (last_event_id, after) if each is not None), last)
    if position > last:  # it was another log's: what this one has up to there would never be seen
        raise unknown(position)
    wanted = Wanted(None if type is None else frozenset(type), stream)
    return service.streams.answer(request, service.feed.follow(position, wanted))
