"""Checkpoints: how far each projection has come, and what stops it; kept with the tables of its read model."""

from typing import Any, NamedTuple

from sqlalchemy import Boolean, Column, Connection, String, Table, Text, bindparam, delete, false, insert, select

from shared.database.statements import BigInt, fetch, upsert_rows
from shared.projection import metadata

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", String, primary_key=True),
    Column("position", BigInt, nullable=False),
    Column("paused", Boolean, nullable=False, server_default=false()),
)


stops_ = Table(
    "stops",
    metadata,
    Column("projection", String, primary_key=True),
    Column("position", BigInt, nullable=False),
    Column("error", Text, nullable=False),
)


class Stop(NamedTuple):
    """A projection stands before the event at this position, which it can't apply."""

    event: int
    error: str


class Stands(NamedTuple):
    """Where a projection is, whether it shall go on, and what stops it."""

    position: int
    paused: bool
    stopped: Stop | None

    def shown(self, last: int) -> dict[str, Any]:
        """With what it lacks of the log, whose last position was read after this."""
        stopped = self.stopped and self.stopped._asdict()
        return {"position": self.position, "lag": last - self.position, "paused": self.paused, "stopped": stopped}


def positions(connection: Connection) -> dict[str, int]:
    """The position each projection has reached, by its name."""
    return dict(fetch(connection, _positions))


def checkpoint(connection: Connection, projection: str) -> int:
    return positions(connection).get(projection, 0)


def move_checkpoint(connection: Connection, projection: str, position: int, *, paused: bool = False) -> None:
    """Who is paused doesn't move, unless somebody moves it."""
    upsert_rows(connection, checkpoints, [(projection, position, paused)])


def stops(connection: Connection) -> dict[str, Stop]:
    """Where projections stand still, by their names."""
    return {name: Stop(event, error) for name, event, error in fetch(connection, _stops)}


def stands(connection: Connection, projection: str) -> Stands:
    for position, paused, event, error in fetch(connection, _stands, projection=projection):
        return Stands(position, bool(paused), None if event is None else Stop(event, error))
    return Stands(0, paused=False, stopped=None)


def move_stop(connection: Connection, projection: str, stop: Stop | None) -> None:
    """None: it goes on."""
    connection.execute(delete(stops_).where(stops_.c.projection == projection))
    if stop:
        connection.execute(insert(stops_), {"projection": projection, "position": stop.event, "error": stop.error})


_positions = select(checkpoints.c.projection, checkpoints.c.position)


_stops = select(stops_)


_stands = (
    select(checkpoints.c.position, checkpoints.c.paused, stops_.c.position, stops_.c.error)
    .join_from(checkpoints, stops_, stops_.c.projection == checkpoints.c.projection, isouter=True)
    .where(checkpoints.c.projection == bindparam("projection"))
)
