"""The log: events in streams, each at its version there and at its position among all."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import (
    DDL,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    event,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from shared.database import insert_rows
from shared.messages import now

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("stream", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("recorded_at", String, nullable=False),
    Index("events_by_stream", "stream", "version", unique=True),
    Index("events_by_type", "type", "position"),
)

streams = Table(
    "streams",
    metadata,
    Column("stream", String, primary_key=True),
    Column("version", Integer, nullable=False),
    sqlite_with_rowid=False,
)

for verb in ("UPDATE", "DELETE"):
    trigger = f"""CREATE TRIGGER IF NOT EXISTS events_refuse_{verb.lower()} BEFORE {verb} ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"""
    event.listen(events, "after_create", DDL(trigger))


class NewEvent(NamedTuple):
    """An event to append. `data` and `metadata` are anything that is a JSON object when serialised."""

    type: str
    data: Any
    metadata: Any


class RecordedEvent(NamedTuple):
    position: int
    stream: str
    version: int
    type: str
    data: dict[str, Any]
    metadata: dict[str, Any]
    recorded_at: str


class Append(NamedTuple):
    """Events for one stream, which must be at `expected_version` (0: it doesn't exist; None: any)."""

    stream: str
    events: Sequence[NewEvent]
    expected_version: int | None = None


class WrongExpectedVersion(Exception):
    def __init__(self, stream: str, expected: int | None, found: int) -> None:
        super().__init__(f"{stream} is at version {found}, not at {expected}")
        self.stream, self.expected, self.found = stream, expected, found


def append(connection: Connection, *appends: Append) -> int:
    """Append all or nothing, in the order given; a stream may come several times.

    Returns the log's last position. Raises WrongExpectedVersion before it has written anything.
    """
    at = stream_versions(connection, {append.stream for append in appends})
    position = last_position(connection)
    recorded_at = now()
    rows: list[tuple[object, ...]] = []
    for stream, new, expected in appends:
        version = at[stream]
        if expected not in (None, version):
            raise WrongExpectedVersion(stream, expected, version)
        for type_, data, meta in new:
            position, version = position + 1, version + 1
            rows.append((position, stream, version, type_, _json(data), _json(meta), recorded_at))
        at[stream] = version
    if rows:
        insert_rows(connection, events, rows)
        moved = {stream for stream, new, _ in appends if new}
        connection.execute(_move_streams, [{"stream": stream, "version": at[stream]} for stream in moved])
    return position


def stream_versions(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """The version of each stream named, 0 where there is none."""
    names = list(names)
    return dict.fromkeys(names, 0) | dict(connection.execute(_versions, {"names": names}).all())


def stream_version(connection: Connection, stream: str) -> int:
    """0 if there is no such stream."""
    return stream_versions(connection, [stream])[stream]


def last_position(connection: Connection) -> int:
    """The highest position in the log, 0 if it is empty."""
    return connection.scalar(_last_position) or 0


def read_stream(
    connection: Connection,
    stream: str,
    *,
    after: int = 0,
    upto: int | None = None,
    limit: int | None = None,
    backwards: bool = False,
) -> list[RecordedEvent]:
    """Events of one stream with `after < version <= upto`, oldest first unless `backwards`."""
    query = select(events).where(events.c.stream == stream, events.c.version > after)
    if upto is not None:
        query = query.where(events.c.version <= upto)
    version = events.c.version
    return _recorded(connection, query.order_by(version.desc() if backwards else version).limit(limit))


def read_streams(connection: Connection, *, after: Mapping[str, int]) -> list[RecordedEvent]:
    """Every event of the streams named past the version given, each stream's in order of version."""
    names: dict[int, list[str]] = defaultdict(list)
    for stream, version in after.items():
        names[version].append(stream)
    queries = (connection.execute(_of_streams, {"names": its, "after": version}) for version, its in names.items())
    return [_decode(row) for rows in queries for row in rows]


def read_all(
    connection: Connection,
    *,
    after: int = 0,
    upto: int | None = None,
    types: Iterable[str] | None = None,
    stream: str | None = None,
    limit: int | None = None,
) -> list[RecordedEvent]:
    """Events with `after < position <= upto` in order of position, of these types and this stream only, if given."""
    query = select(events).where(events.c.position > after)
    if upto is not None:
        query = query.where(events.c.position <= upto)
    if types is not None:
        query = query.where(events.c.type.in_(list(types)))
    if stream is not None:
        query = query.where(events.c.stream == stream)
    return _recorded(connection, query.order_by(events.c.position).limit(limit))


def _json(value: Any) -> str:
    return to_json(value).decode()


def _recorded(connection: Connection, query: Select[Any]) -> list[RecordedEvent]:
    return [_decode(row) for row in connection.execute(query)]


def _decode(row: Any) -> RecordedEvent:
    position, stream, version, type_, data, meta, recorded_at = row
    return RecordedEvent(position, stream, version, type_, from_json(data), from_json(meta), recorded_at)


_last_position = select(func.max(events.c.position))
_versions = select(streams).where(streams.c.stream.in_(bindparam("names", expanding=True)))
_of_streams = (
    select(events)
    .where(events.c.stream.in_(bindparam("names", expanding=True)), events.c.version > bindparam("after"))
    .order_by(events.c.stream, events.c.version)
)
_insert_stream = upsert(streams)
_move_streams = _insert_stream.on_conflict_do_update(
    index_elements=["stream"], set_={"version": _insert_stream.excluded.version}
)
