"""What became of each command, kept beside the events and written with them; and the keys that are taken."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Column, Connection, Integer, String, Table, Text, bindparam, delete, func, insert, select, tuple_
from sqlalchemy.dialects.sqlite import insert as upsert

from shared.decider import UniqueKey
from shared.event_store import metadata

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("status", String, nullable=False),
    Column("version", Integer),
    Column("position", Integer),
    Column("problem", Text),
    Column("handled_at", String, nullable=False),
)

unique_keys = Table(
    "unique_keys",
    metadata,
    Column("scope", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("stream", String, nullable=False),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
)

sweeps = Table("sweeps", metadata, Column("seq", Integer, nullable=False))


class Outcome(NamedTuple):
    """How a command ended. A success tells its stream's version and the position from which it is visible."""

    seq: int
    status: Literal["succeeded", "rejected", "failed"]
    handled_at: str
    version: int | None = None
    position: int | None = None
    problem: dict[str, Any] | None = None


def record(connection: Connection, new: Sequence[Outcome]) -> None:
    rows = [{**outcome._asdict(), "problem": _json(outcome.problem)} for outcome in new]
    if rows:
        connection.execute(insert(outcomes), rows)


def find(connection: Connection, seqs: Iterable[int]) -> dict[int, Outcome]:
    """Outcomes by the seq of their command; without an entry it has none yet."""
    rows = connection.execute(select(outcomes).where(outcomes.c.seq.in_(list(seqs)))).mappings()
    return {row["seq"]: Outcome(**{**row, "problem": row["problem"] and from_json(row["problem"])}) for row in rows}


def last_seq(connection: Connection) -> int:
    """The highest seq that has an outcome, 0 if none has."""
    return connection.scalar(select(func.max(outcomes.c.seq))) or 0


def owners(connection: Connection, keys: Collection[UniqueKey]) -> dict[UniqueKey, str]:
    """The stream that holds each key, for those that are taken."""
    if not keys:
        return {}
    by_key = tuple_(unique_keys.c.scope, unique_keys.c.value).in_(list(keys))
    rows = connection.execute(select(unique_keys).where(by_key))
    return {UniqueKey(scope, value): stream for scope, value, stream in rows}


def move_keys(connection: Connection, to: Mapping[UniqueKey, str | None]) -> None:
    """Give each key to its stream; to None: free it."""
    if to:
        connection.execute(_free, [{"s": scope, "v": value} for scope, value in to])
    if held := [{**key._asdict(), "stream": stream} for key, stream in to.items() if stream]:
        connection.execute(insert(unique_keys), held)


def tries(connection: Connection, seq: int) -> int:
    """How often a command was tried in vain."""
    return connection.scalar(select(attempts.c.tries).where(attempts.c.seq == seq)) or 0


def record_tries(connection: Connection, failed: Mapping[int, tuple[int, str]]) -> None:
    """Keep, by seq, how often a command was tried and what the last error was."""
    if failed:
        connection.execute(_try, [{"seq": seq, "tries": n, "error": error} for seq, (n, error) in failed.items()])


def swept(connection: Connection) -> int:
    """The seq up to which every command is known to have its outcome."""
    return connection.scalar(select(func.max(sweeps.c.seq))) or 0


def record_swept(connection: Connection, seq: int) -> None:
    connection.execute(delete(sweeps))
    connection.execute(insert(sweeps), {"seq": seq})


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else to_json(value).decode()


_free = delete(unique_keys).where(unique_keys.c.scope == bindparam("s"), unique_keys.c.value == bindparam("v"))
_insert_try = upsert(attempts)
_try = _insert_try.on_conflict_do_update(
    index_elements=["seq"], set_={"tries": _insert_try.excluded.tries, "error": _insert_try.excluded.error}
)
