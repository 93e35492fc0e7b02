"""One chunk of a projection: events past the checkpoint become rows, in a transaction that the caller opened."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from shared.database import scrubbing
from shared.database.errors import is_trouble
from shared.database.keepalive import Life
from shared.database.statements import attempt
from shared.domain.projections import ERASING
from shared.errors.reasons import reason_of
from shared.messages import Event, RecordedEvent
from shared.plain import Plain
from shared.projection import Projection
from shared.schemas.known import EVENTS
from shared.stores import checkpoints, event_store
from shared.stores.checkpoints import Stop
from shared.telemetry import logs

CHUNK = 5000
"""Events in one transaction, at most."""

log = logs.logger()


class Failure(NamedTuple):
    """The event that a projection can't apply, by its position, and why."""

    position: int
    error: BaseException


class Advance(NamedTuple):
    """The position that a projection reached, whether there may be more, and the events up to there."""

    reached: int
    more: bool
    events: Sequence[RecordedEvent] = ()


class LogIsShorter(Plain):
    """The read model has seen events that the log doesn't have: they aren't a pair."""


def advance(connection: Connection, reading: Connection, which: Projection, *, upto: int = sys.maxsize) -> Advance:
    """Project the next chunk, up to the position `upto` or an event that can't be applied, and move the checkpoint.

    `connection` writes the read model, `reading` reads the log. A paused projection doesn't move. Raises LogIsShorter.
    """
    position, paused, stopped = checkpoints.progress(connection, which.name)
    limit = min(1 if stopped else CHUNK, upto - position)
    if paused or limit <= 0:
        return Advance(position, more=False)
    events = event_store.read_all(reading, after=position, limit=limit)
    if not events:
        _check_that_log_reaches(reading, which, position)
        return Advance(position, more=False)
    # An event that this version doesn't know may be for this projection: passed over now, it would be for good.
    relevant = [each for each in events if each.type in which.events or each.type not in EVENTS]
    failure = _project(connection, which, relevant)
    reached = failure.position - 1 if failure else events[-1].position
    _keep_stop(connection, which, failure, stopped)
    checkpoints.move(connection, which.name, reached)
    if not ERASING.isdisjoint(each.type for each in relevant):
        scrubbing.mark(connection)
    more = not failure and (bool(stopped) or len(events) == CHUNK)
    return Advance(reached, more, events[: reached - position])


def _check_that_log_reaches(log: Connection, which: Projection, position: int) -> None:
    last = event_store.last_position(log)
    if last < position:
        raise LogIsShorter(f"the log ends at {last}, {which.name} is at {position} already")


def _project(connection: Connection, which: Projection, events: Sequence[RecordedEvent]) -> Failure | None:
    """Apply all the events, or those before the first that can't be applied, which is returned."""
    if not events:
        return None
    try:
        with attempt(connection):
            which.project(connection, _models(connection, which, events))
    except BaseException as error:
        if is_trouble(error):
            raise
        if len(events) == 1:
            return Failure(events[0].position, error)
        half = len(events) // 2
        return _project(connection, which, events[:half]) or _project(connection, which, events[half:])
    return None


def _models(
    connection: Connection, which: Projection, events: Iterable[RecordedEvent]
) -> Iterator[tuple[RecordedEvent, Event]]:
    # One at a time: thousands at once keep the garbage collector busy for a sixth of a rebuild.
    life = Life()
    for each in events:
        life.show(connection)
        yield each, each.model(which.events)


def _keep_stop(connection: Connection, which: Projection, failure: Failure | None, before: Stop | None) -> None:
    """Record where the projection stands still and why, and log it when that changes."""
    stop = failure and Stop(failure.position, reason_of(failure.error))
    if (stop and stop.event) == (before and before.event):
        return
    checkpoints.move_stop(connection, which.name, stop)
    if failure:
        log.error(
            "a projection stops before an event",
            projection=which.name,
            position=failure.position,
            exc_info=failure.error,
        )
    else:
        log.info("a projection goes on", projection=which.name)
