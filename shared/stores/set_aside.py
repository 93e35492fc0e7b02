"""Commands set aside: they could not be decided and are tried again. The next of their stream wait."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, Integer, String, Table, Text, bindparam, delete, func, select

from shared.database.statements import BigInt, fetch, insert_rows
from shared.stores.event_store import metadata

aside = Table(
    "set_aside",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("error", Text),
)


class SetAside(NamedTuple):
    """A command to be tried again, after `tries` in vain; or one that waits behind such a command on its stream."""

    seq: int
    stream: str
    tries: int
    error: str | None


def set_aside(connection: Connection, new: Sequence[SetAside]) -> None:
    """Keep commands to be taken up again."""
    insert_rows(connection, aside, new)


def set_aside_after(connection: Connection, seq: int, *, limit: int) -> list[SetAside]:
    """The commands set aside past a seq, in order of seq."""
    return [SetAside(*row) for row in connection.execute(_aside_after, {"after": seq, "limit": limit})]


def find_set_aside(connection: Connection, seqs: Iterable[int]) -> list[SetAside]:
    """Those of the commands that are set aside."""
    return [SetAside(*row) for row in connection.execute(_find_aside, {"seqs": list(seqs)})]


def count_set_aside(connection: Connection) -> int:
    return int(fetch(connection, _count_aside)[0][0])


def take_back(connection: Connection, these: Sequence[SetAside]) -> None:
    """They are set aside no more."""
    if these:
        connection.execute(delete(aside).where(aside.c.seq.in_([each.seq for each in these])))


def stuck_streams(connection: Connection) -> set[str]:
    """The streams on which a command is set aside, so that those behind it must wait."""
    return set(connection.scalars(_stuck_streams))


_aside = select(*(aside.c[name] for name in SetAside._fields))


_aside_after = _aside.where(aside.c.seq > bindparam("after")).order_by(aside.c.seq).limit(bindparam("limit"))


_find_aside = _aside.where(aside.c.seq.in_(bindparam("seqs", expanding=True)))


_count_aside = select(func.count()).select_from(aside)


_stuck_streams = select(aside.c.stream).distinct()
