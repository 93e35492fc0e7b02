"""The tables of projections: made as the code has them, and those that are found held against it."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Dialect, Float, MetaData, Table, UniqueConstraint
from sqlalchemy.exc import SAWarning

from shared import projection
from shared.projection import Projection


class Shape(NamedTuple):
    """What there is to a table. Indexes of expressions are left out, since SQLite tells too little of them."""

    columns: list[tuple[str, str, bool]]
    key: list[str]
    unique: list[list[str]]
    indexes: list[tuple[Any, list[str], bool]]


def make(connection: Connection, which: Projection) -> None:
    """Those that aren't there yet; not one that was lost after it was filled: it would stay empty."""
    if not projection.checkpoint(connection, which.name):
        projection.metadata.create_all(connection, tables=which.tables)


def wrong(connection: Connection, projections: Collection[Projection]) -> str | None:
    """What is wrong with their tables, which are in one database, if anything is, and what to do."""
    names = {table.name for which in projections for table in which.tables}
    found = _reflected(connection, names)
    for which in projections:
        for table in which.tables:
            its = found.get(table.name)
            if its is None and not projection.checkpoint(connection, which.name):
                return f"the read model has no table {table.name} yet: run `cqrs init`"
            if its is None or shape(its, connection.dialect) != shape(table, connection.dialect):
                anew = f"run `cqrs projections rebuild {which.name}`"
                return f"the read model's table {table.name} isn't as this version makes it: {anew}"
    return None


def shape(table: Table, dialect: Dialect) -> Shape:
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    plain = [each for each in table.indexes if all(isinstance(its, Column) for its in each.expressions)]
    return Shape(
        [(each.name, _type(each, dialect), bool(each.nullable)) for each in table.columns],
        table.primary_key.columns.keys(),
        sorted(each.columns.keys() for each in unique),
        sorted((each.name, each.columns.keys(), bool(each.unique)) for each in plain),
    )


def _reflected(connection: Connection, names: Collection[str]) -> Mapping[str, Table]:
    found = MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of indexes of expressions
        found.reflect(connection, only=lambda name, _: name in names, resolve_fks=False)
    return found.tables


def _type(column: Column[Any], dialect: Dialect) -> str:
    if isinstance(column.type, Float):  # PostgreSQL has other names for it
        return "FLOAT"
    return column.type.compile(dialect)
