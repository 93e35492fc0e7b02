"""SQLite: a file for each store, which has one write lock."""

import os
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3.dbapi2 as sqlite3
from prometheus_client import Histogram
from sqlalchemy import Connection, Engine, NullPool, QueuePool, StaticPool, create_engine, event
from sqlalchemy.exc import DisconnectionError

from shared.database.errors import Taken, code_of
from shared.telemetry import metrics

BUSY_TIMEOUT = 10.0
"""Seconds a writer waits for another one's transaction."""

WRITER_CACHE = 16_384
"""KiB of pages that a writer keeps: a chunk's rows may lie all over a table."""

READ_BUSY_TIMEOUT = 0.25
"""Seconds a reader waits. In WAL mode readers wait for nothing but recovery."""

PAGES = 1000
"""Copied at once."""

GUARDED = ("trusted_schema = OFF", "cell_size_check = ON")
"""A file may come from anywhere: functions in its schema that have effects don't run, pages are looked at when read."""

SNAPSHOT = ("BEGIN", "SELECT 1 FROM sqlite_schema LIMIT 1")
"""What a reader sees stays as it is from its first look on."""


def writer(url: str, *, durable: bool, create: bool, waits: bool) -> Engine:
    synchronous = "FULL" if durable else "NORMAL"
    pragmas = (f"synchronous = {synchronous}", f"cache_size = {-WRITER_CACHE}")
    engine = engine_of(url, pragmas, timeout=BUSY_TIMEOUT, mode="rwc" if create else "rw")
    begin = partial(_begin, metrics.BUSY.labels(path_of(url).stem)) if waits else _begin_at_once
    engine.dialect.do_begin = begin  # type: ignore[method-assign,assignment]
    return engine


def reader(url: str) -> Engine:
    return engine_of(url, ("query_only = ON",), timeout=READ_BUSY_TIMEOUT, mode="rw")


def in_memory() -> Engine:
    """A database that is gone with the engine."""
    return create_engine("sqlite://", module=sqlite3, poolclass=StaticPool)


def in_memory_each() -> Engine:
    """Each connection has an empty database of its own, which ends with it."""

    def connect() -> Any:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    return create_engine("sqlite://", module=sqlite3, creator=connect, poolclass=NullPool, hide_parameters=True)


def keep_a_write_ahead_log(engine: Engine) -> None:
    """From now on; the file remembers it."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA journal_mode = WAL")


def copy(connection: Connection, path: Path, show: Callable[[int, int], None]) -> None:
    """What the connection sees into a new file; `show` gets the pages copied, and all."""
    source: Any = connection.connection.driver_connection
    with closing(_open(str(path))) as target:
        source.backup(target, pages=PAGES, progress=lambda _, left, total: show(total - left, total))


def is_used(path: Path) -> bool:
    """Whether another connection has the file open, even if it does nothing; if not, its log is folded into it."""
    with closing(_open(str(path), timeout=0)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            return bool(code_of(error) == sqlite3.SQLITE_BUSY)
    return False


def path_of(url: str) -> Path:
    """The file of a `sqlite:///` URL, which is taken as it stands: a folder's name may hold `?` and `%`."""
    return Path(url.removeprefix("sqlite:///"))


def engine_of(url: str, pragmas: tuple[str, ...], *, timeout: float, mode: str) -> Engine:
    path = path_of(url)

    def connect() -> Any:
        if mode == "rwc":
            _make(path)
        connection = _open(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=timeout, check_same_thread=False)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", module=sqlite3, creator=connect, poolclass=QueuePool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def remember_file(_: Any, record: Any) -> None:
        record.info["file"] = _inode(path)

    @event.listens_for(engine, "checkout")
    def same_file(_: Any, record: Any, __: Any) -> None:
        # An open file that was deleted or replaced would take writes that nobody finds again.
        if _inode(path) != record.info["file"]:
            raise DisconnectionError

    return engine


def _open(name: str, **how: Any) -> Any:
    connection = sqlite3.connect(name, isolation_level=None, **how)
    for pragma in GUARDED:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _make(path: Path) -> None:
    """Its owner's alone; SQLite gives what it makes beside it the same mode. If it can't be, SQLite says why."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # exclusive: to close a file drops SQLite's locks on it


def _begin(busy: Histogram, connection: Any) -> None:
    try:
        _begin_at_once(connection)
    except Taken:
        with busy.time():
            _begin_immediate(connection)


def _begin_immediate(connection: Any) -> None:
    # A deferred transaction that reads and then writes fails with SQLITE_BUSY at once, without
    # waiting, if another writer came in between: https://sqlite.org/lang_transaction.html
    connection.execute("BEGIN IMMEDIATE")


def _begin_at_once(connection: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        _begin_immediate(connection)
    except sqlite3.OperationalError as error:
        if code_of(error) == sqlite3.SQLITE_BUSY:
            raise Taken from None
        raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")


def _inode(path: Path) -> int | None:
    """None if there is none to be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
