"""Scrubbing: what deleted rows leave behind in the files of a database is overwritten, once readers let it."""

import time
from collections.abc import Collection

from sqlalchemy import Connection, Engine, Table

from shared.database.sqlite import BUSY_TIMEOUT
from shared.database.statements import execute

LOOK_EVERY = 1.0
"""Seconds from one look to the next, at least."""

REST_FACTOR = 20
"""Times as long as a scrub took, until the next look: a large file is written anew in seconds, during which its writers
wait."""

READERS_TIMEOUT = 0.25
"""Seconds that emptying the log of a file waits for readers. Those who come meanwhile don't count."""

MARK = "to be scrubbed"

OWNED = "SELECT pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = to_regclass('{0}')"

MAINTAINED = "SELECT has_table_privilege('{0}', 'MAINTAIN')"
"""From PostgreSQL 17 on; owners have the right, too."""

COUNT = "SELECT pg_stat_force_next_flush()"
"""From PostgreSQL 15 on: has dead rows counted before they are vacuumed, and not after it."""

DEAD_ROWS = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = to_regclass('{0}')"


def mark(connection: Connection) -> None:
    """Note, in the transaction that deletes rows for good, that a scrub must follow."""
    if connection.dialect.name == "sqlite":
        execute(connection, f"PRAGMA user_version = {_marks(connection) + 1}")
    else:
        connection.info[MARK] = True


def is_marked(connection: Connection) -> bool:
    """Whether a scrub must follow. On PostgreSQL a connection that is new takes it that one must."""
    if connection.dialect.name == "sqlite":
        return _marks(connection) > 0
    marked: bool = connection.info.setdefault(MARK, True)
    return marked


class Scrubbing:
    """Scrubs the tables of a database after each `mark`, by whichever process that was.

    On SQLite the file remembers the marks, on PostgreSQL a connection. Who may not vacuum a table there leaves it to
    autovacuum.
    """

    def __init__(self, engine: Engine, tables: Collection[Table]) -> None:
        """`engine` writes the tables."""
        self._engine = engine
        self._tables = tables
        self._next = 0.0

    def look(self) -> bool:
        """Scrub if need be, if it is time; returns whether nothing is left to do. Raises DBAPIError.

        To be called again and again: others may hold it up.
        """
        began = time.monotonic()
        if began < self._next:
            return False
        with self._engine.connect() as connection:
            scrub = _scrub_file if connection.dialect.name == "sqlite" else self._vacuum
            done = not is_marked(connection) or scrub(connection)
        now = time.monotonic()
        self._next = now + max(LOOK_EVERY, REST_FACTOR * (now - began))
        return done

    def _vacuum(self, connection: Connection) -> bool:
        """Vacuum the tables. It is done once no dead row is left: those that a snapshot may still see must stay."""
        done, version = True, connection.dialect.server_version_info or ()
        if version >= (15,):
            execute(connection, COUNT)
        for table in self._tables:
            name = connection.dialect.identifier_preparer.format_table(table)
            [(may,)] = execute(connection, (MAINTAINED if version >= (17,) else OWNED).format(name))
            if may:
                # By itself it leaves the entries of a few dead rows in the indexes.
                execute(connection, f"VACUUM (INDEX_CLEANUP ON, SKIP_LOCKED) {name}")
                done = done and not execute(connection, DEAD_ROWS.format(name))[0][0]
        connection.info[MARK] = not done
        return done


def _scrub_file(connection: Connection) -> bool:
    """Write the file anew, and empty its log.

    `secure_delete` alone isn't enough: it overwrites what is deleted, but not copies of rows that were left in a page
    when rows moved to another one.
    """
    marks = _marks(connection)
    # The log comes first: while somebody reads, it would grow by the whole file each time.
    if not _empty_log(connection):
        return False
    execute(connection, "VACUUM")
    if not _empty_log(connection):
        return False
    with connection.begin():
        if _marks(connection) == marks:
            execute(connection, "PRAGMA user_version = 0")
    return True


def _empty_log(connection: Connection) -> bool:
    """Merge the write-ahead log into the file and empty it, since it holds what pages were; False if others read it."""
    execute(connection, f"PRAGMA busy_timeout = {READERS_TIMEOUT * 1000:.0f}")
    try:
        [(is_busy, _, _)] = execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        execute(connection, f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
    return not is_busy


def _marks(connection: Connection) -> int:
    """How often the file was marked since it was scrubbed: a field of its header that SQLite leaves to us."""
    [(marks,)] = execute(connection, "PRAGMA user_version")
    return int(marks)
