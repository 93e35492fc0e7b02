"""Projecting: events past the checkpoint to rows, the checkpoint with them, in one transaction of the read model."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from shared.database.engines import is_trouble
from shared.database.keepalive import Life
from shared.domain.aggregates import EVENTS
from shared.errors.reasons import Plain, reason_of
from shared.messages import Event, RecordedEvent
from shared.projection import Projection
from shared.stores import checkpoints, event_store
from shared.stores.checkpoints import Stop
from shared.telemetry import logs
from workers import measures, reporting

CHUNK = 5000
"""Events in one transaction, at most."""

log = logs.logger()


class Failure(NamedTuple):
    """The event that a projection can't apply."""

    position: int
    error: BaseException


class Advance(NamedTuple):
    """The position it came to, whether there may be more, and the events up to there."""

    reached: int
    more: bool
    events: Sequence[RecordedEvent] = ()


class LogIsShorter(Plain):
    """The read model has seen events that the log doesn't have: they aren't a pair."""


def try_to_catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Like `catch_up`, but trouble is logged and holds up this projection alone."""
    try:
        return catch_up(store, read_model, which)
    except BaseException as error:
        log.warning("a projection waits for the next beat", projection=which.name, error=reason_of(error))
        return False


def catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Project the next chunk past the checkpoint, up to an event that can't be applied. Tells if there may be more.

    Each event is projected once and in order, also when several workers are at it: they take turns. None is while the
    projection is paused.
    """
    began = time.time_ns()
    with read_model.begin() as connection, store.connect() as reading:
        done = advance(connection, reading, which)
    if done.events:
        measures.projected(which.name, done.events)
        reporting.projected(which, done.events, began=began, replayed=done.more)
    return done.more


def advance(connection: Connection, reading: Connection, which: Projection, *, upto: int = sys.maxsize) -> Advance:
    """Project the next chunk in a transaction that is open, up to a position; nothing if the projection is paused."""
    position, paused, stopped = checkpoints.stands(connection, which.name)
    limit = min(1 if stopped else CHUNK, upto - position)
    if paused or limit <= 0:
        return Advance(position, more=False)
    events = event_store.read_all(reading, after=position, limit=limit)
    if not events:
        _check_that_log_reaches(reading, which, position)
        return Advance(position, more=False)
    # One that this version knows nothing of may be for it: passed over now, it would be for good.
    its = [each for each in events if each.type in which.events or each.type not in EVENTS]
    failure = _project(connection, which, its)
    reached = failure.position - 1 if failure else events[-1].position
    _note(connection, which, failure, stopped)
    checkpoints.move_checkpoint(connection, which.name, reached)
    more = not failure and (bool(stopped) or len(events) == CHUNK)
    return Advance(reached, more, events[: reached - position])


def _check_that_log_reaches(log: Connection, which: Projection, position: int) -> None:
    last = event_store.last_position(log)
    if last < position:
        raise LogIsShorter(f"the log ends at {last}, {which.name} is at {position} already")


def _project(connection: Connection, which: Projection, events: Sequence[RecordedEvent]) -> Failure | None:
    """Apply the events: all of them, or those before the first that can't be."""
    if not events:
        return None
    try:
        with connection.begin_nested():
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


def _note(connection: Connection, which: Projection, failure: Failure | None, before: Stop | None) -> None:
    """Keep where it stands still and why, and log it when that changes."""
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
