"""What a projection is: the tables of a read model, and how events change them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, MetaData, Table

from shared.messages import Event, RecordedEvent

metadata = MetaData()

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows, under a name, how much is done of how much."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Turns events into rows of its tables.

    `project` gets the events of the types in `events`, in order: at least one, each as it was recorded and as a model.
    It can go through them once, and writes in the transaction that moves the projection's checkpoint.
    `gathers` is how long, in seconds, it lets events gather: few at once cost the most for each, and not every
    projection is waited for. `amend` has, by a revision of the read model's schema, what corrects the rows of versions
    before it.
    """

    name: str
    tables: Sequence[Table]
    events: Mapping[str, type[Event]]
    project: Callable[[Connection, Iterable[tuple[RecordedEvent, Any]]], None]
    gathers: float = 0.0
    amend: Mapping[str, Callable[[Connection, Bar], None]] = field(default_factory=dict)
