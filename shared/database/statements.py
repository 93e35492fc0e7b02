"""Statements of SQLAlchemy, run on SQLite and PostgreSQL at the speed of the driver."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ClauseElement,
    Connection,
    Dialect,
    Integer,
    LargeBinary,
    SelectBase,
    String,
    Table,
    TableValuedAlias,
    UpdateBase,
    insert,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from shared.database import postgresql
from shared.database.errors import is_trouble

BigInt = BigInteger().with_variant(Integer, "sqlite")
"""An integer of 64 bits; on SQLite INTEGER, since a primary key of this type is the rowid itself."""


def fetch(connection: Connection, statement: SelectBase | UpdateBase, **values: object) -> list[tuple[Any, ...]]:
    """The statement's rows, as the driver gives them. SQLAlchemy's own way takes ten times as long for a small one."""
    sql, names, own = _compiled(statement, connection.dialect)
    values = own | values
    return _run(connection, sql, lambda cursor: cursor.execute(sql, [values[name] for name in names]))


def execute(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL as it is, and return its rows; unlike SQLAlchemy's own way it begins no transaction."""
    return _run(connection, sql, lambda cursor: cursor.execute(sql))


def execute_rows(connection: Connection, statement: UpdateBase, rows: Collection[tuple[object, ...]]) -> None:
    """Run the statement for each row. A row has the values in the order in which the SQL has the parameters."""
    if rows:
        sql = _compiled(statement, connection.dialect).sql
        _run(connection, sql, lambda cursor: cursor.executemany(sql, rows))


def insert_rows(connection: Connection, table: Table, rows: Collection[tuple[object, ...]]) -> None:
    """Insert rows, each with a value for each column in the table's order."""
    if connection.dialect.name == "sqlite":
        execute_rows(connection, _insert(table), rows)
    elif rows:
        # Columns are named: a table may have got one more that this version doesn't know.
        sql = f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN"
        _run(connection, sql, lambda cursor: postgresql.copy(cursor, sql, rows))


def upsert_rows(connection: Connection, table: Table, rows: Collection[tuple[object, ...]]) -> None:
    """Insert rows as `insert_rows` does; a row replaces the one that has the same primary key."""
    execute_rows(connection, _upsert(table, connection.dialect.name), rows)


@contextmanager
def attempt(connection: Connection) -> Iterator[None]:
    """A savepoint: if the block raises, what it wrote is undone. The store's trouble ends the whole transaction."""
    execute(connection, "SAVEPOINT attempt")
    try:
        yield
    except BaseException as error:
        if not is_trouble(error):
            execute(connection, "ROLLBACK TO SAVEPOINT attempt")
        raise
    execute(connection, "RELEASE SAVEPOINT attempt")


def entries(parameter: BindParameter[Any]) -> TableValuedAlias:
    """A table of the `key`s and `value`s of a JSON object, which is the parameter: one statement for any number."""
    return _Entries(parameter).table_valued("key", "value")


class bytes_of(GenericFunction[bytes]):  # noqa: N801 a function of SQL
    """The bytes of a text as it is stored, in UTF-8. On SQLite they may be none."""

    type = LargeBinary()
    inherit_cache = True


class member(GenericFunction[str]):  # noqa: N801 a function of SQL
    """The text that a JSON object, stored as a text, has under a name; NULL if it has none."""

    type = String()
    inherit_cache = True


class unhex(GenericFunction[bytes]):  # noqa: N801 a function of SQL
    """The bytes that hexadecimal digits stand for."""

    type = LargeBinary()
    inherit_cache = True


@compiles(bytes_of)
def _bytes_of_text(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(bytes_of, "postgresql")
def _bytes_of_text_there(element: Any, compiler: Any, **options: Any) -> str:
    return f"convert_to({compiler.process(element.clauses, **options)}, 'UTF8')"


@compiles(member)
def _member_of_text(element: Any, compiler: Any, **options: Any) -> str:
    json, name = (compiler.process(each, **options) for each in element.clauses)
    return f"json_extract({json}, '$.' || {name})"


@compiles(member, "postgresql")
def _member_of_text_there(element: Any, compiler: Any, **options: Any) -> str:
    json, name = (compiler.process(each, **options) for each in element.clauses)
    return f"(CAST({json} AS JSON) ->> {name})"


@compiles(unhex, "postgresql")
def _unhex_there(element: Any, compiler: Any, **options: Any) -> str:
    return f"decode({compiler.process(element.clauses, **options)}, 'hex')"


class _Entries(GenericFunction[Any]):
    name = "json_each"
    inherit_cache = True


@compiles(_Entries, "postgresql")
def _entries_of_text(element: Any, compiler: Any, **options: Any) -> str:
    [parameter] = element.clauses
    return f"json_each_text(CAST({compiler.process(parameter, **options)} AS JSON))"


def _run(connection: Connection, sql: str, do: Callable[[Any], object]) -> list[tuple[Any, ...]]:
    cursor: Any = connection.connection.cursor()
    try:
        do(cursor)
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
    except connection.dialect.loaded_dbapi.Error as error:
        connection._handle_dbapi_exception(error, sql, None, None, None)  # noqa: SLF001 what SQLAlchemy does itself
    return rows


class _Compiled(NamedTuple):
    """SQL, the names of its parameters in their order, and the values that the statement itself has for them."""

    sql: str
    names: Sequence[str]
    own: dict[str, object]


@lru_cache
def _compiled(statement: ClauseElement, dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return _Compiled(str(compiled), compiled.positiontup or (), dict(compiled.params))


@cache
def _insert(table: Table) -> UpdateBase:
    return insert(table)


@cache
def _upsert(table: Table, dialect: str) -> UpdateBase:
    new: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    keys = list(table.primary_key)
    others = {column.name: new.excluded[column.name] for column in table.columns if column not in keys}
    statement: UpdateBase = new.on_conflict_do_update(index_elements=keys, set_=others)
    return statement
