"""The tables of projections: made as the code has them, and those that are found held against it."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Dialect, Float, MetaData, Table, UniqueConstraint
from sqlalchemy.exc import SAWarning

from shared import projection
from shared.projection import Projection
from shared.stores import checkpoints


class WrongTable(Exception):
    """Its message says what to do, in one line."""


class Shape(NamedTuple):
    """What there is to a table. Indexes of expressions are left out, since SQLite tells too little of them."""

    columns: list[tuple[str, str, bool]]
    key: list[str]
    unique: list[list[str]]
    indexes: list[tuple[Any, list[str], bool]]


def make(connection: Connection, which: Projection) -> None:
    """Those that aren't there yet; not one that was lost after it was filled: it would stay empty."""
    if not checkpoints.position_of(connection, which.name):
        projection.metadata.create_all(connection, tables=which.tables)


def compare(connection: Connection, projections: Collection[Projection]) -> WrongTable | None:
    """What is wrong with the tables of projections, all of which are in one database, if anything is."""
    found = _reflected(connection, {table.name for which in projections for table in which.tables})
    for which in projections:
        for table in which.tables:
            its = found.get(table.name)
            if its is None and not checkpoints.position_of(connection, which.name):
                return WrongTable(f"the read model has no table {table.name} yet: run `cqrs init`")
            if its is None or shape(its, table, connection.dialect) != shape(table, table, connection.dialect):
                anew = f"run `cqrs projections rebuild {which.name}`"
                return WrongTable(f"the read model's table {table.name} isn't as this version makes it: {anew}")
    return None


def are(connection: Connection, tables: Collection[Table]) -> bool:
    """Whether they are there, to the last column as the code has them."""
    found = _reflected(connection, {table.name for table in tables})
    dialect = connection.dialect
    return all(
        table.name in found and shape(its := found[table.name], its, dialect) == shape(table, table, dialect)
        for table in tables
    )


def types(connection: Connection, table: Table) -> dict[str, str]:
    """Of the columns that are found in a table of that name; none if it isn't there."""
    found = _reflected(connection, {table.name}).get(table.name)
    return {} if found is None else types_of(found, connection.dialect)


def types_of(table: Table, dialect: Dialect) -> dict[str, str]:
    return {each.name: _type(each, dialect) for each in table.columns}


def shape(table: Table, known: Table, dialect: Dialect) -> Shape:
    """Without what does no harm to a version that doesn't know it: columns that may be empty, more indexes."""
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


def _reflected(connection: Connection, names: Collection[str]) -> Mapping[str, Table]:
    found = MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of indexes of expressions
        found.reflect(connection, only=lambda name, _: name in names, resolve_fks=False)
    return found.tables
