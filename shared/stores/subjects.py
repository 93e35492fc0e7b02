"""Subjects: the people whose data the streams hold, a key for each, and the list of those who were erased.

They stand in a store of their own. Without a person's key, what is personal of that person can be read nowhere.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from pydantic_core import to_json
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    select,
)

from shared.clock import now
from shared.database import engines, scrubbing
from shared.database.statements import BigInt, entries, fetch, insert_rows, upsert_rows
from shared.messages import ErasedEvent, RecordedEvent, UnreadableEvent, place_of
from shared.personal.ciphers import KEY_BYTES, TILDE, Blind, Cipher, Ciphers, Master, Sealed, WrongMasterKey
from shared.plain import Plain
from shared.settings import Settings

metadata = MetaData()

keys = Table(
    "subject_keys",
    metadata,
    Column("stream", String, primary_key=True),
    Column("key", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The keys of people, wrapped by the master key. An erased person has none, and never gets one again."""

erasures = Table(
    "erasures",
    metadata,
    Column("number", BigInt, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False, unique=True),
    Column("erased_at", String, nullable=False),
)
"""Those who were erased, numbered from 1 in the order in which their keys were destroyed."""

secret_table = Table(
    "secrets", metadata, Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False)
)
"""The installation's secret, wrapped by the master key. Whichever master key wraps it wraps new keys of people."""

SECRET = "values"  # noqa: S105 its name
"""The name of the secret under which unique keys and idempotency keys are hashed."""

SUBJECTS = "subjects"

LOCK = "subjects"
"""The lock at which writers of this store take turns."""

AHEAD = 500
"""Keys made at once for the next numbers of a category, and read at once: they cost one commit, one query together."""

Row = tuple[Any, ...]
"""An event's columns, in the order of RecordedEvent's fields."""

STREAM, DATA = map(RecordedEvent._fields.index, ("stream", "data_json"))

KEPT = 20_000
"""Ciphers that a process keeps: the latest to be used."""


class NoMasterKey(Plain):
    """There is no master key. The message says in one line what to do."""

    def __init__(self, settings: Settings) -> None:
        made = f"{settings.master_file} doesn't exist: `cqrs init` makes it"
        super().__init__(f"no master key: set CQRS_MASTER_KEY{'' if settings.subjects_url else f'; {made}'}")


def master_of(settings: Settings) -> Master:
    """The master keys, of the setting or of the file. Raises NoMasterKey, or OSError for a file that can't be read."""
    text = settings.master_key.get_secret_value() if settings.master_key else ""
    if not text:
        try:
            text = settings.master_file.read_text()
        except FileNotFoundError:
            raise NoMasterKey(settings) from None
    return Master(tuple(bytes.fromhex(each) for each in text.split(",")))


def secret_in(connection: Connection, table: Table) -> bytes | None:
    """The installation's secret as it is stored in a table, wrapped; None if it isn't there."""
    value: bytes | None = connection.scalar(select(table.c.value).where(table.c.name == SECRET))
    return value


def keep_secret(connection: Connection, table: Table, wrapped: bytes) -> None:
    """Store the installation's secret in a table, in the place of what is there."""
    upsert_rows(connection, table, [(SECRET, wrapped)])


def new_secret(master: Master) -> bytes:
    """A secret for a new installation, wrapped."""
    return master.wrap(secrets.token_bytes(KEY_BYTES), SECRET)


def wrong_master_key(connection: Connection, settings: Settings) -> Plain | None:
    """What is wrong with the master key, in one line; None if it is the one that wraps the installation's secret."""
    try:
        master, wrapped = master_of(settings), secret_in(connection, secret_table)
        if wrapped:
            master.unwrap(wrapped, SECRET)
    except (NoMasterKey, WrongMasterKey) as error:
        return error
    return None


def erased_streams(connection: Connection) -> list[str]:
    """The streams of those who were erased, in the order in which their keys were destroyed."""
    return [stream for _, stream in fetch(connection, _erasures, after=0)]


def without_key(connection: Connection, streams: Iterable[str]) -> list[str]:
    """Those of the streams that have no key and aren't erased."""
    return [stream for (stream,) in fetch(connection, _without_key, streams=as_object(streams))]


def as_object(streams: Iterable[str]) -> str:
    """A JSON object with these streams as its keys, for `entries`."""
    return to_json(dict.fromkeys(streams)).decode()


def heed(engine: Engine, subjects: "Subjects") -> Engine:
    """Have the engine's connections seal what is personal before they write it, and reveal what they read."""

    @event.listens_for(engine, "connect")
    def remember(_: Any, record: Any) -> None:
        record.info[SUBJECTS] = subjects

    return engine


def known_to(connection: Connection) -> "Subjects | None":
    """The subjects that a connection heeds."""
    its: Subjects | None = connection.info.get(SUBJECTS)
    return its


def of(connection: Connection) -> "Subjects":
    """The subjects that a connection heeds, which it must."""
    found: Subjects = connection.info[SUBJECTS]
    return found


def erased(connection: Connection) -> int:
    """How many people were erased."""
    return int(fetch(connection, _last_erasure)[0][0])


class Subjects:
    """Seals and reveals what is personal. One for each process; threads share it."""

    def __init__(self, url: str, read_master: Callable[[], Master], *, looks: bool = True) -> None:
        """`looks`: whether it sees at each use who was erased; a worker looks by itself, once for all that it does."""
        self._url = url
        self._looks = looks
        self._read_master = read_master
        self._master = read_master()
        self._reader = engines.reader(url)
        self._writer = engines.writer(url, lock=LOCK)
        self._scrubbing = scrubbing.Scrubbing(self._writer, [keys])
        self._lock = Lock()
        self._known: dict[str, Cipher | None] = {}
        self._highest: dict[str, int] = defaultdict(int)
        self._erased = 0
        self._blind: Blind | None = None

    @classmethod
    def of(cls, settings: Settings, *, looks: bool = True) -> Self:
        """The subjects of an installation. Raises NoMasterKey."""
        return cls(settings.subjects, partial(master_of, settings), looks=looks)

    def close(self) -> None:
        """Close the connections."""
        self._reader.dispose()
        self._writer.dispose()

    @property
    def blind(self) -> Blind:
        """Hashes values under the installation's secret. Raises WrongMasterKey."""
        if self._blind is None:
            with self._reader.connect() as connection:
                self._blind = Blind(self._unwrap(secret_in(connection, secret_table) or b"", SECRET))
        return self._blind

    def erased(self) -> int:
        """How many people were erased. Whoever keeps what is personal looks whether this has grown."""
        with self._reader.connect() as connection, self._lock:
            self._see_erasures(connection)
            return self._erased

    def is_erased(self, stream: str) -> bool:
        """Whether the stream's person is erased: the key is destroyed, whether an event says so already or not."""
        return self.ciphers([stream]).get(stream, ...) is None

    def ciphers(self, streams: Collection[str]) -> Ciphers:
        """The ciphers of these streams; one whose key is lost, or was never made, has no entry."""
        return self._ciphers(streams, look=self._looks)

    def _ciphers(self, streams: Collection[str], *, look: bool) -> dict[str, Cipher | None]:
        if not streams:
            return {}
        known = self._known
        with self._lock:
            found = {stream: known[stream] for stream in streams if stream in known}
            if look or len(found) < len(streams):
                with self._reader.connect() as connection:
                    self._see_erasures(connection)
                    self._look_up(connection, [stream for stream in streams if stream not in known])
                found = {stream: known[stream] for stream in streams if stream in known}
                self._forget_surplus()
        return found

    def sealing(self, streams: Collection[str], *, last: Mapping[str, int] | None = None) -> Ciphers:
        """The ciphers of these streams, all of them: missing keys are made, and are durable when this returns.

        `last`: the last number given in each category; keys for those that follow are made along with a missing one.
        """
        found = self._ciphers(streams, look=False)  # what is sealed under a key that was destroyed opens nowhere
        if missing := [stream for stream in streams if stream not in found]:
            self.make([*missing, *chain.from_iterable(_following(*its) for its in (last or {}).items())])
            found |= self._ciphers(missing, look=False)
        return found

    def make(self, streams: Iterable[str]) -> None:
        """Make keys for those of the streams that have none and aren't erased. Raises WrongMasterKey."""
        with self._lock:
            self._known |= self._make(streams)

    def _make(self, streams: Iterable[str]) -> dict[str, Cipher]:
        with self._writer.begin() as connection:
            secret = secret_in(connection, secret_table) or b""
            self._unwrap(secret, SECRET)
            new = {stream: secrets.token_bytes(KEY_BYTES) for stream in without_key(connection, streams)}
            # A bytearray, as in the event store.
            rows = [(stream, bytearray(self._master.wrap(key, stream, like=secret))) for stream, key in new.items()]
            insert_rows(connection, keys, rows)
        return {stream: Cipher(key) for stream, key in new.items()}

    def erase(self, streams: Collection[str]) -> None:
        """Destroy the keys of these streams, for good: when this returns, that survives a loss of power."""
        with self._writer.begin() as connection:
            asked = as_object(streams)
            rows = fetch(connection, _not_erased, streams=asked)
            number = erased(connection)
            at = now()
            insert_rows(connection, erasures, [(number + n, stream, at) for n, (stream,) in enumerate(rows, 1)])
            fetch(connection, _destroy, streams=asked)
            scrubbing.mark(connection)
        self.erased()

    def scrub(self) -> bool:
        """Overwrite what is left of destroyed keys, if need be and others let it; returns whether nothing is left.

        Command workers do so again and again.
        """
        return self._scrubbing.look()

    def reveal(self, rows: Sequence[Row]) -> list[RecordedEvent]:
        """The events of rows, with their personal fields as they were before they were sealed.

        An event of a person who is erased is an ErasedEvent; one that can't be opened, since the key is lost or
        another one, is an UnreadableEvent. Their personal fields are null.
        """
        ciphers = self.ciphers({row[STREAM]: None for row in rows if TILDE in row[DATA]})
        return [_revealed(row, ciphers) for row in rows]

    def _see_erasures(self, connection: Connection) -> None:
        for number, stream in fetch(connection, _erasures, after=self._erased):
            self._erased = number
            if stream in self._known:
                self._known[stream] = None

    def _look_up(self, connection: Connection, streams: Sequence[str]) -> None:
        """Read the keys of streams; with that of a person who is newer than all before, those of the next ones."""
        if not streams:
            return
        newest = max(streams, key=lambda stream: (len(stream), stream))
        for stream, wrapped in fetch(connection, _keys, streams=as_object((*streams, *self._next_to(newest)))):
            try:
                self._known[stream] = Cipher(self._unwrap(wrapped, stream))
            except WrongMasterKey:
                if stream in streams:
                    raise
        if without := [stream for stream in streams if stream not in self._known]:
            self._known |= {stream: None for (stream,) in fetch(connection, _erased, streams=as_object(without))}

    def _next_to(self, stream: str) -> list[str]:
        category, _, number = stream.rpartition("-")
        if not number.isdecimal() or int(number) <= self._highest[category]:
            return []
        self._highest[category] = int(number)
        return _following(category, int(number))

    def _unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Unwrap a key. If no known master key wrapped it, there may be a new one: they are read again."""
        try:
            return self._master.unwrap(wrapped, name)
        except WrongMasterKey:
            self._master = self._read_master()
            return self._master.unwrap(wrapped, name)

    def _forget_surplus(self) -> None:
        if (surplus := len(self._known) - KEPT) > 0:
            for stream in list(islice(self._known, surplus)):
                del self._known[stream]


def _following(category: str, number: int) -> list[str]:
    return [f"{category}-{number + n}" for n in range(1, AHEAD)]


def _revealed(row: Row, ciphers: Ciphers) -> RecordedEvent:
    position, stream, version, type, data_json, metadata, recorded_at, schema_version = row
    sealed = Sealed.found(data_json)
    if not sealed:
        return RecordedEvent._make(row)
    cipher, kind, json = ciphers.get(stream), RecordedEvent, ""
    if cipher and sealed.token:
        try:
            json = sealed.opened(cipher, place_of(stream, version, type))
        except (InvalidTag, ValueError):
            kind = UnreadableEvent
    else:
        kind = UnreadableEvent if sealed.token and stream not in ciphers else ErasedEvent
    json = json or sealed.hidden()
    return kind._make((position, stream, version, type, json, metadata, recorded_at, schema_version))


_asked = entries(bindparam("streams"))
_its = select(_asked.c.key)
_erasures = (
    select(erasures.c.number, erasures.c.stream).where(erasures.c.number > bindparam("after")).order_by("number")
)
_keys = select(keys).where(keys.c.stream.in_(_its))
_erased = select(erasures.c.stream).where(erasures.c.stream.in_(_its))
_without_key = select(_asked.c.key).where(
    _asked.c.key.not_in(select(keys.c.stream)), _asked.c.key.not_in(select(erasures.c.stream))
)
_not_erased = select(_asked.c.key).where(_asked.c.key.not_in(select(erasures.c.stream)))
_last_erasure = select(func.coalesce(func.max(erasures.c.number), 0))
_destroy = delete(keys).where(keys.c.stream.in_(_its))
