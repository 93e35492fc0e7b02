"""Projecting: events past the checkpoint to rows, the checkpoint with them, in one transaction of the read model."""

import logging

from sqlalchemy import Engine

from shared import event_store, projection
from shared.projection import Projection
from shared.users.read_model import users

PROJECTIONS = {each.name: each for each in (users,)}

CHUNK = 1000
"""Events in one transaction, at most."""

log = logging.getLogger(__name__)


class LogIsShorter(Exception):
    """The read model has seen events that the log doesn't have: they aren't a pair."""


def try_to_catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Like `catch_up`, but an error is logged and stops this projection alone."""
    try:
        return catch_up(store, read_model, which)
    except Exception:
        log.exception("%s stands still", which.name)
        return False


def catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Project the next chunk past the checkpoint. Tells if there may be more.

    Each event is projected once and in order, also when several workers are at it: they take turns.
    """
    with read_model.begin() as connection, store.connect() as reading:
        position = projection.checkpoint(connection, which.name)
        last = event_store.last_position(reading)
        if last == position:
            return False
        if last < position:
            raise LogIsShorter(f"the log ends at {last}, {which.name} is at {position} already")
        events = event_store.read_all(reading, after=position, upto=last, types=which.events, limit=CHUNK)
        if events:
            typed = [(event, which.events[event.type].model_validate(event.data)) for event in events]
            which.project(connection, typed)
        more = len(events) == CHUNK
        projection.move_checkpoint(connection, which.name, events[-1].position if more else last)
    log.info("projected %s=%d", which.name, len(events))
    return more
