"""How two read models of one projection differ."""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, MetaData, String, Table, collate, select

from shared.schemas import projection_tables

PAGE = 5000
"""Rows read at once."""

NAMED = 1000
"""Rows of a table that are named in a difference; the others are only counted."""


class Difference(NamedTuple):
    """A row that differs, by its primary key: as it is and as the log has it. None: it isn't there."""

    key: tuple[Any, ...]
    found: tuple[Any, ...] | None
    expected: tuple[Any, ...] | None

    def in_words(self, table: Table) -> str:
        """The difference in one line."""
        key = ", ".join(map(str, self.key))
        return f"{table.name} {key}: is {_row(self.found)}, and by the log {_row(self.expected)}"


def _row(row: tuple[Any, ...] | None) -> str:
    return "not there" if row is None else repr(row)


def difference(found: Connection, expected: Connection, table: Table) -> dict[str, Any]:
    """How a table differs: its `columns`, how many `rows`, and the first of them, `named`.

    Rows are compared by the columns that both have with the same type; `rows` is None if those lack the primary key.
    """
    has, needs = projection_tables.types(found, table), projection_tables.types_of(table, found.dialect)
    columns = [f"+{name}" for name in needs if name not in has]
    columns += [f"~{name}" for name in needs if has.get(name, needs[name]) != needs[name]]
    columns += [f"-{name}" for name in has if name not in needs]
    same = [each for each in table.columns if has.get(each.name) == needs[each.name]]
    common = [Column(each.name, each.type, primary_key=each.primary_key) for each in same]
    both = Table(table.name, MetaData(), *common)
    if len(both.primary_key) < len(table.primary_key):
        return {"columns": columns, "rows": None, "named": []}
    rows, named = 0, []
    with closing(differences(found, expected, both)) as differing:
        for each in differing:
            rows += 1
            if rows <= NAMED:
                named.append(each.in_words(table))
    return {"columns": columns, "rows": rows, "named": named}


def differences(found: Connection, expected: Connection, table: Table) -> Generator[Difference, None, None]:
    """The rows that differ, in order of their key; the two may be on different engines. Close it: it holds cursors."""
    ours, theirs = _rows(found, table), _rows(expected, table)
    mine, other = next(ours, None), next(theirs, None)
    while mine or other:
        if other is None or (mine and mine[0] < other[0]):
            assert mine
            yield Difference(mine[0], mine[1], None)
            mine = next(ours, None)
        elif mine is None or other[0] < mine[0]:
            yield Difference(other[0], None, other[1])
            other = next(theirs, None)
        else:
            if mine[1] != other[1]:
                yield Difference(mine[0], mine[1], other[1])
            mine, other = next(ours, None), next(theirs, None)


def _rows(connection: Connection, table: Table) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Key and row of each row, in order of the key. Text is ordered by its bytes, as Python orders it."""
    keys = [table.columns.keys().index(column.name) for column in table.primary_key]
    by_bytes = "C" if connection.dialect.name == "postgresql" else "BINARY"
    order = [collate(each, by_bytes) if isinstance(each.type, String) else each for each in table.primary_key]
    statement = select(table).order_by(*order)
    with connection.execution_options(yield_per=PAGE).execute(statement) as rows:
        for row in rows:
            yield tuple(row[key] for key in keys), tuple(row)
