"""What became of each command, kept beside the events and written with them."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    select,
    text,
)

from shared.database.engines import BigInt, entries, fetch, insert_rows
from shared.stores.event_store import metadata
from shared.stores.inbox import Accepted

FAILED = text("status = 'failed'")

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=False),
    Column("status", String, nullable=False),
    Column("version", BigInt),
    Column("position", BigInt),
    Column("problem", Text),
    Column("handled_at", String, nullable=False),
    Index("outcomes_failed", "seq", sqlite_where=FAILED, postgresql_where=FAILED),
)

aside = Table(
    "set_aside",
    metadata,
    Column("seq", BigInt, primary_key=True, autoincrement=False),
    Column("stream", String, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("error", Text),
)


Status = Literal["succeeded", "rejected", "failed"]


class Outcome(NamedTuple):
    """How a command ended. A success tells its stream's version and the position from which it is visible."""

    seq: int
    status: Status
    handled_at: str
    version: int | None = None
    position: int | None = None
    problem: dict[str, Any] | None = None


class SetAside(NamedTuple):
    """A command to be tried again, after `tries` in vain; or one that waits behind such a command on its stream."""

    seq: int
    stream: str
    tries: int
    error: str | None


class Reached(NamedTuple):
    """The highest seq that has an outcome, and the highest that is set aside; 0 if there is none."""

    outcome: int
    aside: int


def record(connection: Connection, new: Sequence[Outcome]) -> None:
    insert_rows(connection, outcomes, [_row(outcome) for outcome in new])


def find(connection: Connection, seqs: Iterable[int]) -> dict[int, Outcome]:
    """Outcomes by the seq of their command; without an entry it has none yet."""
    rows = fetch(connection, _find, seqs=_json(dict.fromkeys(seqs)))
    return {seq: Outcome._make((seq, *rest, problem and from_json(problem))) for seq, *rest, problem in rows}


def reached(connection: Connection) -> Reached:
    """Up to the higher one, every command has its outcome or is set aside."""
    return Reached._make(fetch(connection, _reached)[0])


def last_seq(connection: Connection) -> int:
    """The seq up to which every command has its outcome or is set aside."""
    return max(reached(connection))


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


def begin_again(connection: Connection, command: Accepted) -> None:
    """Forget the outcome of a command: it is handled as if it had been accepted now."""
    connection.execute(delete(outcomes).where(outcomes.c.seq == command.seq))
    set_aside(connection, [SetAside(command.seq, command.stream, 0, None)])


def failed(connection: Connection, *, limit: int) -> list[int]:
    """The seqs of the commands that failed, the latest first."""
    return list(connection.scalars(_failed.limit(limit)))


def stuck_streams(connection: Connection) -> set[str]:
    """The streams on which a command is set aside, so that those behind it must wait."""
    return set(connection.scalars(_stuck_streams))


def _row(outcome: Outcome) -> tuple[object, ...]:
    problem = None if outcome.problem is None else _json(outcome.problem)
    return outcome.seq, outcome.status, outcome.version, outcome.position, problem, outcome.handled_at


def _json(value: Any) -> str:
    return to_json(value).decode()


_columns = [outcomes.c[name] for name in Outcome._fields]
_seqs = entries(bindparam("seqs"))
_find = select(*_columns).where(outcomes.c.seq.in_(select(cast(_seqs.c.key, BigInt))))
_aside = select(*(aside.c[name] for name in SetAside._fields))
_aside_after = _aside.where(aside.c.seq > bindparam("after")).order_by(aside.c.seq).limit(bindparam("limit"))
_find_aside = _aside.where(aside.c.seq.in_(bindparam("seqs", expanding=True)))
_count_aside = select(func.count()).select_from(aside)
_failed = select(outcomes.c.seq).where(outcomes.c.status == "failed").order_by(outcomes.c.seq.desc())
_stuck_streams = select(aside.c.stream).distinct()
_reached = select(*(func.coalesce(select(func.max(table.c.seq)).scalar_subquery(), 0) for table in (outcomes, aside)))
