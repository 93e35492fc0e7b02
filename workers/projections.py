"""Projecting: events past the checkpoint to rows, the checkpoint with them, in one transaction of the read model."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from shared import event_store, projection
from shared.database import is_trouble
from shared.event_store import RecordedEvent
from shared.projection import Projection, Stop
from shared.users.read_model import users
from workers.errors import in_words

PROJECTIONS = {each.name: each for each in (users,)}

CHUNK = 1000
"""Events in one transaction, at most."""

log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """The event that a projection can't apply."""

    position: int
    error: BaseException


class LogIsShorter(Exception):
    """The read model has seen events that the log doesn't have: they aren't a pair."""


def try_to_catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Like `catch_up`, but trouble is logged and holds up this projection alone."""
    try:
        return catch_up(store, read_model, which)
    except BaseException as error:
        log.warning("%s waits for the next beat: %r", which.name, getattr(error, "orig", error))
        return False


def catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Project the next chunk past the checkpoint, up to an event that can't be applied. Tells if there may be more.

    Each event is projected once and in order, also when several workers are at it: they take turns.
    """
    with read_model.begin() as connection, store.connect() as reading:
        position = projection.checkpoint(connection, which.name)
        last = event_store.last_position(reading)
        if last == position:
            return False
        if last < position:
            raise LogIsShorter(f"the log ends at {last}, {which.name} is at {position} already")
        stopped = projection.stops(connection).get(which.name)
        limit = 1 if stopped else CHUNK
        events = event_store.read_all(reading, after=position, upto=last, types=which.events, limit=limit)
        more = len(events) == limit
        if failure := _project(connection, which, events):
            last, more = failure.position - 1, False
        elif more:
            last = events[-1].position
        _note(connection, which, failure, stopped)
        projection.move_checkpoint(connection, which.name, last)
    if last > position:
        log.info("projected %s=%d", which.name, last - position)
    return more


def _project(connection: Connection, which: Projection, events: Sequence[RecordedEvent]) -> Failure | None:
    """Apply the events: all of them, or those before the first that can't be."""
    if not events:
        return None
    try:
        with connection.begin_nested():
            which.project(connection, [(each, which.events[each.type].model_validate(each.data)) for each in events])
    except BaseException as error:
        if is_trouble(error):
            raise
        if len(events) == 1:
            return Failure(events[0].position, error)
        return next(filter(None, (_project(connection, which, [each]) for each in events)), None)
    return None


def _note(connection: Connection, which: Projection, failure: Failure | None, before: Stop | None) -> None:
    """Keep where it stands still and why, and log it when that changes."""
    stop = failure and Stop(failure.position, in_words(failure.error))
    if (stop and stop.event) == (before and before.event):
        return
    projection.move_stop(connection, which.name, stop)
    if failure:
        log.error("%s stops before event %d", which.name, failure.position, exc_info=failure.error)
    else:
        log.info("%s goes on", which.name)
