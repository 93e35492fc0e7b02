"""Unique keys: which stream holds each, kept beside the events and written with them.

Under older rules several streams may have come to hold one key. It is kept for the stream that held it first.
The others contest it, until they give it up or the first one does.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Column, Connection, String, Table, bindparam, delete, func, literal_column, select, union_all

from shared.database.statements import BigInt, entries, execute_rows, fetch, insert_rows, upsert_rows
from shared.decider import UniqueKey
from shared.stores.event_store import metadata

Holders = tuple[str, ...]
"""The streams that hold a key: first the one for which it is kept, then those that contest it; () if it is free."""

unique_keys = Table(
    "unique_keys",
    metadata,
    Column("scope", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("stream", String, nullable=False),
    sqlite_with_rowid=False,
)

contested_keys = Table(
    "contested_keys",
    metadata,
    Column("scope", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("since", BigInt, nullable=False),
    sqlite_with_rowid=False,
)
"""Streams that hold a key kept for another. `since`: the position of the event that gave the stream the key."""


def holders(connection: Connection, keys: Iterable[UniqueKey]) -> dict[UniqueKey, Holders]:
    """The holders of each of these keys."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for scope, value in keys:
        values[scope][value] = None
    found: dict[UniqueKey, Holders] = {UniqueKey(scope, value): () for scope, its in values.items() for value in its}
    for scope, its in values.items():
        for value, stream, _ in fetch(connection, _holders, scope=scope, values=to_json(its).decode()):
            found[UniqueKey(scope, value)] += (stream,)
    return found


def move(connection: Connection, to: Mapping[UniqueKey, Holders], *, contested: Collection[UniqueKey] = ()) -> None:
    """Give each key to the first of its holders; free it if it has none. `contested`: keys that had several holders.

    The holders after the first go on contesting such a key, and no others do.
    """
    execute_rows(connection, _free, [key for key, its in to.items() if not its])
    upsert_rows(connection, unique_keys, [(*key, its[0]) for key, its in to.items() if its])
    for key in contested:
        connection.execute(_settle, {"s": key.scope, "v": key.value, "still": list(to[key][1:])})


def release(connection: Connection, streams: Collection[str]) -> None:
    """Take from these streams all keys that they hold. Goes through all keys."""
    asked = to_json(dict.fromkeys(streams)).decode()
    its = holders(connection, [UniqueKey(*row) for row in fetch(connection, _held_by, streams=asked)])
    left = {key: tuple(each for each in found if each not in streams) for key, found in its.items()}
    move(connection, left, contested=[key for key, found in its.items() if len(found) > 1])


def count_of(connection: Connection, streams: Collection[str]) -> int:
    """How many keys these streams hold. Goes through all keys."""
    return len(fetch(connection, _held_by, streams=to_json(dict.fromkeys(streams)).decode())) if streams else 0


def keep(connection: Connection, new: Collection[tuple[UniqueKey, str]]) -> None:
    """Give free keys to streams. Raises IntegrityError if one is taken."""
    insert_rows(connection, unique_keys, [(*key, stream) for key, stream in new])


def count(connection: Connection) -> int:
    """How many pairs there are of a stream and a key that it holds."""
    return int(fetch(connection, _count)[0][0])


def contested(connection: Connection) -> list[tuple[str, str, str]]:
    """Contested keys: the scope, the stream for which the key is kept, and one that holds it too."""
    rows: list[Any] = fetch(connection, _contested)
    return rows


_values = entries(bindparam("values"))


def _asked(table: Table) -> Any:
    return (table.c.scope == bindparam("scope")) & table.c.value.in_(select(_values.c.key))


_holders = union_all(
    select(unique_keys.c.value, unique_keys.c.stream, literal_column("0").label("since")).where(_asked(unique_keys)),
    select(contested_keys.c.value, contested_keys.c.stream, contested_keys.c.since).where(_asked(contested_keys)),
).order_by("since")
_streams = select(entries(bindparam("streams")).c.key)
_held_by = union_all(
    *(select(each.c.scope, each.c.value).where(each.c.stream.in_(_streams)) for each in (unique_keys, contested_keys))
)
_free = delete(unique_keys).where(unique_keys.c.scope == bindparam("s"), unique_keys.c.value == bindparam("v"))
_settle = delete(contested_keys).where(
    contested_keys.c.scope == bindparam("s"),
    contested_keys.c.value == bindparam("v"),
    contested_keys.c.stream.not_in(bindparam("still", expanding=True)),
)
_count = select(
    select(func.count()).select_from(unique_keys).scalar_subquery()
    + select(func.count()).select_from(contested_keys).scalar_subquery()
)
_same = (contested_keys.c.scope == unique_keys.c.scope) & (contested_keys.c.value == unique_keys.c.value)
_contested = (
    select(contested_keys.c.scope, unique_keys.c.stream, contested_keys.c.stream)
    .join(unique_keys, _same)
    .order_by(contested_keys.c.since)
)
