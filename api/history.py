"""An aggregate as it was, and how it came to be what it is: folded from the log, whatever the aggregate."""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from api.documentation import TYPES
from api.paging import MAX_INTEGER, page
from api.problems import Problem, invalid
from api.reading import Store
from api.service import Service
from shared import event_store
from shared.event_store import RecordedEvent
from shared.messages import written

PAGE = 500
"""Events folded at once: between two pages others have their turn."""

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)

T = TypeVar("T")

Fold = Callable[[T | None, Sequence[RecordedEvent]], T | None]


def _written_well(value: str) -> str:
    value = value.replace(" ", "+")  # as it was typed: in a query a plus means a space
    if not RFC_3339.fullmatch(value):
        raise ValueError("must be a time as in RFC 3339: 2026-01-31T12:00:00Z")
    return value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time that UTC has, too") from None


Moment = Annotated[datetime, BeforeValidator(_written_well), AfterValidator(_in_utc)]

Version = Annotated[
    int | None, Query(ge=1, le=MAX_INTEGER, description="As it was at this version, by the log", examples=[1])
]
At = Annotated[
    Moment | None,
    Query(
        description="As it was at this time, by the log; in the future is now", examples=["2026-01-31T12:00:00.004000Z"]
    ),
]


class Change(BaseModel):
    """A version of an aggregate: one event."""

    version: int = Field(examples=[2])
    type: str = Field(examples=TYPES[1:])
    changed: dict[str, Any] = Field(
        examples=[{"email": "john.new@example.com"}], description="Fields, with what they were then"
    )
    position: int = Field(examples=[2], description="Its place in the log")
    recorded_at: str = Field(examples=["2026-01-31T12:00:00.004000Z"])
    command_id: str | None = Field(examples=["019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"], description="What it came of")
    links: dict[str, str] = Field(
        examples=[{"self": "/users/1?version=2", "command": "/commands/019aaf3e-5c10-7cc3-98c4-dc0c0c07398f"}]
    )


async def as_of(
    service: Service, category: str, number: int, fold: Fold[T], *, version: int | None, at: datetime | None
) -> T:
    """The aggregate at a version or, with None of both, now. Raises Problem if there is or was none."""
    if version and at:
        raise invalid([{"loc": ("query", "at"), "msg": "Goes without a version: it is one or the other"}])
    stream = f"{category}-{number}"
    last = await service.log.read(event_store.stream_version, stream)
    upto = version or last
    if upto > last > 0:
        detail = f"The {category} {number} is at version {last}: there is no version {version} of it yet."
        raise Problem("version-not-found", 404, detail)
    if last and at and at < datetime.now(UTC):
        upto = await service.log.read(event_store.version_at, stream, written(at))
        if not upto:
            raise Problem(f"{category}-not-found", 404, f"There was no {category} {number} yet at {written(at)}.")
    state = await _folded(service.log, stream, fold, upto=upto) if last else None
    if state is None:
        raise nothing(category, number)
    return state


async def show_changes(
    request: Request,
    category: str,
    number: int,
    changed: Callable[[RecordedEvent], dict[str, Any]],
    *,
    after: int,
    limit: int,
) -> Response:
    """The page of versions that follow `after`, each a Change."""
    log, stream = Service.of(request).log, f"{category}-{number}"
    events = await log.read(event_store.read_stream, stream, after=after, limit=limit + 1)
    if not events and not await log.read(event_store.stream_version, stream):
        raise nothing(category, number)
    shown = [_change(event, f"/{category}s/{number}", changed(event)) for event in events]
    return page(request, shown, limit=limit, key="version")


def nothing(category: str, number: int) -> Problem:
    return Problem(f"{category}-not-found", 404, f"There is no {category} {number}.")


async def _folded(log: Store, stream: str, fold: Fold[T], *, upto: int) -> T | None:
    state, version = None, 0
    while version < upto:
        events = await log.read(event_store.read_stream, stream, after=version, upto=upto, limit=PAGE)
        state, version = fold(state, events), events[-1].version
        await asyncio.sleep(0)
    return state


def _change(event: RecordedEvent, path: str, changed: dict[str, Any]) -> dict[str, Any]:
    command_id = event.metadata.get("command_id")
    links = {"self": f"{path}?version={event.version}"}
    if command_id:
        links["command"] = f"/commands/{command_id}"
    return {
        "version": event.version,
        "type": event.type,
        "changed": changed,
        "position": event.position,
        "recorded_at": event.recorded_at,
        "command_id": command_id,
        "links": links,
    }
