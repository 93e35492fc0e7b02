"""The log and the inbox as the command reads them: what is personal is revealed."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import Connection, Engine

from shared.database import engines
from shared.settings import Settings
from shared.stores.subjects import Subjects, heed


@contextmanager
def people_of(settings: Settings) -> Iterator[Subjects]:
    """The people of an installation, for one block. Raises NoMasterKey or WrongMasterKey at once."""
    with closing(Subjects.of(settings)) as people:
        _ = people.blind
        yield people


@contextmanager
def reader(settings: Settings, url: str = "") -> Iterator[Engine]:
    """An engine that reads the event store, or the store with this URL, for one block."""
    url = url or settings.event_store
    with people_of(settings) as people, engines.briefly(heed(engines.reader(url), people)) as engine:
        yield engine


@contextmanager
def reading(settings: Settings, url: str = "") -> Iterator[Connection]:
    """A connection that reads the event store, or the store with this URL, for one block.

    Each statement sees what was committed before it.
    """
    with reader(settings, url) as engine, engine.connect() as connection:
        yield connection
