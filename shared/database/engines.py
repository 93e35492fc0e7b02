"""Engines for the stores, and connections for one look or one change, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from sqlalchemy import Connection, Engine, ExceptionContext, event

from shared.database import postgresql, sqlite
from shared.database.errors import is_trouble


def writer(url: str, *, lock: str, durable: bool = True, create: bool = False, waits: bool = True) -> Engine:
    """An engine whose transactions have the store to themselves from their beginning.

    Writers with the same `lock` take turns; on SQLite, all writers of a file. With `waits=False` a transaction raises
    Taken instead of waiting for its turn. `durable`: what was committed survives a loss of power. Without `create` a
    file that isn't there is an OperationalError, not a new empty database.
    """
    return _watched(_module(url).writer(url, lock=lock, durable=durable, create=create, waits=waits))


def reader(url: str) -> Engine:
    """An engine that can't write; each statement sees what was committed before it."""
    return _watched(_module(url).reader(url))


@contextmanager
def briefly(engine: Engine) -> Iterator[Engine]:
    """The engine for one block; then its connections are closed."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection that can't write, for one block; each statement sees what was committed before it."""
    with briefly(reader(url)) as engine, engine.connect() as connection:
        yield connection


@contextmanager
def writing(url: str, *, lock: str, durable: bool = True, create: bool = False) -> Iterator[Connection]:
    """One transaction that has the store to itself, as a `writer`'s have; committed at the end of the block."""
    with briefly(writer(url, lock=lock, durable=durable, create=create)) as engine, engine.begin() as connection:
        yield connection


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """A connection that can't write, and sees the store as it is now until it is closed, however long that takes."""
    with reading(url) as connection:
        for statement in _module(url).SNAPSHOT:
            connection.exec_driver_sql(statement)
        yield connection


def size(connection: Connection, url: str) -> int:
    """The bytes that the store takes: its file with the log beside it, or its whole database."""
    found: int = _module(url).size(connection, url)
    return found


def is_local(url: str) -> bool:
    """Whether the store is a file, and not on a server that may be far away."""
    return url.startswith("sqlite:")


def _module(url: str) -> ModuleType:
    return sqlite if is_local(url) else postgresql


def _watched(engine: Engine) -> Engine:
    @event.listens_for(engine, "handle_error")
    def open_anew(context: ExceptionContext) -> None:
        # A file that was read-only when it was opened stays so for the connection, a bad page stays in its cache,
        # and a full disk ends its transaction, savepoints included: after trouble the pool makes a new connection.
        if context.sqlalchemy_exception and is_trouble(context.sqlalchemy_exception):
            context.is_disconnect = True

    return engine
