"""SQLite: each store is a file, which has one write lock."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3.dbapi2 as sqlite3
from prometheus_client import Histogram
from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import DisconnectionError

from shared.database.errors import Taken, code_of
from shared.database.turns import Turn, turn_at
from shared.telemetry import metrics

BUSY_TIMEOUT = 10.0
"""Seconds that a writer waits for another one's transaction."""

LEAST_WAIT = 0.001
"""Seconds from which it is taken to have waited. SQLite looks again after a millisecond at the earliest."""

WRITER_CACHE_KIB = 16_384
"""KiB of pages that a writer keeps in memory: a chunk's rows may lie all over a table."""

READ_BUSY_TIMEOUT = 0.25
"""Seconds that a reader waits for a lock: in WAL mode, only while another connection recovers the file."""

COPIED_PAGES = 1000
"""Pages that a backup copies at once."""

GUARDED = ("trusted_schema = OFF", "cell_size_check = ON")
"""Pragmas against files that come from anywhere: no functions with effects in schemas, pages checked when read."""

SNAPSHOT = ("BEGIN", "SELECT 1 FROM sqlite_schema LIMIT 1")
"""Statements after which a reader sees the store as it is now, until its transaction ends."""


def writer(url: str, *, lock: str, durable: bool, create: bool, waits: bool) -> Engine:
    """An engine whose transactions take the file's one write lock at their beginning, whatever `lock` is.

    Within a process those of a file take turns before they ask for it.
    """
    synchronous = "FULL" if durable else "NORMAL"
    pragmas = [f"synchronous = {synchronous}", f"cache_size = {-WRITER_CACHE_KIB}", "secure_delete = ON"]
    if not waits:  # set once: a pragma is compiled anew each time, which takes longer than to begin and to commit
        pragmas.append("busy_timeout = 0")
    engine = engine_of(url, pragmas, timeout=BUSY_TIMEOUT, mode="rwc" if create else "rw")
    turn, dialect = turn_at(path_of(url)), engine.dialect
    begin = partial(_begin, turn, metrics.BUSY.labels(path_of(url).stem)) if waits else partial(_begin_at_once, turn)
    dialect.do_begin = begin  # type: ignore[method-assign]
    dialect.do_commit = turn.leaving(dialect.do_commit)  # type: ignore[method-assign,assignment]
    dialect.do_rollback = turn.leaving(dialect.do_rollback)  # type: ignore[method-assign,assignment]

    @event.listens_for(engine, "close")
    def leave(driver: Any, _: Any) -> None:
        turn.leave(driver)

    return engine


def reader(url: str) -> Engine:
    """An engine that can't write."""
    return engine_of(url, ("query_only = ON",), timeout=READ_BUSY_TIMEOUT, mode="rw")


def in_memory() -> Engine:
    """An engine for databases in memory: each connection has its own, which is empty at first and ends with it."""

    def connect() -> Any:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    return create_engine("sqlite://", module=sqlite3, creator=connect, poolclass=NullPool, hide_parameters=True)


def keep_a_write_ahead_log(engine: Engine) -> None:
    """Turn the write-ahead log on, for good: the file remembers it."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA journal_mode = WAL")


def copy(connection: Connection, path: Path, show: Callable[[int, int], None]) -> None:
    """Copy what the connection sees into a new file. `show` gets the pages copied, and how many there are."""
    source: Any = connection.connection.driver_connection
    with closing(_open(str(path))) as target:
        source.backup(target, pages=COPIED_PAGES, progress=lambda _, left, total: show(total - left, total))


def is_used(path: Path) -> bool:
    """Whether another connection, even an idle one, has the file open. If none has, merges the log into the file."""
    with closing(_open(str(path), timeout=0)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            return bool(code_of(error) == sqlite3.SQLITE_BUSY)
    return False


def path_of(url: str) -> Path:
    """The file of a `sqlite:///` URL. `?` and `%` are taken as they are, since a folder's name may hold them."""
    return Path(url.removeprefix("sqlite:///"))


def size(_: Connection, url: str) -> int:
    """The bytes of the file and of those beside it."""
    path = path_of(url)
    files = [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-shm")]
    return sum(each.stat().st_size for each in files if each.exists())


def engine_of(url: str, pragmas: Iterable[str], *, timeout: float, mode: str) -> Engine:
    """An engine whose connections have these pragmas; `mode` as in SQLite's URIs, `timeout` (s) for a lock.

    A connection whose file was deleted or replaced is closed when it would be used again.
    """
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
    """Make the file, for its owner alone; SQLite gives the log the same mode. If this fails, SQLite says why later."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # exclusive: to close a file drops SQLite's locks on it


def _begin(turn: Turn, busy: Histogram, connection: Any) -> None:
    """Begin a transaction that has the lock. If it must wait for the lock, `busy` gets the time (s)."""
    began = time.monotonic()
    try:
        if not turn.take(connection.dbapi_connection, within=BUSY_TIMEOUT):
            raise _locked()
        _begin_immediate(turn, connection)
    finally:
        waited = time.monotonic() - began
        if waited >= LEAST_WAIT:
            busy.observe(waited)


def _begin_at_once(turn: Turn, connection: Any) -> None:
    """Begin a transaction that has the lock. Raises Taken instead of waiting for it."""
    if not turn.take(connection.dbapi_connection, within=0):
        raise Taken
    try:
        _begin_immediate(turn, connection)
    except sqlite3.OperationalError as error:
        if code_of(error) == sqlite3.SQLITE_BUSY:
            raise Taken from None
        raise


def _begin_immediate(turn: Turn, connection: Any) -> None:
    """Begin a transaction once no other process has the lock. Gives the turn up if it can't."""
    # A deferred transaction that reads and then writes fails with SQLITE_BUSY at once, without
    # waiting, if another writer came in between: https://sqlite.org/lang_transaction.html
    try:
        connection.execute("BEGIN IMMEDIATE")
    except BaseException:
        turn.leave(connection.dbapi_connection)
        raise


def _locked() -> Exception:
    """What SQLite raises when another process has had the lock for too long."""
    error: Exception = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY  # type: ignore[attr-defined]
    return error


def _inode(path: Path) -> int | None:
    """The file's inode; None if the file can't be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
