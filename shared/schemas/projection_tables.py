"""Tables of projections: created and extended as the code declares them, and compared with those in the database."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Dialect, Float, MetaData, Table, UniqueConstraint
from sqlalchemy.exc import SAWarning
from sqlalchemy.schema import CreateColumn

from shared import projection
from shared.plain import Plain
from shared.projection import Projection
from shared.stores import checkpoints


class WrongTable(Plain):
    """A projection's table isn't as this version makes it. The message says what to do, in one line."""


class Shape(NamedTuple):
    """A table's columns (name, type, nullable), primary key, unique constraints, and indexes (name, columns, unique).

    Indexes on expressions are left out, since SQLite doesn't tell the expressions.
    """

    columns: list[tuple[str, str, bool]]
    key: list[str]
    unique: list[list[str]]
    indexes: list[tuple[Any, list[str], bool]]


def make(connection: Connection, which: Projection) -> None:
    """Create missing tables, but only before the projection's first event: later, a lost table must be rebuilt."""
    if not checkpoints.position_of(connection, which.name):
        projection.metadata.create_all(connection, tables=which.tables)
    extend(connection, which)


def extend(connection: Connection, which: Projection) -> None:
    """Add columns that tables lack and that have a default, and the indexes on them. That needs no rebuild.

    Both engines keep the default once for all rows there are, so a column is added as fast to a million rows as to one.
    """
    found = _reflected(connection, which.tables)
    for table in which.tables:
        if table.name in found and (new := _new_columns(found[table.name], table)):
            for column in new:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ADD COLUMN {added}')
            for index in table.indexes:
                if not set(index.columns).isdisjoint(new):
                    index.create(connection)


def compare(connection: Connection, projections: Collection[Projection]) -> WrongTable | None:
    """What is wrong with the tables of projections in one database; None if nothing is."""
    found = _reflected(connection, [table for which in projections for table in which.tables])
    for which in projections:
        for table in which.tables:
            its = found.get(table.name)
            if its is None and not checkpoints.position_of(connection, which.name):
                return WrongTable(f"the read model has no table {table.name} yet: run `cqrs init`")
            if its is None or _shape(its, table, connection.dialect) != _shape(table, table, connection.dialect):
                extends = its is not None and _new_columns(its, table)
                run = "run `cqrs init`" if extends else f"run `cqrs projections rebuild {which.name}`"
                return WrongTable(f"the read model's table {table.name} isn't as this version makes it: {run}")
    return None


def are(connection: Connection, tables: Collection[Table]) -> bool:
    """Whether the tables exist exactly as declared. Unlike `compare` it doesn't ignore columns that the code lacks."""
    found, dialect = _reflected(connection, tables), connection.dialect
    return all(
        table.name in found and _shape(its := found[table.name], its, dialect) == _shape(table, table, dialect)
        for table in tables
    )


def types(connection: Connection, table: Table) -> dict[str, str]:
    """The type of each column of the table in the database that has this table's name; {} if there is none."""
    found = _reflected(connection, [table]).get(table.name)
    return {} if found is None else types_of(found, connection.dialect)


def types_of(table: Table, dialect: Dialect) -> dict[str, str]:
    """The type of each column of this table, in SQL."""
    return {each.name: _type(each, dialect) for each in table.columns}


def _new_columns(found: Table, table: Table) -> Sequence[Column[Any]]:
    """The columns to add to a table in the database, so that it is as the code has it; none if others differ, too."""
    columns = list(table.columns)
    old, new = columns[: len(found.columns)], columns[len(found.columns) :]
    if [each.name for each in old] == found.columns.keys() and all(each.server_default for each in new):
        return new
    return []


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
    """The tables in the database with the names of these tables, by name."""
    names, found = {table.name for table in tables}, MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of indexes of expressions
        found.reflect(connection, only=lambda name, _: name in names, resolve_fks=False)
    return found.tables
