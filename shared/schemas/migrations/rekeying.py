"""Keys made anew after their rule changed, in the transaction that brings a store to a newer revision."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from shared.database.statements import BigInt, execute_rows, fetch, insert_rows
from shared.domain.aggregates import AGGREGATES
from shared.domain.users import addresses
from shared.domain.users.read_models import emails
from shared.pages import pages
from shared.schemas import projection_tables
from shared.schemas.folding import Folded, Wrong, fold
from shared.stores import event_store
from shared.stores.event_store import PAGE
from shared.stores.unique_keys import contested_keys, unique_keys

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows, under a name, how much is done of how much."""

held = Table(
    "held_keys",
    MetaData(),
    Column("scope", String, nullable=False),
    Column("value", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("since", BigInt, nullable=False),
    prefixes=["TEMPORARY"],
)


def unique(connection: Connection, bar: Bar) -> None:
    """By the log. Of streams that hold one key, it is kept for the one whose present hold of it began first."""
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
    """A stream that can't be read keeps the keys that it has."""
    unreadable: list[str] = []
    streams = groupby(event_store.read_by_stream(connection), key=attrgetter("stream"))
    last, done = event_store.last_position(connection), 0

    def readable(stream: str, events: Any) -> Folded | None:
        try:
            return fold(events, AGGREGATES)
        except Wrong:
            unreadable.append(stream)
            return None

    with bar("unique keys made anew") as show:
        for page in pages((each for stream, events in streams if (each := readable(stream, events))), PAGE):
            insert_rows(
                connection, held, [(*key, each.stream, its.since) for each in page for key, its in each.keys.items()]
            )
            done += sum(each.version for each in page)
            show(done, last)
    kept = select(unique_keys.c.scope, unique_keys.c.value, unique_keys.c.stream, literal_column("0"))
    for some in pages(unreadable, PAGE):
        connection.execute(insert(held).from_select(held.columns.keys(), kept.where(unique_keys.c.stream.in_(some))))


def of_emails(connection: Connection, bar: Bar) -> None:
    """In the read model of users by address, where that is."""
    if not projection_tables.are(connection, [emails.table]):
        return
    last = connection.scalar(select(func.max(emails.table.c.user_id))) or 0
    after = 0
    with bar("keys of addresses made anew") as show:
        while page := fetch(connection, _page, after=after, limit=PAGE):
            anew = [(addresses.key(email), user_id) for user_id, email, _ in page]
            execute_rows(
                connection, _update, [new for new, (_, _, key) in zip(anew, page, strict=True) if new[0] != key]
            )
            after = page[-1][0]
            show(after, last)


_page = (
    select(emails.table.c.user_id, emails.table.c.email, emails.table.c.key)
    .where(emails.table.c.user_id > bindparam("after"))
    .order_by(emails.table.c.user_id)
    .limit(bindparam("limit"))
)
_update = update(emails.table).where(emails.table.c.user_id == bindparam("id")).values(key=bindparam("its_key"))
