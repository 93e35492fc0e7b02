"""Engines for the three stores, and how their tables are made."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3.dbapi2 as sqlite3
from sqlalchemy import (
    ClauseElement,
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    Insert,
    MetaData,
    QueuePool,
    Select,
    Table,
    UpdateBase,
    create_engine,
    event,
    insert,
)
from sqlalchemy.exc import DatabaseError, DBAPIError, DisconnectionError, InternalError, OperationalError
from sqlalchemy.sql.compiler import SQLCompiler

BUSY_TIMEOUT = 10.0
"""Seconds a writer waits for another one's transaction."""

WRITER_CACHE = 16_384
"""KiB of pages that a writer keeps: a chunk's rows may lie all over a table."""

READ_BUSY_TIMEOUT = 0.25
"""Seconds a reader waits. In WAL mode readers wait for nothing but recovery."""


def writer(url: str, *, durable: bool = True, create: bool = False) -> Engine:
    """An engine whose every transaction takes the write lock at once and, if `durable`, survives power loss.

    Without `create` a file that isn't there is an OperationalError, not a new empty database.
    """
    synchronous = "FULL" if durable else "NORMAL"
    pragmas = (f"synchronous = {synchronous}", f"cache_size = {-WRITER_CACHE}")
    engine = _engine(url, pragmas, timeout=BUSY_TIMEOUT, mode="rwc" if create else "rw")
    engine.dialect.do_begin = _begin_immediate  # type: ignore[method-assign,assignment]
    return engine


def reader(url: str) -> Engine:
    """An engine that can't write; each statement sees what was committed before it."""
    return _engine(url, ("query_only = ON",), timeout=READ_BUSY_TIMEOUT, mode="rw")


def create_tables(url: str, metadata: MetaData) -> None:
    """Make the tables that aren't there yet. Safe to run again, and from several processes at once."""
    engine = writer(url, create=True)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA journal_mode = WAL")
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()


def fetch(connection: Connection, statement: Select[Any], **values: object) -> list[tuple[Any, ...]]:
    """The rows as the driver gives them. What SQLAlchemy does around a statement costs ten times the statement."""
    sql, names, own = _compiled(statement, connection.dialect)
    values = own | values
    return _run(connection, "execute", sql, [values[name] for name in names])


def execute_rows(connection: Connection, statement: UpdateBase, rows: Collection[tuple[object, ...]]) -> None:
    """Execute it for each row, which has its values in the order in which the SQL has its parameters."""
    if rows:
        _run(connection, "executemany", _compiled(statement, connection.dialect)[0], rows)


def insert_rows(connection: Connection, table: Table, rows: Collection[tuple[object, ...]]) -> None:
    """Rows have a value for each column, in the table's order."""
    execute_rows(connection, _insert(table), rows)


@contextmanager
def attempt(connection: Connection) -> Iterator[None]:
    """If it raises, what was written in it is undone; after trouble its transaction is over anyway."""
    _run(connection, "execute", "SAVEPOINT attempt", ())
    try:
        yield
    except BaseException as error:
        if not is_trouble(error):
            _run(connection, "execute", "ROLLBACK TO SAVEPOINT attempt", ())
        raise
    _run(connection, "execute", "RELEASE SAVEPOINT attempt", ())


def is_trouble(error: BaseException) -> bool:
    """Full, locked, read-only, corrupt, gone: the store's fault, not that of what was to be written.

    It is these very types: subclasses and siblings come from the values, and SQLITE_ERROR from the statement.
    """
    if type(error) not in {OperationalError, InternalError, DatabaseError}:
        return False
    assert isinstance(error, DBAPIError)
    return bool(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_ERROR)


def path_of(url: str) -> Path:
    """The file of a `sqlite:///` URL, which is taken as it stands: a folder's name may hold `?` and `%`."""
    return Path(url.removeprefix("sqlite:///"))


def _engine(url: str, pragmas: tuple[str, ...], *, timeout: float, mode: str) -> Engine:
    path = path_of(url)

    def connect() -> Any:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
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

    @event.listens_for(engine, "handle_error")
    def open_anew(context: ExceptionContext) -> None:
        # A file that was read-only when it was opened stays so for the connection, a bad page stays in its cache,
        # and a full disk ends its transaction, savepoints included: what comes after trouble begins with a new one.
        if context.sqlalchemy_exception and is_trouble(context.sqlalchemy_exception):
            context.is_disconnect = True

    return engine


def _begin_immediate(connection: Any) -> None:
    # A deferred transaction that reads and then writes fails with SQLITE_BUSY at once, without
    # waiting, if another writer came in between: https://sqlite.org/lang_transaction.html
    connection.execute("BEGIN IMMEDIATE")


def _run(connection: Connection, method: str, sql: str, values: Collection[object]) -> list[tuple[Any, ...]]:
    cursor: Any = connection.connection.cursor()
    try:
        getattr(cursor, method)(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    except connection.dialect.loaded_dbapi.Error as error:
        connection._handle_dbapi_exception(error, sql, None, None, None)  # noqa: SLF001 as if it had run it itself
    return rows


@lru_cache
def _compiled(statement: ClauseElement, dialect: Dialect) -> tuple[str, Sequence[str], dict[str, object]]:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), compiled.positiontup or (), dict(compiled.params)


@lru_cache
def _insert(table: Table) -> Insert:
    return insert(table)


def _inode(path: Path) -> int | None:
    """None if there is none to be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
