"""An aggregate as it was, and how it came to be what it is: folded from the log, whatever the aggregate."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import Connection

from api.http.documentation import TYPES
from api.http.paging import MAX_INTEGER, page
from api.http.problems import Problem, invalid
from api.reading.store import Store
from api.service import Service, turn
from shared import clock
from shared.clock import written
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.schemas import replay
from shared.stores import event_store

PAGE = 500
"""Events folded at once: between two pages others have their turn."""

T = TypeVar("T")
R = TypeVar("R")

Fold = Callable[[T | None, Sequence[RecordedEvent]], T | None]


def _moment(value: str) -> datetime:
    return clock.parsed(value.replace(" ", "+"))  # as it was typed: in a query a plus means a space


Moment = Annotated[datetime, BeforeValidator(_moment)]

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

    def change(event: RecordedEvent) -> dict[str, Any]:
        return _change(event, f"/{category}s/{number}", changed(event))

    async with turn(request, log):
        events = await log.read(event_store.read_stream, stream, after=after, limit=limit + 1)
        if not events and not await log.read(event_store.stream_version, stream):
            raise nothing(category, number)
        return await page(request, events, change, limit=limit, key="version")


def number_of(stream: str) -> int:
    return int(stream.rpartition("-")[2])


def nothing(category: str, number: int | str) -> Problem:
    return Problem(f"{category}-not-found", 404, f"There is no {category} {number}.")


async def as_projected(
    service: Service, which: str, stream: str, query: Callable[[Connection, int], R | None], *, version: int
) -> R | None:
    """What the query would have found in the projection once it had applied the stream up to the version."""
    with replay.alone(PROJECTIONS[which]) as alone:
        async for events in _pages(service.log, stream, upto=version):
            await asyncio.to_thread(replay.project, alone, PROJECTIONS[which], events)
        return query(alone, number_of(stream))


async def _folded(log: Store, stream: str, fold: Fold[T], *, upto: int) -> T | None:
    state = None
    async for events in _pages(log, stream, upto=upto):
        state = fold(state, events)
        await asyncio.sleep(0)
    return state


async def _pages(log: Store, stream: str, *, upto: int) -> AsyncIterator[Sequence[RecordedEvent]]:
    version = 0
    while version < upto:
        events = await log.read(event_store.read_stream, stream, after=version, upto=upto, limit=PAGE)
        yield events
        version = events[-1].version


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
