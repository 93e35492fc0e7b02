"""Outcomes: how each command ended, kept beside the events and written with them."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import (
    Column,
    Connection,
    Index,
    String,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    text,
)

from shared.database.statements import BigInt, entries, fetch, insert_rows
from shared.stores import set_aside
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


Status = Literal["succeeded", "rejected", "failed"]


class Outcome(NamedTuple):
    """How a command ended. A success has the stream's version, and the position at which read models show it.

    A rejection or failure has its `problem`.
    """

    seq: int
    status: Status
    handled_at: str
    version: int | None = None
    position: int | None = None
    problem: dict[str, Any] | None = None


class Ending(NamedTuple):
    """How and when a command ended, and the position at which read models show it, without what a rejection says."""

    seq: int
    status: Status
    handled_at: str
    position: int | None


class Reached(NamedTuple):
    """The highest seq with an outcome, and the highest seq set aside; 0 where there is none."""

    outcome: int
    aside: int


def record(connection: Connection, new: Sequence[Outcome]) -> None:
    """Write outcomes of commands that have none yet."""
    insert_rows(connection, outcomes, [_row(outcome) for outcome in new])


def find(connection: Connection, seqs: Iterable[int]) -> dict[int, Outcome]:
    """Outcomes by the seqs of their commands; a command that has no outcome yet has no entry."""
    rows = fetch(connection, _find, seqs=_json(dict.fromkeys(seqs)))
    return {seq: Outcome._make((seq, *rest, problem and from_json(problem))) for seq, *rest, problem in rows}


def endings(connection: Connection, seqs: Iterable[int]) -> list[Ending]:
    """How and when commands ended; without those that have no outcome yet."""
    return list(map(Ending._make, fetch(connection, _endings, seqs=_json(dict.fromkeys(seqs)))))


def reached(connection: Connection) -> Reached:
    """How far workers have come: every command up to the higher of both seqs has its outcome or is set aside."""
    return Reached._make(fetch(connection, _reached)[0])


def settled_seq(connection: Connection) -> int:
    """The seq up to which every command has its outcome or is set aside."""
    return max(reached(connection))


def ended_seq(connection: Connection) -> int:
    """The seq up to which every command has its outcome, and none is set aside."""
    first_aside = set_aside.after(connection, 0, limit=1)
    return min([settled_seq(connection), *(each.seq - 1 for each in first_aside)])


def begin_again(connection: Connection, command: Accepted) -> None:
    """Delete a command's outcome and set the command aside, so that it is handled again, with no failed tries.

    See in the same transaction that the command has its data: under the event store's lock, nobody takes it away.
    """
    connection.execute(delete(outcomes).where(outcomes.c.seq == command.seq))
    set_aside.add(connection, [set_aside.SetAside(command.seq, command.stream, 0, None)])


def failed(connection: Connection, *, before: int = sys.maxsize, limit: int) -> list[int]:
    """The seqs below `before` of commands that failed, the latest first."""
    return list(connection.scalars(_failed.where(outcomes.c.seq < before).limit(limit)))


def with_status(connection: Connection, status: Status, *, after: int, before: int) -> list[int]:
    """The seqs with `after < seq < before` of commands that ended so, the latest first. Goes through all between."""
    rows = fetch(connection, _with_status, status=status, after=after, before=before)
    return [seq for (seq,) in rows]


def problems(connection: Connection, *, before: int = sys.maxsize, limit: int) -> list[tuple[int, str]]:
    """The problems of commands that failed, as JSON, by seq below `before`, the latest first."""
    return [(seq, problem) for seq, problem in fetch(connection, _problems, before=before, limit=limit)]


def _row(outcome: Outcome) -> tuple[object, ...]:
    problem = None if outcome.problem is None else _json(outcome.problem)
    return outcome.seq, outcome.status, outcome.version, outcome.position, problem, outcome.handled_at


def _json(value: Any) -> str:
    return to_json(value).decode()


_columns = [outcomes.c[name] for name in Outcome._fields]
_seqs = entries(bindparam("seqs"))
_find = select(*_columns).where(outcomes.c.seq.in_(select(cast(_seqs.c.key, BigInt))))
_endings = select(*(outcomes.c[name] for name in Ending._fields)).where(
    outcomes.c.seq.in_(select(cast(_seqs.c.key, BigInt)))
)
_failed = select(outcomes.c.seq).where(outcomes.c.status == "failed").order_by(outcomes.c.seq.desc())
_with_status = (
    select(outcomes.c.seq)
    .where(outcomes.c.seq > bindparam("after"), outcomes.c.seq < bindparam("before"))
    .where(outcomes.c.status == bindparam("status"))
    .order_by(outcomes.c.seq.desc())
)
_problems = (
    select(outcomes.c.seq, outcomes.c.problem)
    .where(outcomes.c.status == literal_column("'failed'"), outcomes.c.seq < bindparam("before"))
    .order_by(outcomes.c.seq.desc())
    .limit(bindparam("limit"))
)
_reached = select(
    *(func.coalesce(select(func.max(table.c.seq)).scalar_subquery(), 0) for table in (outcomes, set_aside.table))
)
