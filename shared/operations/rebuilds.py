"""Rebuilds: the last one of each projection, from the request to its end; kept beside the projection's checkpoint."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Boolean, Column, Connection, String, Table, Text, bindparam, select, update

from shared.clock import moment, now
from shared.database.statements import BigInt, fetch, upsert_rows
from shared.messages import RecordedEvent
from shared.projection import metadata
from shared.stores import checkpoints

Stage = Literal["none", "requested", "filling", "comparing", "switching", "done", "failed"]

WORKING = {"filling", "comparing", "switching"}
"""Stages in which a process is at it."""

SILENT_AFTER = timedelta(minutes=2)
"""How long a rebuild may say nothing while large tables are compared or swapped."""

table = Table(
    "rebuilds",
    metadata,
    Column("projection", String, primary_key=True),
    Column("seen", BigInt, nullable=False),
    Column("is_due", Boolean, nullable=False),
    Column("stage", String, nullable=False),
    Column("by", Text),
    Column("began_at", String),
    Column("told_at", String),
    Column("first", BigInt),
    Column("reached", BigInt),
    Column("upto", BigInt),
    Column("problem", Text),
    Column("differences", Text),
)


class Rebuild(NamedTuple):
    """The last rebuild of a projection."""

    seen: int
    """The position up to which requests in the log have been seen."""
    is_due: bool
    """Whether a worker is to do it, or is at it."""
    stage: Stage
    by: str | None
    """The principal who asked for it."""
    began_at: str | None
    """When it was requested, or begun."""
    told_at: str | None
    """When it was heard of last."""
    first: int | None
    """The event from which on the shadow tables are filled."""
    reached: int | None
    upto: int | None
    """The event that is reached, of how many."""
    problem: str | None
    """Why it failed, or had to begin again."""
    differences: str | None
    """JSON: how the live tables differed from the log, by table."""

    @property
    def is_under_way(self) -> bool:
        """Whether it waits for a worker, or something was heard of it not long ago."""
        return self.is_due or (self.stage in WORKING and not self.is_silent)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard of it for so long that whoever was at it may be gone."""
        return datetime.now(UTC) - moment(self.told_at or "") > SILENT_AFTER

    @property
    def seconds(self) -> float:
        """From its beginning until it was heard of last."""
        return (moment(self.told_at or "") - moment(self.began_at or "")).total_seconds()

    def shown(self) -> dict[str, Any]:
        """The rebuild as the API shows it."""
        hidden = {"seen", "is_due"}
        shown = {name: value for name, value in self._asdict().items() if name not in hidden}
        return shown | {"differences": self.differences and from_json(self.differences)}


NEVER = Rebuild(0, False, "none", *[None] * 8)


def find(connection: Connection, projection: str) -> Rebuild:
    """The last rebuild of a projection; `NEVER` if there was none."""
    for seen, is_due, *more in fetch(connection, _row, projection=projection):
        return Rebuild(seen, bool(is_due), *more)
    return NEVER


def requested_by(event: RecordedEvent) -> Rebuild:
    """The rebuild that an event asks for."""
    at = event.recorded_at
    return Rebuild(event.position, True, "requested", event.metadata.get("principal"), at, at, *[None] * 5)


def built(connection: Connection, projection: str, *, upto: int) -> None:
    """Record that the projection begins with the first event now: what was requested up to a position is done so."""
    _write(connection, projection, find(connection, projection)._replace(seen=upto))


def request(connection: Connection, projection: str, event: RecordedEvent) -> None:
    """Have a worker rebuild a projection, unless this request was seen before, or one is at it already."""
    last = find(connection, projection)
    if event.position <= last.seen or not checkpoints.position_of(connection, projection):
        return
    if last.is_due:
        _write(connection, projection, last._replace(seen=event.position))
        return
    _write(connection, projection, requested_by(event))


def begin(connection: Connection, projection: str, *, by: str, first: int, upto: int) -> None:
    """Record that a rebuild begins behind an event, the last that the live tables have is `upto`."""
    last, at = find(connection, projection), now()
    _write(
        connection, projection, Rebuild(last.seen, last.is_due, "filling", by, at, at, first, first, upto, None, None)
    )


def tell(connection: Connection, projection: str, stage: Stage, *, reached: int, upto: int) -> None:
    """Record how far a rebuild is."""
    _set(connection, projection, stage=stage, reached=reached, upto=upto)


def end(connection: Connection, projection: str, differences: dict[str, Any]) -> None:
    """Record that a rebuild is done, in the transaction that swaps its tables in."""
    _set(connection, projection, stage="done", is_due=False, differences=to_json(differences).decode())


def fail(connection: Connection, projection: str, problem: str, *, for_good: bool) -> None:
    """Record why a rebuild failed; unless that is `for_good`, a worker that was asked for it begins again."""
    again = not for_good and find(connection, projection).is_due
    _set(connection, projection, stage="requested" if again else "failed", is_due=again, problem=problem)


def _write(connection: Connection, projection: str, row: Rebuild) -> None:
    upsert_rows(connection, table, [(projection, *row)])


def _set(connection: Connection, projection: str, **values: Any) -> None:
    connection.execute(update(table).where(table.c.projection == projection).values(told_at=now(), **values))


_row = select(*list(table.columns)[1:]).where(table.c.projection == bindparam("projection"))
