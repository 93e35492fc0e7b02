"""Checkpoints: how far each projection has come, and the event that stops it; kept with its read model's tables."""

from typing import NamedTuple

from sqlalchemy import Boolean, Column, Connection, String, Table, Text, bindparam, delete, false, insert, select

from shared.database.statements import BigInt, fetch, upsert_rows
from shared.projection import metadata

table = Table(
    "checkpoints",
    metadata,
    Column("projection", String, primary_key=True),
    Column("position", BigInt, nullable=False),
    Column("paused", Boolean, nullable=False, server_default=false()),
)

stops_table = Table(
    "stops",
    metadata,
    Column("projection", String, primary_key=True),
    Column("position", BigInt, nullable=False),
    Column("error", Text, nullable=False),
)


class Stop(NamedTuple):
    """The position of an event that a projection can't apply, and why. The projection waits before that event."""

    event: int
    error: str


class Progress(NamedTuple):
    """How far a projection has come, whether an operator paused it, and the event that stops it, if one does."""

    position: int
    paused: bool
    stopped: Stop | None

    @property
    def stands_still(self) -> bool:
        """Whether the projection waits for an operator."""
        return self.paused or self.stopped is not None


def positions(connection: Connection) -> dict[str, int]:
    """The position that each projection has reached, by its name."""
    return dict(fetch(connection, _positions))


def position_of(connection: Connection, projection: str) -> int:
    """The position that a projection has reached; 0 if it has not begun."""
    return positions(connection).get(projection, 0)


def progress(connection: Connection, projection: str) -> Progress:
    """The progress of one projection; one that has not begun is at 0."""
    for position, paused, event, error in fetch(connection, _progress, projection=projection):
        return Progress(position, bool(paused), None if event is None else Stop(event, error))
    return Progress(0, paused=False, stopped=None)


def move(connection: Connection, projection: str, position: int, *, paused: bool = False) -> None:
    """Set a projection's position. Workers never move a paused projection; operators may."""
    upsert_rows(connection, table, [(projection, position, paused)])


def stops(connection: Connection) -> dict[str, Stop]:
    """The events that stop projections, by the projection's name."""
    return {name: Stop(event, error) for name, event, error in fetch(connection, _stops)}


def move_stop(connection: Connection, projection: str, stop: Stop | None) -> None:
    """Set the event that stops a projection; None: nothing stops it."""
    connection.execute(delete(stops_table).where(stops_table.c.projection == projection))
    if stop:
        connection.execute(insert(stops_table), {"projection": projection, "position": stop.event, "error": stop.error})


_positions = select(table.c.projection, table.c.position)
_stops = select(stops_table)
_progress = (
    select(table.c.position, table.c.paused, stops_table.c.position, stops_table.c.error)
    .join_from(table, stops_table, stops_table.c.projection == table.c.projection, isouter=True)
    .where(table.c.projection == bindparam("projection"))
)
