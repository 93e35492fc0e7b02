"""Tables of projections: made as the code has them, and compared with those that are found."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Dialect, Float, MetaData, Table, UniqueConstraint
from sqlalchemy.exc import SAWarning

from shared import projection
from shared.projection import Projection
from shared.stores import checkpoints


class WrongTable(Exception):
    """A projection's table isn't as this version makes it. The message says what to do, in one line."""


class Shape(NamedTuple):
    """The columns (name, type, nullable), the keys and the indexes (name, columns, unique) of a table.

    Indexes of expressions are left out: SQLite tells too little of them.
    """

    columns: list[tuple[str, str, bool]]
    key: list[str]
    unique: list[list[str]]
    indexes: list[tuple[Any, list[str], bool]]


def make(connection: Connection, which: Projection) -> None:
    """Make the tables that aren't there, unless the projection has begun: one that was lost then would stay empty."""
    if not checkpoints.position_of(connection, which.name):
        projection.metadata.create_all(connection, tables=which.tables)


def compare(connection: Connection, projections: Collection[Projection]) -> WrongTable | None:
    """What is wrong with the tables of projections in one database, if anything is."""
    found = _reflected(connection, [table for which in projections for table in which.tables])
    for which in projections:
        for table in which.tables:
            its = found.get(table.name)
            if its is None and not checkpoints.position_of(connection, which.name):
                return WrongTable(f"the read model has no table {table.name} yet: run `cqrs init`")
            if its is None or _shape(its, table, connection.dialect) != _shape(table, table, connection.dialect):
                anew = f"run `cqrs projections rebuild {which.name}`"
                return WrongTable(f"the read model's table {table.name} isn't as this version makes it: {anew}")
    return None


def are(connection: Connection, tables: Collection[Table]) -> bool:
    """Whether the tables are there, with these very columns: a column more, which `compare` ignores, counts too."""
    found, dialect = _reflected(connection, tables), connection.dialect
    return all(
        table.name in found and _shape(its := found[table.name], its, dialect) == _shape(table, table, dialect)
        for table in tables
    )


def types(connection: Connection, table: Table) -> dict[str, str]:
    """The type of each column that a table of this name is found with; none if it isn't there."""
    found = _reflected(connection, [table]).get(table.name)
    return {} if found is None else types_of(found, connection.dialect)


def types_of(table: Table, dialect: Dialect) -> dict[str, str]:
    """The type of each column, in the engine's words."""
    return {each.name: _type(each, dialect) for each in table.columns}


def _shape(table: Table, known: Table, dialect: Dialect) -> Shape:
    """Ignores nullable columns and indexes that `known` doesn't have, so a version can run beside a newer one."""
    columns = [each for each in table.columns if each.name in known.columns or not _may_be_empty(each)]
    indexes = [each for each in table.indexes if all(isinstance(its, Column) for its in each.expressions)]
    names = {each.name for each in known.indexes}
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    return Shape(
        [(each.name, _type(each, dialect), bool(each.nullable)) for each in columns],
        table.primary_key.columns.keys(),
        sorted(each.columns.keys() for each in unique),
        sorted(
            (each.name, each.columns.keys(), bool(each.unique)) for each in indexes if each.unique or each.name in names
        ),
    )


def _may_be_empty(column: Column[Any]) -> bool:
    return bool(column.nullable or column.server_default)


def _type(column: Column[Any], dialect: Dialect) -> str:
    if isinstance(column.type, Float):  # PostgreSQL has other names for it
        return "FLOAT"
    return column.type.compile(dialect)


def _reflected(connection: Connection, tables: Collection[Table]) -> Mapping[str, Table]:
    """Those tables of the database that have the names of these, by name."""
    names, found = {table.name for table in tables}, MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of indexes of expressions
        found.reflect(connection, only=lambda name, _: name in names, resolve_fks=False)
    return found.tables
