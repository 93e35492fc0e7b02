"""Shadow tables: rebuilt while the live ones serve, then swapped in."""

import fcntl
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote
from zlib import crc32

from sqlalchemy import Connection, Table, inspect, make_url

from shared import projection
from shared.database import engines, scrubbing, sqlite, statements
from shared.database.errors import Taken
from shared.schemas import projection_tables as tables_
from shared.schemas import rights
from shared.stores import checkpoints


class Shadow(Protocol):
    """The shadow of one projection's read model."""

    url: str
    """A database that has the projection's tables and its checkpoint by the names they always have."""

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes off the shadow, until the block or this process ends. Raises Taken if one is at it."""
        ...

    def make(self, tables: Sequence[Table]) -> None:
        """Make the shadow tables, all of them or none."""
        ...

    def remove(self) -> None:
        """Remove the shadow, if there is one."""
        ...

    def exists(self, live: Connection, /) -> bool:
        """Whether there is one; `live` reaches the read model's database."""
        ...

    def has_leftovers(self, live: Connection, tables: Sequence[Table], /) -> bool:
        """Whether it keeps rows that a rebuild deleted or replaced."""
        ...

    def empty(self, tables: Sequence[Table]) -> None:
        """Take away all rows, so that a rebuild that goes on begins anew. Not only the owner may do it."""
        ...

    def prepare(self, connection: Connection, tables: Sequence[Table], /) -> None:
        """Get ready to swap. To be called before the transaction that does."""
        ...

    def swap(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Put the shadow tables in the place of the live ones, in the connection's transaction."""
        ...


def shadow_of(read_model: str, name: str) -> Shadow:
    """The shadow of a read model, for the projection of that name."""
    return ShadowFile(read_model) if engines.is_local(read_model) else ShadowSchema(read_model, name)


def has_tables(shadow: Shadow, tables: Sequence[Table]) -> bool:
    """Whether the shadow has these tables in this very shape: another version may have made others."""
    if engines.is_local(shadow.url) and not sqlite.path_of(shadow.url).exists():
        return False
    with engines.reading(shadow.url) as connection:
        return tables_.are(connection, _all(tables))


def reached(shadow: Shadow) -> int:
    """The event up to which a shadow is filled; the highest number for what is left of one that was swapped."""
    with engines.reading(shadow.url) as connection:
        if not inspect(connection).has_table(checkpoints.table.name):
            return sys.maxsize
        return max(checkpoints.positions(connection).values(), default=0)


class ShadowFile:
    """A shadow on SQLite: a file beside the read model's, which isn't replaced, so connections to it stay good."""

    def __init__(self, read_model: str) -> None:
        path = sqlite.path_of(read_model)
        self._path = path.with_name(f"{path.name}-rebuild")
        self.url = f"sqlite:///{self._path}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._file("-lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Taken from None
            yield

    def make(self, tables: Sequence[Table]) -> None:
        with engines.briefly(engines.writer(self.url, lock=self.url, durable=False, create=True)) as engine:
            sqlite.keep_a_write_ahead_log(engine)
            with engine.begin() as connection:
                projection.metadata.create_all(connection, tables=_all(tables))

    def remove(self) -> None:
        for what in ("", "-wal", "-shm"):
            self._file(what).unlink(missing_ok=True)

    def exists(self, _: Connection) -> bool:
        return self._path.exists()

    def has_leftovers(self, _: Connection, __: Sequence[Table]) -> bool:
        with engines.reading(self.url) as connection:
            return scrubbing.is_marked(connection)

    def empty(self, _: Sequence[Table]) -> None:
        self.remove()

    def prepare(self, connection: Connection, _: Sequence[Table]) -> None:
        statements.execute(connection, f"ATTACH 'file:{quote(str(self._path))}?mode=rw' AS shadow")

    def swap(self, connection: Connection, tables: Sequence[Table]) -> None:
        for table in tables:
            table.drop(connection, checkfirst=True)
            table.create(connection)
            # As it stands, SQLite copies pages' worth of rows, and an index as it is: a million users in half a second.
            # It does so for SELECT * only: has_tables has seen that columns are in the same order.
            copy = f'INSERT INTO main."{table.name}" SELECT * FROM shadow."{table.name}"'  # noqa: S608 of the code
            connection.exec_driver_sql(copy)

    def _file(self, what: str) -> Path:
        return self._path.with_name(f"{self._path.name}{what}")


class ShadowSchema:
    """A shadow on PostgreSQL: a schema of its own, the only one that its connections see."""

    LOCK_TIMEOUT = 0.3
    """Seconds to wait for a table's readers, since all who come meanwhile wait behind."""

    def __init__(self, read_model: str, name: str) -> None:
        self._read_model = read_model
        with engines.reading(read_model) as connection:
            self._serving = str(connection.dialect.default_schema_name)
        self._projection = name
        self._name = f"rebuild_{self._serving}_{name}"  # others may serve in other schemas of the database
        self._before = f"{self._name}_before"
        url = make_url(read_model)
        options = (*url.normalized_query.get("options", ()), f'-c search_path="{self._name}"')
        self.url = url.update_query_dict({"options": options}).render_as_string(hide_password=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        number = crc32(f"cqrs {self._name}".encode())
        with engines.reading(self._read_model) as connection:
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar():
                raise Taken
            yield

    def make(self, tables: Sequence[Table]) -> None:
        with self._writing() as connection:
            connection.exec_driver_sql(f'CREATE SCHEMA "{self._name}"')
            projection.metadata.create_all(connection, tables=_all(tables))
            rights.give(connection, rights.of_store("read_model", tables))

    def remove(self) -> None:
        with self._writing() as connection:
            for name in (self._before, self._name):
                _drop(connection, name)

    def exists(self, live: Connection) -> bool:
        query = "SELECT count(*) FROM pg_namespace WHERE nspname IN (%s, %s)"
        return bool(live.exec_driver_sql(query, (self._name, self._before)).scalar())

    def has_leftovers(self, live: Connection, tables: Sequence[Table]) -> bool:
        before = self._tables_in(live, self._before, tables)
        return any(live.exec_driver_sql(f"SELECT EXISTS (SELECT FROM {each})").scalar() for each in before)  # noqa: S608

    def empty(self, tables: Sequence[Table]) -> None:
        engine = engines.writer(self.url, lock=self.url, durable=False)
        with engines.briefly(engine), engine.connect() as connection:
            with connection.begin():
                emptied = [
                    each for name in (self._before, self._name) for each in self._tables_in(connection, name, tables)
                ]
                for each in emptied:
                    connection.exec_driver_sql(f"DELETE FROM {each}")  # noqa: S608 of the code
                if connection.dialect.has_table(connection, checkpoints.table.name, self._name):
                    checkpoints.move(connection, self._projection, 0)
            for each in emptied:  # of whoever may not, it is left to autovacuum
                statements.execute(connection, f"VACUUM (INDEX_CLEANUP ON) {each}")

    @staticmethod
    def _tables_in(connection: Connection, schema: str, tables: Sequence[Table]) -> list[str]:
        """Those of the tables that the schema has, quoted."""
        found = _names(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
        return [f'"{schema}"."{table.name}"' for table in tables if table.name in found]

    def prepare(self, connection: Connection, tables: Sequence[Table]) -> None:
        # What is known of a table's values goes with it: without, the first queries would be planned for an empty one.
        for table in tables:
            statements.execute(connection, f'ANALYZE "{self._name}"."{table.name}"')

    def swap(self, connection: Connection, tables: Sequence[Table]) -> None:
        # Tables change places: to drop one takes longer the larger it is, and all who read it would wait.
        do, serving = connection.exec_driver_sql, self._serving
        for table in tables:  # which no reader waits for, and which ends an autovacuum, a second after it is asked for
            for schema in (self._serving, self._name):
                if connection.dialect.has_table(connection, table.name, schema):
                    do(f'LOCK TABLE "{schema}"."{table.name}" IN SHARE UPDATE EXCLUSIVE MODE')
            old, new = (f'"{schema}"."{table.name}"' for schema in (serving, self._name))
            rights.copy(connection, old, new, table.columns.keys())
        do(f"SET LOCAL lock_timeout = {self.LOCK_TIMEOUT * 1000:.0f}")
        do(f'CREATE SCHEMA "{self._before}"')
        rights.let_in(connection, f'"{self._before}"')
        for table in tables:
            do(f'ALTER TABLE IF EXISTS "{serving}"."{table.name}" SET SCHEMA "{self._before}"')
            do(f'ALTER TABLE "{self._name}"."{table.name}" SET SCHEMA "{serving}"')
        before = _types(connection, serving)
        for name in _types(connection, self._name):  # a column hangs on its type, which doesn't move with it
            if name in before:
                do(f'ALTER TYPE "{serving}"."{name}" SET SCHEMA "{self._before}"')
            do(f'ALTER TYPE "{self._name}"."{name}" SET SCHEMA "{serving}"')
        with connection.begin_nested() as attempt:  # it fails if a view, say, hangs on one of them
            _drop(connection, self._before)
            attempt.rollback()
        _drop(connection, self._name)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        engine = engines.writer(self.url, lock=self.url, durable=False)
        with engines.briefly(engine), engine.begin() as connection:
            yield connection


def _drop(connection: Connection, schema: str) -> None:
    """Drop a schema and what is in it, if there is one. Fails if anything elsewhere hangs on it, unlike CASCADE."""
    tables = _names(connection, "SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    for kind, names in (("TABLE", tables), ("TYPE", _types(connection, schema))):
        if names:
            connection.exec_driver_sql(f"DROP {kind} " + ", ".join(f'"{schema}"."{name}"' for name in names))
    connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{schema}"')


def _types(connection: Connection, schema: str) -> Sequence[str]:
    """The enums and domains of a schema."""
    query = (
        "SELECT typname FROM pg_type WHERE typnamespace = to_regnamespace(quote_ident(%s)) AND typtype IN ('e', 'd')"
    )
    return _names(connection, query, schema)


def _names(connection: Connection, query: str, schema: str) -> Sequence[str]:
    names: Sequence[str] = connection.exec_driver_sql(query, (schema,)).scalars().all()
    return names


def _all(tables: Sequence[Table]) -> list[Table]:
    return [*tables, checkpoints.table, checkpoints.stops_table]
