"""What a projection is, and how far each one has come."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select
from sqlalchemy.dialects.sqlite import insert as upsert

from shared.event_store import RecordedEvent
from shared.messages import Event

metadata = MetaData()

checkpoints = Table(
    "checkpoints", metadata, Column("projection", String, primary_key=True), Column("position", Integer, nullable=False)
)


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Turns events into rows: `project` gets those of the types named, in order, in the checkpoint's transaction.

    It is called with one event at least.
    """

    name: str
    events: Mapping[str, type[Event]]
    project: Callable[[Connection, Sequence[tuple[RecordedEvent, Any]]], None]


def positions(connection: Connection) -> dict[str, int]:
    """The position each projection has reached, by its name."""
    return dict(connection.execute(_positions).all())


def checkpoint(connection: Connection, projection: str) -> int:
    return positions(connection).get(projection, 0)


def move_checkpoint(connection: Connection, projection: str, position: int) -> None:
    connection.execute(_move, {"projection": projection, "position": position})


_positions = select(checkpoints)
_insert = upsert(checkpoints)
_move = _insert.on_conflict_do_update(index_elements=["projection"], set_={"position": _insert.excluded.position})
