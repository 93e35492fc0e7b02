"""Pauses: a projection is paused and resumed by what operators recorded for it in the log, past its checkpoint."""

from collections.abc import Iterable

from sqlalchemy import Connection

from shared.messages import RecordedEvent
from shared.operations.record import EVENTS, LogImported, ProjectionPaused, ProjectionResumed
from shared.stores import checkpoints, event_store

TYPES = {each.__name__ for each in (ProjectionPaused, ProjectionResumed, LogImported)}


def recorded(log: Connection, *, after: int) -> list[RecordedEvent]:
    """The events past a position that tell projections what to do."""
    return event_store.read_all(log, after=after, types=TYPES)


def obey(read_model: Connection, projection: str, events: Iterable[RecordedEvent]) -> bool:
    """Pause or resume a projection as the last of these events says; returns whether it goes on now.

    `read_model` has the projection's lock. Pauses before an import are those of another installation.
    """
    asked = None
    for event in events:
        if event.type in TYPES:
            match event.model(EVENTS):
                case LogImported():
                    asked = None
                case ProjectionPaused(projection=its) | ProjectionResumed(projection=its) if its == projection:
                    asked = event.type == ProjectionPaused.__name__
    if asked is None:
        return False
    position, paused, _ = checkpoints.progress(read_model, projection)
    if asked != paused:
        checkpoints.move(read_model, projection, position, paused=asked)
    return paused and not asked
