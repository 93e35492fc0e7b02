"""Orders: what operators recorded in the log for a projection to do. Its worker heeds those past the checkpoint."""

from collections.abc import Iterable

from sqlalchemy import Connection

from shared.messages import RecordedEvent
from shared.operations import rebuilds
from shared.operations.record import EVENTS, LogImported, ProjectionPaused, ProjectionResumed, RebuildRequested
from shared.stores import checkpoints, event_store

TYPES = {each.__name__ for each in (ProjectionPaused, ProjectionResumed, RebuildRequested, LogImported)}


def recorded(log: Connection, *, after: int) -> list[RecordedEvent]:
    """The events past a position that tell projections what to do."""
    return event_store.read_all(log, after=after, types=TYPES)


def requested(log: Connection, projection: str, *, after: int) -> RecordedEvent | None:
    """The last request to rebuild a projection past a position that counts."""
    return _last(recorded(log, after=after), projection)[1]


def obey(read_model: Connection, projection: str, events: Iterable[RecordedEvent]) -> bool:
    """Pause or resume a projection as the last of these events says, and note if it is to be rebuilt.

    Returns whether it goes on now. `read_model` has the projection's lock. Each event may come again.
    """
    pause, rebuild = _last(events, projection)
    if rebuild:
        rebuilds.request(read_model, projection, rebuild)
    if not pause:
        return False
    position, paused, _ = checkpoints.progress(read_model, projection)
    asked = pause.type == ProjectionPaused.__name__
    if asked != paused:
        checkpoints.move(read_model, projection, position, paused=asked)
    return paused and not asked


def _last(events: Iterable[RecordedEvent], projection: str) -> tuple[RecordedEvent | None, RecordedEvent | None]:
    """The last pause or resumption, and the last request of a rebuild. Those before an import are another log's."""
    pause = rebuild = None
    for event in events:
        if event.type in TYPES:
            match event.model(EVENTS):
                case LogImported():
                    pause = rebuild = None
                case ProjectionPaused(projection=its) | ProjectionResumed(projection=its) if its == projection:
                    pause = event
                case RebuildRequested(projection=its) if its == projection:
                    rebuild = event
    return pause, rebuild
