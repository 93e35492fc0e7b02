"""Commands set aside: deciding on them failed, and is tried again. Later commands to the same stream wait with them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, String, Table, Text, bindparam, delete, func, select

from shared.database.statements import BigInt, fetch, insert_rows
from shared.stores.event_store import metadata

table = Table(
    "set_aside",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("error", Text),
)


class SetAside(NamedTuple):
    """A command to try again, after `tries` that failed, the last with `error`; or one that waits behind it."""

    seq: int
    stream: str
    tries: int
    error: str | None


def add(connection: Connection, new: Sequence[SetAside]) -> None:
    """Set commands aside."""
    insert_rows(connection, table, new)


def after(connection: Connection, seq: int, *, limit: int) -> list[SetAside]:
    """The commands set aside past a seq, in order of seq."""
    return [SetAside(*row) for row in connection.execute(_after, {"after": seq, "limit": limit})]


def before(connection: Connection, seq: int, *, limit: int) -> list[SetAside]:
    """The commands set aside below a seq, the latest first."""
    return [SetAside(*row) for row in fetch(connection, _before, before=seq, limit=limit)]


def find(connection: Connection, seqs: Iterable[int]) -> list[SetAside]:
    """Those of the commands with these seqs that are set aside."""
    return [SetAside(*row) for row in connection.execute(_find, {"seqs": list(seqs)})]


def first_on(connection: Connection, stream: str) -> SetAside | None:
    """The first command set aside of those to a stream, behind which the others wait; None if there is none."""
    return next((SetAside(*row) for row in fetch(connection, _first_on, stream=stream)), None)


def count(connection: Connection) -> int:
    """How many commands are set aside."""
    return int(fetch(connection, _count)[0][0])


def take_back(connection: Connection, these: Sequence[SetAside]) -> None:
    """Remove these commands from those set aside, to handle them."""
    if these:
        connection.execute(delete(table).where(table.c.seq.in_([each.seq for each in these])))


def stuck_streams(connection: Connection) -> set[str]:
    """The streams on which a command is set aside, so that later commands to them must wait."""
    return set(connection.scalars(_stuck_streams))


_select = select(*(table.c[name] for name in SetAside._fields))
_after = _select.where(table.c.seq > bindparam("after")).order_by(table.c.seq).limit(bindparam("limit"))
_before = _select.where(table.c.seq < bindparam("before")).order_by(table.c.seq.desc()).limit(bindparam("limit"))
_find = _select.where(table.c.seq.in_(bindparam("seqs", expanding=True)))
_first_on = _select.where(table.c.stream == bindparam("stream")).order_by(table.c.seq).limit(1)
_count = select(func.count()).select_from(table)
_stuck_streams = select(table.c.stream).distinct()
