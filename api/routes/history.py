"""An aggregate as it was, and how it came to be what it is: folded from the log, whatever the aggregate."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from api.http.problems import Problem, invalid
from api.reading.store import Store
from api.service import Service
from shared.clock import written
from shared.domain.projections import ERASING
from shared.messages import RecordedEvent
from shared.projection import Projection
from shared.schemas import replay
from shared.stores import event_store

EVENTS_AT_ONCE = 500
"""Events folded at once: between two pages others have their turn."""

T = TypeVar("T")

Fold = Callable[[T | None, Sequence[RecordedEvent]], T | None]
"""What the next events of its stream make of an aggregate's row; None is one that isn't there yet."""


async def as_of(
    service: Service, category: str, number: int, fold: Fold[T], *, version: int | None, at: datetime | None
) -> tuple[T, Mapping[str, bool]]:
    """The aggregate at a version or at a time, now with None of both, and the marks of the events that it is made of.

    Raises Problem if there is or was none.
    """
    if version and at:
        raise invalid([{"loc": ("query", "at"), "msg": "Goes without a version: it is one or the other"}])
    stream = f"{category}-{number}"
    latest = await _latest(service.log, stream)
    last, erased = (latest.version, latest.type in ERASING) if latest else (0, False)
    wanted = version or last
    if wanted > last > 0 and not erased:
        detail = f"The {category} {number} is at version {last}: there is no version {version} of it yet."
        raise Problem("version-not-found", 404, detail)
    if last and at and at < datetime.now(UTC):
        wanted = await service.log.read(event_store.version_at, stream, written(at))
        if not wanted:
            raise Problem(f"{category}-not-found", 404, f"There was no {category} {number} yet at {written(at)}.")
    if erased and wanted >= last:
        raise gone(category, number)
    row, marks = None, dict[str, bool]()
    if last:
        async for events in _pages(service.log, stream, wanted):
            row = fold(row, events)
            for each in events:
                marks |= each.marks
            await asyncio.sleep(0)
    if row is None:
        raise nothing(category, number)
    return row, marks


async def as_projected(
    service: Service, projection: Projection, stream: str, find: Callable[[Connection, int], T | None], *, version: int
) -> T | None:
    """What `find` would have found in the projection once it had applied the stream up to the version."""
    with replay.alone(projection) as alone:
        async for events in _pages(service.log, stream, version):
            await asyncio.to_thread(replay.project, alone, projection, events)
        return find(alone, int(stream.rpartition("-")[2]))


async def missing(service: Service, category: str, number: int) -> Problem:
    """What is answered for an aggregate that isn't shown: a 410 if its subject was erased, else a 404."""
    latest = await _latest(service.log, f"{category}-{number}")
    return gone(category, number) if latest and latest.type in ERASING else nothing(category, number)


def nothing(category: str, number: int) -> Problem:
    """A 404 for an aggregate that there isn't."""
    return Problem(f"{category}-not-found", 404, f"There is no {category} {number}.")


def gone(category: str, number: int) -> Problem:
    """A 410 for an aggregate whose subject was erased."""
    return Problem(f"{category}-erased", 410, f"{category.capitalize()} {number} was erased.")


def change(event: RecordedEvent, path: str, changed: dict[str, Any]) -> dict[str, Any]:
    """An event of the aggregate at `path`, as a Change of `api.http.documentation`."""
    metadata = event.metadata
    command_id = metadata.get("command_id")
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
        "principal": metadata.get("principal"),
        "links": links,
        **event.marks,
    }


async def _latest(log: Store, stream: str) -> RecordedEvent | None:
    """The last event of a stream; None if there is no such stream."""
    return next(iter(await log.read(event_store.read_latest, stream=stream, limit=1)), None)


async def _pages(log: Store, stream: str, last: int) -> AsyncIterator[Sequence[RecordedEvent]]:
    """The events of a stream up to version `last`."""
    version = 0
    while version < last:
        events = await log.read(event_store.read_stream, stream, after=version, upto=last, limit=EVENTS_AT_ONCE)
        yield events
        version = events[-1].version
