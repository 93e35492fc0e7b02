"""The inbox: accepted commands, in the order in which they take effect."""

import hashlib
import secrets
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hmac import compare_digest
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import from_json, to_json
from sqlalchemy import Column, Connection, MetaData, String, Table, Text, bindparam, cast, null, select, update

from shared.clock import now
from shared.database.statements import BigInt, entries, fetch, insert_rows, upsert_rows
from shared.personal.ciphers import TILDE, Blind, Cipher, Ciphers, Sealed, sealed
from shared.preconditions import EXISTS, Precondition
from shared.stores import subjects
from shared.stores.subjects import Subjects

metadata = MetaData()

commands = Table(
    "commands",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=False),
    Column("command_id", String, nullable=False, unique=True),
    Column("stream", String, nullable=False),
    Column("type", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("expected_version", BigInt),
    Column("accepted_at", String, nullable=False),
    Column("idempotency_key", String, unique=True),
    Column("fingerprint", String),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("precondition", Text),
)

# Seqs and ids come from rows, not from the engine's sequences: the row's lock makes the order of seq that of commits.
sequences = Table(
    "sequences", metadata, Column("name", String, primary_key=True), Column("value", BigInt, nullable=False)
)

LOCK = "inbox"
"""The lock at which writers of the inbox take turns."""

SEQ = "seq"
"""The name of the sequence for seqs. The other sequences have the names of the categories that they number."""

NO_VERSION = -1
"""The expected version beside a precondition. No stream has it, so a worker too old for preconditions refuses."""

EMPTIED = ""
"""The data of an emptied command. It isn't NULL, since SQLite rewrites a whole table to make a column nullable."""

_NOT_IN_FINGERPRINTS = {None, EXISTS.as_json()}
"""Preconditions that fingerprints leave out, as they did when `If-Match: *` was the only one and was not stored."""


class Submission(NamedTuple):
    """A command on its way into the inbox.

    `id` is the stream's number, None for the next one of the category; `data` lacks the id. The command's events get
    `metadata`, too. `made` are fields of the command that its sender didn't give: a request sent again may have others.
    """

    type: str
    category: str
    id: int | None
    data: dict[str, Any]
    expected_version: int | None = None
    idempotency_key: str | None = None
    precondition: str | None = None
    metadata: Mapping[str, str] = MappingProxyType({})
    personal: Sequence[str] = ()
    """The names of the command's personal fields, which are sealed."""
    made: Mapping[str, str] = MappingProxyType({})

    def required(self, asked: Precondition) -> "Submission":
        """The submission with a precondition, which the stream's version must meet when the command is decided."""
        if not asked.excluded and len(asked.versions) == 1:
            return self._replace(expected_version=next(iter(asked.versions)))
        return self._replace(expected_version=NO_VERSION, precondition=asked.as_json())

    @property
    def fingerprint(self) -> str:
        """A hash of the request, to know one sent again. Versions without preconditions made the same hashes."""
        expected = None if self.precondition else self.expected_version
        what: tuple[Any, ...] = (self.type, self.category, self.id, self.data, expected)
        if self.precondition not in _NOT_IN_FINGERPRINTS:
            what = (*what, self.precondition)
        return hashlib.sha256(to_json(what)).hexdigest()


class Accepted(NamedTuple):
    """A command in the inbox. `stream` is the category, a hyphen, and the number.

    `data`, `metadata` and `precondition` are JSON; `precondition` is None if `expected_version` says it all. `data` is
    EMPTIED once the command was emptied.
    """

    seq: int
    command_id: str
    stream: str
    type: str
    data: str
    expected_version: int | None
    accepted_at: str
    metadata: str
    precondition: str | None = None

    @property
    def principal(self) -> str | None:
        """Who sent it; None if that was not recorded."""
        who: str | None = from_json(self.metadata).get("principal")
        return who

    @property
    def is_emptied(self) -> bool:
        """Whether the command's data was taken away, since it was handled and is old."""
        return self.data == EMPTIED

    def trail(self) -> dict[str, Any]:
        """The fields by which logs and traces name the command."""
        metadata = from_json(self.metadata)
        return {"command_id": self.command_id, "type": self.type, "stream": self.stream, **metadata}


STREAM, DATA = map(Accepted._fields.index, ("stream", "data"))


class Age(NamedTuple):
    """When the command with this seq was accepted."""

    seq: int
    accepted_at: str


class Acceptance(NamedTuple):
    """A command is in the inbox. `replayed`: it was there already, under the same idempotency key."""

    command: Accepted
    replayed: bool


class KeyReused(Exception):
    """The idempotency key was used before, for another request."""


class InboxFull(Exception):
    """As many commands wait to be handled as may."""


Answer = Acceptance | KeyReused | InboxFull
"""What `accept` returns for a submission."""


def last_numbers(connection: Connection) -> dict[str, int]:
    """The last number that each sequence has given, 0 if none: the last seq under SEQ, the others by category."""
    numbers: dict[str, int] = defaultdict(int)
    numbers.update(fetch(connection, _sequences))
    return numbers


def accept(
    connection: Connection,
    batch: Sequence[Submission],
    numbers: dict[str, int] | None = None,
    *,
    highest: int | None = None,
) -> list[Answer]:
    """Put a batch into the inbox, all or nothing. A replayed or refused command adds no row and takes no number.

    Personal fields are sealed. `numbers` are `last_numbers` of the same transaction; `accept` counts them up.
    `highest`: the highest seq to give.
    """
    numbers = last_numbers(connection) if numbers is None else numbers
    people = subjects.of(connection)
    batch = [_with_hashed_key(each, people.blind) if each.idempotency_key else each for each in batch]
    known = _known(connection, batch, people)
    accepted_at = now()
    new: list[tuple[Submission, Accepted]] = []
    answers: list[Answer] = []
    for submission in batch:
        key = submission.idempotency_key
        if key in known:
            first, is_same = known[key]
            answers.append(Acceptance(first, replayed=True) if is_same(submission.fingerprint) else KeyReused())
            continue
        if highest is not None and numbers[SEQ] >= highest:
            answers.append(InboxFull())
            continue
        command = _number(submission, numbers, accepted_at)
        new.append((submission, command))
        if key:
            known[key] = command, submission.fingerprint.__eq__
        answers.append(Acceptance(command, replayed=False))
    if new:
        last = {submission.category: numbers[submission.category] for submission, _ in new if submission.personal}
        ciphers = people.sealing({command.stream for submission, command in new if submission.personal}, last=last)
        insert_rows(connection, commands, [_row(*each, ciphers) for each in new])
        upsert_rows(connection, sequences, numbers.items())
    return answers


def find(connection: Connection, command_id: str) -> Accepted | None:
    """The command with this id, in small letters or capitals (RFC 9562, section 4)."""
    return next(iter(_revealed(connection, fetch(connection, _find, id=command_id.lower()))), None)


def find_all(connection: Connection, command_ids: Iterable[str]) -> dict[str, Accepted]:
    """The commands with these ids, by their ids; without those that were never accepted."""
    rows = fetch(connection, _find_all, ids=to_json(dict.fromkeys(command_ids)).decode())
    return {command.command_id: command for command in _revealed(connection, rows)}


def read(connection: Connection, seqs: Collection[int]) -> list[Accepted]:
    """The commands with these seqs, in order of seq."""
    return _revealed(connection, connection.execute(_read, {"seqs": list(seqs)})) if seqs else []


def read_after(connection: Connection, seq: int, *, limit: int) -> list[Accepted]:
    """The commands past a seq, in order of seq."""
    return _revealed(connection, fetch(connection, _read_after, after=seq, limit=limit))


def correlated(connection: Connection, id: str, *, after: int, upto: int, limit: int) -> list[Accepted]:
    """Up to `limit` commands with `after < seq <= upto` and this correlation id, in order of seq. Goes through all."""
    has_id = commands.c.metadata.contains(f'"correlation_id":{to_json(id).decode()}', autoescape=True)
    query = _select.where(commands.c.seq > after, commands.c.seq <= upto, has_id).order_by(commands.c.seq).limit(limit)
    found = _revealed(connection, connection.execute(query))
    return [each for each in found if from_json(each.metadata).get("correlation_id") == id]


def last_seq(connection: Connection) -> int:
    """The highest seq ever given, 0 if none was."""
    return connection.scalar(select(sequences.c.value).where(sequences.c.name == SEQ)) or 0


def emptied_seq(connection: Connection) -> int:
    """The seq up to which commands are emptied: no command is before all those accepted earlier."""

    def has_data(seq: int) -> bool:
        return not any(each.is_emptied for each in read(connection, [seq]))

    return bisect_left(range(1, last_seq(connection) + 1), True, key=has_data)


def ages(connection: Connection, *, after: int, by: str, limit: int) -> list[Age]:
    """When commands past a seq were accepted, in order of seq; without those accepted later than `by`."""
    return list(map(Age._make, fetch(connection, _ages, after=after, by=by, limit=limit)))


def accepted_at(connection: Connection, seqs: Iterable[int]) -> dict[int, str]:
    """When commands were accepted, by their seqs; a seq that was not given has no entry."""
    return dict(fetch(connection, _accepted_at, seqs=to_json(dict.fromkeys(seqs)).decode()))


def empty(connection: Connection, *, after: int, upto: int) -> int:
    """Take away data and idempotency keys of the commands with `after < seq <= upto`; returns how many had data."""
    return connection.execute(_empty, {"after": after, "upto": upto}).rowcount


def count_from(connection: Connection, numbers: Mapping[str, int]) -> None:
    """Set the last number given in each category; the next number is one higher."""
    upsert_rows(connection, sequences, numbers.items())


def reveal(rows: Sequence[Any], people: Subjects) -> list[Accepted]:
    """The commands of rows, with what is personal; null if the person is erased, or the key is lost."""
    ciphers = people.ciphers({row[STREAM]: None for row in rows if TILDE in row[DATA]})
    return [Accepted._make(_shown(row, ciphers)) for row in rows]


def _shown(row: Any, ciphers: Ciphers) -> Any:
    seq, command_id, stream, type, data, *others = row
    if its := Sealed.found(data):
        return (seq, command_id, stream, type, its.shown(ciphers.get(stream), place_of(stream, command_id)), *others)
    return row


def _revealed(connection: Connection, rows: Iterable[Any]) -> list[Accepted]:
    """The commands of rows. What is personal is revealed if the connection does so (`subjects.heed`)."""
    people = subjects.known_to(connection)
    return reveal(list(rows), people) if people else list(map(Accepted._make, rows))


def _known(
    connection: Connection, batch: Sequence[Submission], people: Subjects
) -> dict[str | None, tuple[Accepted, Callable[[str], bool]]]:
    """The commands that came with the batch's keys, each with what tells whether a fingerprint is its request's."""
    keys = [submission.idempotency_key for submission in batch if submission.idempotency_key]
    if not keys:
        return {}
    query = _select.add_columns(commands.c.idempotency_key, commands.c.fingerprint)
    rows = connection.execute(query.where(commands.c.idempotency_key.in_(keys))).all()
    if not rows:
        return {}
    found = _revealed(connection, (columns for *columns, _, _ in rows))
    ciphers = people.ciphers({command.stream for command in found})
    return {
        key: (command, partial(_is_same, fingerprint, command.stream, ciphers))
        for command, (*_, key, fingerprint) in zip(found, rows, strict=True)
    }


def _is_same(stored: str | None, stream: str, ciphers: Ciphers, fingerprint: str) -> bool:
    """Whether a fingerprint is a stored request's. Of an erased person's nobody can tell: it counts as the same."""
    if stored == fingerprint or (stream in ciphers and not ciphers[stream]):
        return True
    cipher = ciphers.get(stream)
    return bool(stored and cipher and compare_digest(stored, cipher.fingerprint(fingerprint)))


def _with_hashed_key(submission: Submission, blind: Blind) -> Submission:
    return submission._replace(idempotency_key=blind("idempotency", submission.idempotency_key or ""))


def place_of(stream: str, command_id: str) -> str:
    """The place of a command, to which its sealed fields belong."""
    return f"{stream} {command_id}"


def _row(submission: Submission, command: Accepted, ciphers: Ciphers) -> tuple[object, ...]:
    """The row of a command: its personal fields are sealed, and its fingerprint is none that a guess would give."""
    key, fingerprint = submission.idempotency_key, submission.fingerprint if submission.idempotency_key else None
    seq, command_id, stream, type, data, *others, metadata_json, precondition = command
    if submission.personal:
        cipher = ciphers[stream]
        data = _sealed(submission, stream, cipher, place_of(stream, command_id))
        fingerprint = cipher.fingerprint(fingerprint) if fingerprint and cipher else None
    return (seq, command_id, stream, type, data, *others, key, fingerprint, metadata_json, precondition)


def _sealed(submission: Submission, stream: str, cipher: Cipher | None, place: str) -> str:
    number = int(stream[len(submission.category) + 1 :])
    fields = {f"{submission.category}_id": number, **submission.data, **submission.made}
    personal = {name: fields.pop(name) for name in submission.personal}
    return sealed(to_json(fields), to_json(personal), ",".join(personal), cipher, place).decode()


def _number(submission: Submission, numbers: dict[str, int], accepted_at: str) -> Accepted:
    numbers[SEQ] += 1
    id = submission.id
    if id is None:
        id = numbers[submission.category] = numbers[submission.category] + 1
    return Accepted(
        seq=numbers[SEQ],
        command_id=_uuid7(),
        stream=f"{submission.category}-{id}",
        type=submission.type,
        data=to_json({f"{submission.category}_id": id, **submission.data, **submission.made}).decode(),
        expected_version=submission.expected_version,
        accepted_at=accepted_at,
        metadata=to_json(dict(submission.metadata)).decode(),
        precondition=submission.precondition,
    )


def _uuid7() -> str:
    """A new id (RFC 9562, section 5.7). Ids that grow with time keep the writes of their index on a few pages."""
    random = secrets.randbits(74)
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (2**62 - 1)
    return str(UUID(int=value))


_sequences = select(sequences)
_accepted = [commands.c[name] for name in Accepted._fields]
_select = select(*_accepted)
_find = _select.where(commands.c.command_id == bindparam("id"))
_ids = entries(bindparam("ids"))
_find_all = _select.where(commands.c.command_id.in_(select(_ids.c.key)))
_read = _select.where(commands.c.seq.in_(bindparam("seqs", expanding=True))).order_by(commands.c.seq)
_ages = (
    select(commands.c.seq, commands.c.accepted_at)
    .where(commands.c.seq > bindparam("after"), commands.c.accepted_at <= bindparam("by"))
    .order_by(commands.c.seq)
    .limit(bindparam("limit"))
)
_seqs = entries(bindparam("seqs"))
_accepted_at = select(commands.c.seq, commands.c.accepted_at).where(
    commands.c.seq.in_(select(cast(_seqs.c.key, BigInt)))
)
_empty = (
    update(commands)
    .where(commands.c.seq > bindparam("after"), commands.c.seq <= bindparam("upto"), commands.c.data != EMPTIED)
    .values(data=EMPTIED, idempotency_key=null(), fingerprint=null())
)
_read_after = _select.where(commands.c.seq > bindparam("after")).order_by(commands.c.seq).limit(bindparam("limit"))
