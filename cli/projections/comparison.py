"""A read model made anew, and how another one differs from it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, collate, select

from shared.database import engines, sqlite
from shared.errors.reasons import reason_of
from shared.messages import RecordedEvent
from shared.pages import pages
from shared.projection import Projection, metadata
from shared.schemas import projection_tables
from shared.schemas.folding import WrongEvent
from shared.stores import event_store

PAGE = 5000
"""Events in one transaction, and rows read at once."""


NAMED = 1000
"""Differing rows of a table that are named, of those that are counted."""


class Difference(NamedTuple):
    """A row by its primary key: as it was found and as it should be; None: it isn't there."""

    key: tuple[Any, ...]
    found: tuple[Any, ...] | None
    expected: tuple[Any, ...] | None

    def told(self, table: Table) -> str:
        key = ", ".join(map(str, self.key))
        return f"{table.name} {key}: is {_told(self.found)}, and by the log {_told(self.expected)}"


def _told(row: tuple[Any, ...] | None) -> str:
    return "not there" if row is None else repr(row)


def replay(log: Connection, into: Engine, which: Projection, *, after: int = 0, upto: int) -> Iterator[int]:
    """Make the projection's tables, fill them from the log between two positions; yields as many events as it read.

    Raises WrongEvent at the first event that it can't apply.
    """
    metadata.create_all(into, tables=which.tables)
    for page in pages(event_store.read_between(log, after=after, upto=upto), PAGE):
        if known := [each for each in page if each.type in which.events]:
            try:
                _apply(into, which, known)
            except Exception as error:
                if engines.is_trouble(error):
                    raise
                raise _first_wrong(into, which, known, error) from error
        yield len(page)


def _apply(into: Engine, which: Projection, events: Sequence[RecordedEvent]) -> None:
    with into.begin() as connection:
        _project(connection, which, events)


def _project(connection: Connection, which: Projection, events: Sequence[RecordedEvent]) -> None:
    models = (each.model(which.events) for each in events)
    which.project(connection, zip(events, models, strict=True))


def _first_wrong(into: Engine, which: Projection, events: Sequence[RecordedEvent], error: Exception) -> WrongEvent:
    """Of events that can't be applied together: that which can't be by itself, or the first."""
    for event in events:
        try:
            _apply(into, which, [event])
        except Exception as its:
            return WrongEvent(event, f"{which.name} can't apply it: {reason_of(its)}")
    return WrongEvent(events[0], f"{which.name} can't apply it with those behind it: {reason_of(error)}")


@contextmanager
def alone(which: Projection) -> Iterator[Connection]:
    """The projection's tables, empty and in memory, for what it makes of some events alone."""
    with _memory().connect() as connection:
        metadata.create_all(connection, tables=which.tables)
        yield connection


def project(into: Connection, which: Projection, page: Sequence[RecordedEvent]) -> None:
    """Apply those events that are the projection's."""
    if known := [each for each in page if each.type in which.events]:
        _project(into, which, known)


def difference(found: Connection, expected: Connection, table: Table) -> dict[str, Any]:
    """In columns, and in rows by the columns that both have: how many, and which. None: no key in common.

    A column's values are compared if its type is the same.
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
                named.append(each.told(table))
    return {"columns": columns, "rows": rows, "named": named}


def differences(found: Connection, expected: Connection, table: Table) -> Generator[Difference, None, None]:
    """Row by row in order of the key, on whichever engine each of the two is. To be closed: it may hold cursors."""
    ours, theirs = _rows(found, table), _rows(expected, table)
    mine, its = next(ours, None), next(theirs, None)
    while mine or its:
        if its is None or (mine and mine[0] < its[0]):
            assert mine
            yield Difference(mine[0], mine[1], None)
            mine = next(ours, None)
        elif mine is None or its[0] < mine[0]:
            yield Difference(its[0], None, its[1])
            its = next(theirs, None)
        else:
            if mine[1] != its[1]:
                yield Difference(mine[0], mine[1], its[1])
            mine, its = next(ours, None), next(theirs, None)


@cache
def _memory() -> Engine:
    """One, since statements are compiled for each engine."""
    return sqlite.in_memory_each()


def _rows(connection: Connection, table: Table) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Key and row. Text is in the order of its bytes, which is Python's order too."""
    keys = [table.columns.keys().index(column.name) for column in table.primary_key]
    by_bytes = "C" if connection.dialect.name == "postgresql" else "BINARY"
    order = [collate(each, by_bytes) if isinstance(each.type, String) else each for each in table.primary_key]
    statement = select(table).order_by(*order)
    with connection.execution_options(yield_per=PAGE).execute(statement) as rows:
        for row in rows:
            yield tuple(row[key] for key in keys), tuple(row)
