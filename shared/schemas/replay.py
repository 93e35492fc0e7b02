"""Replay: a projection's tables filled anew, from the log or, in memory, from a few events."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Connection, Engine

from shared.database import sqlite
from shared.database.errors import is_trouble
from shared.errors.reasons import reason_of
from shared.messages import RecordedEvent
from shared.projection import Projection, metadata
from shared.schemas.folding import WrongEvent
from shared.stores import event_store
from shared.stores.event_store import pages

CHUNK = 5000
"""Events in one transaction."""


def replay(log: Connection, into: Engine, which: Projection, *, after: int = 0, upto: int) -> Iterator[int]:
    """Make the projection's tables and fill them with the events of the log at `after < position <= upto`.

    Yields the number of events of each page that it has read. Raises WrongEvent at the first that it can't apply.
    """
    metadata.create_all(into, tables=which.tables)
    for page in pages(event_store.read_between(log, after=after, upto=upto), CHUNK):
        if known := [each for each in page if each.type in which.events]:
            try:
                _apply(into, which, known)
            except Exception as error:
                if is_trouble(error):
                    raise
                raise _first_wrong(into, which, known, error) from error
        yield len(page)


def _apply(into: Engine, which: Projection, events: Sequence[RecordedEvent]) -> None:
    with into.begin() as connection:
        _project(connection, which, events)


def _project(connection: Connection, which: Projection, events: Sequence[RecordedEvent]) -> None:
    models = (each.model(which.events) for each in events)
    which.project(connection, zip(events, models, strict=True))


def _first_wrong(into: Engine, which: Projection, events: Sequence[RecordedEvent], error: Exception) -> WrongEvent:
    """The first event that can't be applied by itself; if each of them can, the first event of all."""
    for event in events:
        try:
            _apply(into, which, [event])
        except Exception as its:
            return WrongEvent(event, f"{which.name} can't apply it: {reason_of(its)}")
    return WrongEvent(events[0], f"{which.name} can't apply it together with those after it: {reason_of(error)}")


@contextmanager
def alone(which: Projection) -> Iterator[Connection]:
    """A connection to empty tables of the projection in memory, for one block."""
    with _memory().connect() as connection:
        metadata.create_all(connection, tables=which.tables)
        yield connection


def project(into: Connection, which: Projection, page: Sequence[RecordedEvent]) -> None:
    """Apply those events of a page whose types the projection asks for."""
    if known := [each for each in page if each.type in which.events]:
        _project(into, which, known)


@cache
def _memory() -> Engine:
    # One engine for all, since statements are compiled for each engine.
    return sqlite.in_memory()
