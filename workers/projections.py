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


def catch_up(store: Engine, read_model: Engine, which: Projection) -> None:
    """Project every event past the checkpoint, each once and in order, also when several workers are at it."""
    while projected := _project_chunk(store, read_model, which):
        log.info("projected %s=%d", which.name, projected)


def _project_chunk(store: Engine, read_model: Engine, which: Projection) -> int:
    with read_model.begin() as connection, store.connect() as reading:
        position = projection.checkpoint(connection, which.name)
        last = event_store.last_position(reading)
        if last == position:
            return 0
        events = event_store.read_all(reading, after=position, upto=last, types=which.events, limit=CHUNK)
        which.project(connection, [(event, which.events[event.type].model_validate(event.data)) for event in events])
        reached = events[-1].position if len(events) == CHUNK else last
        projection.move_checkpoint(connection, which.name, reached)
        return reached - position
