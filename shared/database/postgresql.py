"""PostgreSQL: writers of a store take turns at an advisory lock, so that the order of positions is that of commits."""

from collections.abc import Iterable
from functools import partial
from typing import Any
from zlib import crc32

from sqlalchemy import URL, Connection, Engine, create_engine, make_url

from shared.database.errors import Taken

LOCK_TIMEOUT = 10.0
"""Seconds that a writer waits for another one's transaction."""

IDLE_TIMEOUT = 8.0
"""Seconds after which the server ends a transaction in which nothing goes on: its process is frozen, or cut off."""

STATEMENT_TIMEOUT = 5.0
"""Seconds that a reader's statement may take."""

CONNECT_TIMEOUT = 3
"""Seconds in which a connection must be made."""

# Client and server each probe a silent connection, and give it up after six seconds: so a writer that is cut off
# loses its lock before others, who wait for it for LOCK_TIMEOUT, fail.
CLIENT = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 6000,
    "client_encoding": "UTF8",
}
SERVER = {
    "tcp_keepalives_idle": 3,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 6000,
    "TimeZone": "UTC",
}

KEPT_CONNECTIONS = 8
"""Connections that an engine keeps open; it opens more if need be."""

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Begins a writer's transaction, whatever the database's default is: at higher levels a read after the lock may see
the store as it was before.
"""

SNAPSHOT = ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SET LOCAL statement_timeout = 0", "SELECT 1")
"""Statements after which a reader sees the store as it is now, until its transaction ends."""


def writer(url: str, *, lock: str, durable: bool, create: bool, waits: bool) -> Engine:
    """An engine whose transactions take the advisory lock at their beginning. A database is never created."""
    engine = engine_of(
        url,
        lock_timeout=int(LOCK_TIMEOUT * 1000),
        idle_in_transaction_session_timeout=int(IDLE_TIMEOUT * 1000),
        synchronous_commit="on" if durable else "off",
    )
    # The holder of the lock computes the next positions, and keeps the lock until its commit can be seen by all.
    # (A second writer would fail on the primary key: positions are dense, none is ever left out.)
    begin = partial(_begin if waits else _begin_at_once, number_of(lock))
    engine.dialect.do_begin = begin  # type: ignore[method-assign]
    return engine


def reader(url: str) -> Engine:
    """An engine that can't write, and whose statements are bounded in time."""
    return engine_of(url, default_transaction_read_only="on", statement_timeout=int(STATEMENT_TIMEOUT * 1000))


def copy(cursor: Any, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    """COPY rows into a table: five times as fast as INSERTs, and as fast for a single row."""
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def size(connection: Connection, _: str) -> int:
    """The bytes of the database, which may have several stores."""
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar() or 0)


def number_of(lock: str) -> int:
    """The number by which PostgreSQL knows the advisory lock of this name."""
    return crc32(f"cqrs {lock}".encode())


def _begin(number: int, connection: Any) -> None:
    connection.execute(f"{BEGIN}; SELECT pg_advisory_xact_lock({number})")


def _begin_at_once(number: int, connection: Any) -> None:
    cursor = connection.execute(f"{BEGIN}; SELECT pg_try_advisory_xact_lock({number})")
    cursor.nextset()
    if cursor.fetchone() == (False,):
        connection.execute("ROLLBACK")
        raise Taken


def engine_of(url: str, **settings: object) -> Engine:
    """An engine with these settings of the server; outside of `begin` each statement is a transaction of its own."""
    parsed = make_url(url)
    client = {name: value for name, value in CLIENT.items() if name not in parsed.query}
    return create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        paramstyle="format",
        pool_size=KEPT_CONNECTIONS,
        hide_parameters=True,
        connect_args=client | {"options": _options(parsed, SERVER | settings)},
    )


def _options(url: URL, settings: dict[str, Any]) -> str:
    """The settings as libpq's `options`: those of the URL come last, and win."""
    ours = [f"-c {name}={value}" for name, value in settings.items()]
    return " ".join([*ours, *url.normalized_query.get("options", ())])
