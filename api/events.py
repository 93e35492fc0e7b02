"""The log, as it is."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.documentation import QUERY, headers
from api.paging import After, Limit, MinPosition, page
from api.routing import Route
from api.service import Service
from shared import event_store
from shared.event_store import RecordedEvent
from shared.users.read_model import users

router = APIRouter(tags=["events"], route_class=Route)

TYPES = list(users.events)


class Event(BaseModel):
    id: int = Field(examples=[1], description="Its position in the log")
    type: str = Field(examples=TYPES)
    data: dict[str, Any] = Field(
        examples=[{"user_id": 1, "first_name": "John", "last_name": "Doe", "email": "john.doe@example.com"}]
    )
    stream: str = Field(examples=["user-1"])
    version: int = Field(examples=[1], description="Its place in the stream")
    recorded_at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    metadata: dict[str, Any] = Field(examples=[{"command_id": "019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"}])


@router.get("/events/", response_model=list[Event], responses={200: headers("Link"), **QUERY})
async def list_events(
    request: Request,
    after: After = 0,
    limit: Limit = 100,
    type: Annotated[list[str] | None, Query(description="Only these types", examples=[TYPES])] = None,
    stream: Annotated[str | None, Query(description="Only this stream", examples=["user-1"])] = None,
    min_position: MinPosition = None,
) -> Response:
    """Events in the order in which they happened."""
    service = Service.of(request)
    await service.require_logged(min_position)
    events = await service.log.read(event_store.read_all, after=after, types=type, stream=stream, limit=limit + 1)
    return page(request, [_shown(event) for event in events], limit=limit, key="id")


def _shown(event: RecordedEvent) -> dict[str, Any]:
    return {
        "id": event.position,
        "type": event.type,
        "data": event.data,
        "stream": event.stream,
        "version": event.version,
        "recorded_at": event.recorded_at,
        "metadata": event.metadata,
    }
