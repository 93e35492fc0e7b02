"""The log as the command reads it: what is personal is revealed."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import Connection, Engine

from shared.database import engines
from shared.settings import Settings
from shared.stores.subjects import Subjects, heed


@contextmanager
def reader(settings: Settings) -> Iterator[Engine]:
    """An engine that reads the event store, for one block."""
    with (
        closing(Subjects.of(settings)) as people,
        engines.briefly(heed(engines.reader(settings.event_store), people)) as engine,
    ):
        yield engine


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """A connection that reads the event store, for one block; each statement sees what was committed before it."""
    with reader(settings) as engine, engine.connect() as connection:
        yield connection
