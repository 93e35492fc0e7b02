"""Unique keys made anew from the log after their rule changed, in the transaction that upgrades the event store."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Column, Connection, MetaData, String, Table, delete, func, insert, literal_column, select

from shared.database.statements import BigInt, insert_rows
from shared.projection import Bar
from shared.schemas.folding import Folded, Wrong, fold
from shared.schemas.known import AGGREGATES
from shared.stores import event_store
from shared.stores.event_store import pages
from shared.stores.unique_keys import contested_keys, unique_keys

held = Table(
    "held_keys",
    MetaData(),
    Column("scope", String, nullable=False),
    Column("value", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("since", BigInt, nullable=False),
    prefixes=["TEMPORARY"],
)
"""Each key with each stream that holds it, and the position since which it does."""


def make_keys_anew(connection: Connection, bar: Bar) -> None:
    """Keep each key for the stream that has held it longest without a break; other holders contest it."""
    held.create(connection)
    _collect(connection, bar)
    connection.execute(delete(unique_keys))
    connection.execute(delete(contested_keys))
    order = func.row_number().over(partition_by=[held.c.scope, held.c.value], order_by=[held.c.since, held.c.stream])
    ordered = select(held, order.label("place")).subquery()
    for table, whose in ((unique_keys, ordered.c.place == 1), (contested_keys, ordered.c.place > 1)):
        names = table.columns.keys()
        rows = select(*(ordered.c[name] for name in names)).where(whose).order_by(ordered.c.scope, ordered.c.value)
        connection.execute(insert(table).from_select(names, rows))
    held.drop(connection)


def _collect(connection: Connection, bar: Bar) -> None:
    """Fill `held` with the keys of all streams. A stream that can't be read keeps its keys, from position 0 on."""
    unreadable: list[str] = []
    last, done = event_store.last_position(connection), 0
    with bar("unique keys made anew") as show:
        for page in pages(_readable(connection, unreadable)):
            rows = [(*key, each.stream, its.since) for each in page for key, its in each.keys.items()]
            insert_rows(connection, held, rows)
            done += sum(each.version for each in page)
            show(done, last)
    kept = select(unique_keys.c.scope, unique_keys.c.value, unique_keys.c.stream, literal_column("0"))
    for some in pages(unreadable):
        connection.execute(insert(held).from_select(held.columns.keys(), kept.where(unique_keys.c.stream.in_(some))))


def _readable(connection: Connection, unreadable: list[str]) -> Iterator[Folded]:
    for stream, events in groupby(event_store.read_by_stream(connection), key=attrgetter("stream")):
        try:
            folded = fold(events, AGGREGATES)
        except Wrong:
            unreadable.append(stream)
        else:
            yield folded
