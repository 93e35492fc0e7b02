"""Searching the inbox by what no index knows: only between two seqs, since each command between them is looked at."""

from bisect import bisect_left
from collections.abc import Collection
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import Connection, Select, bindparam, cast, func, select

from shared.database.statements import BigInt, entries, fetch, member
from shared.stores import inbox
from shared.stores.inbox import Accepted, commands


class Wanted(NamedTuple):
    """What is looked for in commands; "" where anything will do."""

    stream: str = ""
    type: str = ""
    principal: str = ""
    correlation_id: str = ""


def latest(
    connection: Connection, wanted: Wanted, *, after: int, before: int, limit: int, among: Collection[int] | None = None
) -> list[Accepted]:
    """The last of the wanted commands with `after < seq < before`, the latest first; only `among` these seqs, if given.

    What is personal stays sealed.
    """
    query = _between(select(*_its), wanted, after, before).order_by(commands.c.seq.desc()).limit(limit)
    if among is not None:
        query = query.where(commands.c.seq.in_(_seqs(among)))
    return list(map(Accepted._make, connection.execute(query)))


def first(connection: Connection, wanted: Wanted, *, after: int, before: int, limit: int) -> list[Accepted]:
    """The first of the wanted commands with `after < seq < before`, in order of seq."""
    query = _between(select(*_its), wanted, after, before).order_by(commands.c.seq).limit(limit)
    return list(map(Accepted._make, connection.execute(query)))


def count(connection: Connection, wanted: Wanted, *, after: int, before: int) -> int:
    """How many of the wanted commands there are with `after < seq < before`."""
    return connection.scalar(_between(select(func.count()), wanted, after, before)) or 0


def accepted_at(connection: Connection, seq: int) -> str | None:
    """When the first command from a seq on was accepted; None if there is none."""
    return next((time for (time,) in fetch(connection, _accepted_at, seq=seq)), None)


def seq_at(connection: Connection, time: str) -> int:
    """The first seq that was, or will be, accepted at a time or later, found by halves: times grow with seqs."""
    last = inbox.last_seq(connection)
    return 1 + bisect_left(range(1, last + 1), time, key=lambda seq: accepted_at(connection, seq) or "")


def _between(query: Select[Any], wanted: Wanted, after: int, before: int) -> Select[Any]:
    query = query.where(commands.c.seq > after, commands.c.seq < before)
    if wanted.stream:
        query = query.where(commands.c.stream == wanted.stream)
    if wanted.type:
        query = query.where(commands.c.type == wanted.type)
    for name in ("principal", "correlation_id"):
        if value := getattr(wanted, name):
            query = query.where(member(commands.c.metadata, name) == value)
    return query


def _seqs(these: Collection[int]) -> Select[Any]:
    its = entries(bindparam("seqs", to_json(dict.fromkeys(these)).decode()))
    return select(cast(its.c.key, BigInt))


_its = [commands.c[name] for name in Accepted._fields]
_accepted_at = (
    select(commands.c.accepted_at).where(commands.c.seq >= bindparam("seq")).order_by(commands.c.seq).limit(1)
)
