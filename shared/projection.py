"""What a projection is, and how far each one has come."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, Table

from shared.messages import Event, RecordedEvent

metadata = MetaData()


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Turns events into rows: `project` gets those of the types named, in order, in the checkpoint's transaction.

    It gets one at least, each as it is recorded and as a model, and can go through them once. `gathers` is how long, in
    seconds, it lets events gather: of few at once each costs the most, and nobody waits for this one at every command.
    """

    name: str
    tables: Sequence[Table]
    events: Mapping[str, type[Event]]
    project: Callable[[Connection, Iterable[tuple[RecordedEvent, Any]]], None]
    gathers: float = 0.0
