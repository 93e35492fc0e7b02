"""Advances: when each projection moved its checkpoint, so when a position became visible; kept for an hour.

What a rebuild or a restore replays was visible before: it has no rows.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    Column,
    Connection,
    ScalarSelect,
    String,
    Table,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
)

from shared.clock import written
from shared.database.statements import BigInt, entries, fetch
from shared.projection import metadata

table = Table(
    "advances",
    metadata,
    Column("projection", String, primary_key=True),
    Column("position", BigInt, primary_key=True),
    Column("after", BigInt, nullable=False),
    Column("at", String, nullable=False),
    sqlite_with_rowid=False,
)
"""A row for each transaction: the events past `after`, up to `position`, became visible at the time `at`."""

KEPT = timedelta(hours=1)
"""How long a row stays, at least."""

LATE = timedelta(seconds=10)
"""Age of an event from which it may be one that is replayed."""

FORGOTTEN_AT_ONCE = 5000
"""Rows that are looked at, and deleted if they are old, in one transaction."""


def add(connection: Connection, projection: str, *, after: int, position: int, recorded_at: str = "") -> None:
    """Record that events past `after`, up to `position`, become visible now, in the transaction that shows them.

    `recorded_at`: when the first of them was recorded. Late ones count only if they follow on some that counted: a
    replay begins before those.
    """
    now = datetime.now(UTC)
    if recorded_at < written(now - LATE) and not fetch(connection, _row, projection=projection, position=after):
        return
    fetch(connection, _add, projection=projection, position=position, after=after, at=written(now))


def visible_at(connection: Connection, projection: str, positions: Iterable[int]) -> dict[int, str]:
    """When the projection showed each of these positions; one of which that isn't known has no entry."""
    asked = to_json(dict.fromkeys(positions)).decode()
    rows = fetch(connection, _visible_at, projection=projection, positions=asked)
    return {position: at for position, after, at in rows if after is not None and after < position}


def forget(connection: Connection, projection: str) -> bool:
    """Delete rows older than `KEPT`, some at a time; returns whether there may be more. The last row stays."""
    by = written(datetime.now(UTC) - KEPT)
    return len(fetch(connection, _forget, projection=projection, by=by)) == FORGOTTEN_AT_ONCE


_its = table.c.projection == bindparam("projection", type_=String)
_row = select(table.c.position).where(_its, table.c.position == bindparam("position", type_=BigInt))
_given = [bindparam(column.name, type_=column.type) for column in table.columns]
_add = insert(table).from_select(table.columns.keys(), select(*_given).where(~exists(_row)))  # the first time stays
_asked = entries(bindparam("positions"))
_position = cast(_asked.c.key, BigInt)
_end = table.c.position >= _position


def _first(column: str) -> ScalarSelect[Any]:
    """A column of the row in which the position is, if it is in one."""
    return (
        select(table.c[column])
        .where(_its, _end)
        .order_by(table.c.position)
        .limit(1)
        .correlate(_asked)
        .scalar_subquery()
    )


_visible_at = select(_position, _first("after"), _first("at"))
_oldest = (
    select(table.c.position, table.c.at).where(_its).order_by(table.c.position).limit(FORGOTTEN_AT_ONCE).subquery()
)
_last = select(func.max(table.c.position)).where(_its).scalar_subquery()
_old = select(_oldest.c.position).where(_oldest.c.at < bindparam("by"), _oldest.c.position < _last)
_forget = delete(table).where(_its, table.c.position.in_(_old)).returning(table.c.position)
