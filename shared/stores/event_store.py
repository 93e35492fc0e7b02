"""The event store: a log of events, each at a version of its stream and at a position among all events."""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from pydantic_core import to_json
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    text,
    true,
    tuple_,
    union_all,
    update,
)

from shared import chain
from shared.clock import now
from shared.database.statements import BigInt, bytes_of, entries, fetch, insert_rows, unhex
from shared.messages import Event, NewEvent, RecordedEvent, place_of
from shared.personal.ciphers import Cipher, Ciphers, sealed
from shared.plain import Plain
from shared.projection import Bar
from shared.stores import subjects

T = TypeVar("T")

metadata = MetaData()

CHANGED = text("schema_version > 1")
"""The SQL condition for events recorded in a later shape than their type's first."""

events = Table(
    "events",
    metadata,
    Column("position", BigInt, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False),
    Column("version", BigInt, nullable=False),
    Column("type", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("recorded_at", String, nullable=False),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("hash", LargeBinary),
    Index("events_by_stream", "stream", "version", unique=True),
    Index("events_by_type", "type", "position"),
    Index("events_by_shape", "type", "schema_version", sqlite_where=CHANGED, postgresql_where=CHANGED),
)

LOCK = "event_store"
"""The lock at which writers of the event store take turns."""

PAGE_SIZE = 2000
"""Events that are read at once when the whole log is read."""


secret_copies = Table(
    "secret_copies", metadata, Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False)
)
"""A copy of the installation's secret. It outlives a loss of the store of people's keys, and so unique keys do."""


class Append(NamedTuple):
    """Events to append to a stream, which must be at `expected_version` (0: it doesn't exist; None: any)."""

    stream: str
    events: Sequence[NewEvent]
    expected_version: int | None = None


class Heads(NamedTuple):
    """The version of each stream, 0 where there is none, and the last position of the log with its event's hash."""

    versions: dict[str, int]
    position: int
    hash: bytes | None = None


class WrongExpectedVersion(Plain):
    """A stream isn't at the version at which events were to be appended."""

    def __init__(self, stream: str, expected: int | None, found: int) -> None:
        super().__init__(f"{stream} is at version {found}, not at {expected}")
        self.stream, self.expected, self.found = stream, expected, found


def append(connection: Connection, *appends: Append, at: Heads | None = None) -> int:
    """Append events to streams, all or nothing, in the order given; a stream may come several times.

    Personal fields are sealed. `at`: the heads of these streams, if they were read in this transaction already.
    Returns the log's last position. Raises WrongExpectedVersion before it has written anything.
    """
    if not appends:
        return last_position(connection)
    found, position, last = at or heads(connection, {append.stream for append in appends})
    versions, last = dict(found), last or seal(connection)
    ciphers = _ciphers(connection, appends)
    recorded_at = now()
    time = recorded_at.encode()
    rows: list[tuple[object, ...]] = []
    for stream, new, expected in appends:
        version = versions[stream]
        if expected is not None and expected != version:
            raise WrongExpectedVersion(stream, expected, version)
        name = stream.encode()
        for type_, data, meta, shape in new:
            position, version = position + 1, version + 1
            json = _sealed(data, ciphers[stream], stream, version) if getattr(data, "personal", ()) else to_json(data)
            more = to_json(meta)
            last = chain.link(last, position, name, version, type_.encode(), json, more, time, shape)
            # A bytearray, since pysqlite3 takes 1.3 µs more for bytes, which it tries to adapt.
            its = (position, stream, version, type_, json.decode(), more.decode(), recorded_at, shape, bytearray(last))
            rows.append(its)
        versions[stream] = version
    insert_rows(connection, events, rows)
    return position


def heads(connection: Connection, streams: Collection[str]) -> Heads:
    """The heads of one or more streams. They stay true as long as this transaction has the log locked."""
    rows = fetch(connection, _heads, streams=_json(dict.fromkeys(streams)))
    position, hash = next((position, hash) for stream, position, hash in rows if stream is None)
    return Heads({stream: version or 0 for stream, version, _ in rows if stream is not None}, position or 0, hash)


def stream_version(connection: Connection, stream: str) -> int:
    """The last version of a stream, 0 if there is none."""
    return heads(connection, [stream]).versions[stream]


def version_at(connection: Connection, stream: str, time: str) -> int:
    """The last version recorded by that time, 0 if none. If a clock was set back, lower ones may have later times."""
    rows = fetch(connection, _version_at, stream=stream, time=time)
    return rows[0][0] if rows else 0


def last_position(connection: Connection) -> int:
    """The highest position in the log, 0 if it is empty."""
    return fetch(connection, _last_position)[0][0] or 0


def has_any(connection: Connection, types: Collection[str], *, after: int, upto: int) -> bool:
    """Whether there is an event of these types with `after < position <= upto`. Goes through all that are there."""
    asked = to_json(dict.fromkeys(types)).decode()
    return bool(fetch(connection, _any_of, types=asked, after=after, upto=upto))


def without(connection: Connection, streams: Collection[str], types: Collection[str]) -> list[str]:
    """Those of the streams that have events, but none of these types."""
    asked, which = (to_json(dict.fromkeys(each)).decode() for each in (streams, types))
    return [stream for (stream,) in fetch(connection, _without, streams=asked, types=which)]


def read_stream(
    connection: Connection, stream: str, *, after: int = 0, upto: int = sys.maxsize, limit: int = sys.maxsize
) -> list[RecordedEvent]:
    """Events of one stream with `after < version <= upto`, in order of version."""
    return _recorded(connection, fetch(connection, _read_stream, stream=stream, after=after, upto=upto, limit=limit))


def read_streams(connection: Connection, *, after: Mapping[str, int]) -> list[RecordedEvent]:
    """All events of these streams past the version given for each, each stream's in order of version."""
    return _recorded(connection, fetch(connection, _of_streams, after=_json(after))) if after else []


def read_all(
    connection: Connection,
    *,
    after: int = 0,
    types: Collection[str] | None = None,
    stream: str | None = None,
    limit: int = sys.maxsize,
) -> list[RecordedEvent]:
    """The log's events with `position > after`, in order of position; if given, of these types and this stream only."""
    values: dict[str, object] = {"after": after, "limit": limit}
    if types is not None:
        values["types"] = _json(dict.fromkeys(types))
    if stream is not None:
        values["stream"] = stream
    if types is not None and stream is None and connection.dialect.name == "postgresql":
        return _recorded(connection, fetch(connection, _read_types, **values))
    return _recorded(connection, fetch(connection, _read_all(frozenset(values)), **values))


def read_between(connection: Connection, *, after: int, upto: int) -> Iterator[RecordedEvent]:
    """Events with `after < position <= upto` in order of position, read a page at a time."""
    while after < upto and (page := read_all(connection, after=after, limit=min(PAGE_SIZE, upto - after))):
        yield from page
        after = page[-1].position


def read_by_stream(connection: Connection) -> Iterator[RecordedEvent]:
    """The whole log, stream by stream, each in order of version; read a page at a time."""
    stream, version = "", 0
    while page := _recorded(
        connection, fetch(connection, _by_stream, after_stream=stream, after_version=version, limit=PAGE_SIZE)
    ):
        yield from page
        stream, version = page[-1].stream, page[-1].version


def read_latest(
    connection: Connection,
    *,
    types: Collection[str] | None = None,
    stream: str | None = None,
    before: int = sys.maxsize,
    limit: int,
) -> list[RecordedEvent]:
    """The last `limit` events with `position < before`, oldest first; if given, of these types and this stream only."""
    query = select(*_recorded_columns).where(events.c.position < before).limit(limit)
    if stream is not None:
        its = events.c.stream == stream
        end = select(events.c.version).where(its, events.c.position == before).scalar_subquery()
        query = query.where(its, events.c.version < func.coalesce(end, sys.maxsize)).order_by(events.c.version.desc())
        if types is not None:
            query = query.where(events.c.type.in_(types))
        return _recorded(connection, connection.execute(query))[::-1]
    query = query.order_by(events.c.position.desc())
    # A page of each type, merged, needs the index only: for a rare type a planner may read through the whole log.
    each_its = [query.where(events.c.type == each) for each in dict.fromkeys(types)] if types is not None else [query]
    rows = sorted(row for its in each_its for row in map(tuple, connection.execute(its)))
    return _recorded(connection, rows[-limit:])


def correlated(connection: Connection, id: str, *, after: int, upto: int, limit: int) -> list[RecordedEvent]:
    """Up to `limit` events with `after < position <= upto` and this correlation id, in order. Goes through all."""
    has_id = events.c.metadata.contains(f'"correlation_id":{_json(id)}', autoescape=True)
    within = events.c.position > after, events.c.position <= upto
    query = select(*_recorded_columns).where(*within, has_id).order_by(events.c.position).limit(limit)
    found = _recorded(connection, connection.execute(query))
    return [each for each in found if each.metadata.get("correlation_id") == id]


def count(
    connection: Connection, *, types: Collection[str] | None = None, stream: str | None = None, after: int, most: int
) -> int:
    """How many events have `position > after`, but no more than `most`; if given, of these types and this stream."""
    query = select(literal(1)).select_from(events).where(events.c.position > after).limit(most)
    if types is not None:
        query = query.where(events.c.type.in_(types))
    if stream is not None:
        begin = select(events.c.version).where(events.c.stream == stream, events.c.position == after).scalar_subquery()
        query = query.where(events.c.stream == stream, events.c.version > func.coalesce(begin, 0))
    return connection.scalar(select(func.count()).select_from(query.subquery())) or 0


def load(connection: Connection, recorded: Sequence[RecordedEvent]) -> None:
    """Write events as they were recorded in another log. Their hashes are made anew; the same events have the same."""
    last = seal(connection)
    rows = [(*event, bytearray(last := event.hash(last))) for event in recorded]
    insert_rows(connection, events, rows)


def head(connection: Connection) -> tuple[int, bytes | None]:
    """The position and the hash of the log's last event; None if an older version appended it without one."""
    rows = fetch(connection, _head)
    return (rows[0][0], rows[0][1]) if rows else (0, chain.START)


def hashes(connection: Connection, *, after: int, upto: int) -> dict[int, bytes | None]:
    """The hashes of the events with `after < position <= upto`, by position."""
    return dict(fetch(connection, _hashes, after=after, upto=upto))


def read_stored(connection: Connection, *, after: int, limit: int | None = None) -> list[tuple[Any, ...]]:
    """The rows of a page of events past a position: the columns in order, texts in bytes; the last is the hash.

    On SQLite a column may hold anything, also what is no text.
    """
    return fetch(connection, _stored, after=after, limit=limit or PAGE_SIZE)


def seal(connection: Connection, bar: Bar = lambda _: nullcontext(lambda _done, _all: None)) -> bytes:
    """Give the last events of the log their hashes, if an older version appended them without; returns the last hash.

    Only a writer of the event store may do so. Whoever appends does it first, so no event without stands before one
    with a hash.
    """
    last: bytes
    [(position, last)] = fetch(connection, _last_sealed) or [(0, chain.START)]
    end = last_position(connection)
    if position < end:
        with bar("hashes of events") as show:
            while rows := read_stored(connection, after=position):
                made = {row[0]: (last := chain.link(last, *row[:-1])) for row in rows}
                fetch(connection, _seal, made=_json({position: hash.hex() for position, hash in made.items()}))
                position = rows[-1][0]
                show(position, end)
    return last


def _ciphers(connection: Connection, appends: Iterable[Append]) -> Ciphers:
    """The ciphers of those streams whose new events have personal fields."""
    personal = {stream for stream, new, _ in appends for each in new if getattr(each.data, "personal", ())}
    return subjects.of(connection).sealing(personal) if personal else {}


def _sealed(event: Event, cipher: Cipher | None, stream: str, version: int) -> bytes:
    """The JSON of an event whose personal fields are sealed."""
    its = type(event)
    serialize, names = its.__pydantic_serializer__.to_json, set(event.personal)
    others, personal = serialize(event, exclude=names), serialize(event, include=names)
    return sealed(others, personal, ",".join(event.personal), cipher, place_of(stream, version, its.__name__))


def _json(value: Any) -> str:
    return to_json(value).decode()


def _recorded(connection: Connection, rows: Iterable[Any]) -> list[RecordedEvent]:
    """The events of rows; what is personal is revealed if the connection does so (`subjects.heed`)."""
    its = subjects.known_to(connection)
    return its.reveal(list(rows)) if its else list(map(RecordedEvent._make, rows))


_hash = events.c.hash
_recorded_columns = [column for column in events.c if column is not _hash]
_its_asked = entries(bindparam("streams")).c.key
_its_events = select(events.c.position).where(events.c.stream == _its_asked)
_without = select(_its_asked).where(
    _its_events.exists(), ~_its_events.where(events.c.type.in_(select(entries(bindparam("types")).c.key))).exists()
)
_any_of = (
    select(events.c.position)
    .where(events.c.position > bindparam("after"), events.c.position <= bindparam("upto"))
    .where(events.c.type.in_(select(entries(bindparam("types")).c.key)))
    .limit(1)
)
_last_position = select(func.max(events.c.position))
_head = select(events.c.position, _hash).order_by(events.c.position.desc()).limit(1)
_head_hash = select(_hash).order_by(events.c.position.desc()).limit(1)
_last_sealed = _head.where(_hash.is_not(None))
_hashes = (
    select(events.c.position, _hash)
    .where(events.c.position > bindparam("after"), events.c.position <= bindparam("upto"))
    .order_by(events.c.position)
)
_stored = (
    select(*(column if isinstance(column.type, Integer | LargeBinary) else bytes_of(column) for column in events.c))
    .where(events.c.position > bindparam("after"))
    .order_by(events.c.position)
    .limit(bindparam("limit"))
)
_made = entries(bindparam("made"))
_seal = update(events).values(hash=unhex(_made.c.value)).where(events.c.position == cast(_made.c.key, BigInt))
_version_at = (
    select(events.c.version)
    .where(events.c.stream == bindparam("stream"), events.c.recorded_at <= bindparam("time"))
    .order_by(events.c.version.desc())
    .limit(1)
)
_asked = entries(bindparam("streams"))
_heads = union_all(
    select(cast(null(), String), _last_position.scalar_subquery(), _head_hash.scalar_subquery()),
    select(
        _asked.c.key,
        select(func.max(events.c.version)).where(events.c.stream == _asked.c.key).scalar_subquery(),
        cast(null(), LargeBinary),
    ),
)
_after = entries(bindparam("after"))
_read_stream = (
    select(*_recorded_columns)
    .where(
        events.c.stream == bindparam("stream"),
        events.c.version > bindparam("after"),
        events.c.version <= bindparam("upto"),
    )
    .order_by(events.c.version)
    .limit(bindparam("limit"))
)
_by_stream = (
    select(*_recorded_columns)
    .where(tuple_(events.c.stream, events.c.version) > tuple_(bindparam("after_stream"), bindparam("after_version")))
    .order_by(events.c.stream, events.c.version)
    .limit(bindparam("limit"))
)
_types = entries(bindparam("types"))
_of_streams = (
    select(*_recorded_columns)
    .join(_after, (events.c.stream == _after.c.key) & (events.c.version > cast(_after.c.value, BigInt)))
    .order_by(events.c.stream, events.c.version)
)


# For a rare type PostgreSQL's planner reads through the whole log. A page of each type, merged, needs the index only.
_of_a_type = (
    select(*_recorded_columns)
    .where(events.c.type == _types.c.key, events.c.position > bindparam("after"))
    .order_by(events.c.position)
    .limit(bindparam("limit"))
    .lateral("of_a_type")
)
_read_types = (
    select(_of_a_type).select_from(_types.join(_of_a_type, true())).order_by("position").limit(bindparam("limit"))
)


@cache
def _read_all(given: frozenset[str]) -> Select[Any]:
    query = select(*_recorded_columns).where(events.c.position > bindparam("after")).limit(bindparam("limit"))
    if "types" in given:
        query = query.where(events.c.type.in_(select(_types.c.key)))
    if "stream" not in given:
        return query.order_by(events.c.position)
    # The index of streams has versions, not positions: `after` becomes a version if it is an event of this stream.
    stream = events.c.stream == bindparam("stream")
    before = select(events.c.version).where(stream, events.c.position == bindparam("after")).scalar_subquery()
    return query.where(stream, events.c.version > func.coalesce(before, 0)).order_by(events.c.version)


def pages(items: Iterable[T], size: int = PAGE_SIZE) -> Iterator[list[T]]:
    """Lists of `size` items; the last one may be shorter."""
    left = iter(items)
    while page := list(islice(left, size)):
        yield page
