"""Projections: the tables of a read model, and how events change them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, MetaData, Table

from shared.messages import Event, RecordedEvent

metadata = MetaData()
"""SQLAlchemy's collection of the read model's tables."""

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""A progress bar. Called with a title, it gives a function that shows how many are done, of how many."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Turns events into rows of its tables.

    `project` gets events of the types in `events`, in order: at least one, each as it was recorded and as a model. The
    iterable can be read once. `project` writes in the transaction that moves the projection's checkpoint.
    `gathers`: seconds from a wake-up until a worker looks for events. Many at once cost less for each; 0 for a
    projection that clients wait for.
    `amend`: functions that correct rows when the read model's schema is upgraded, by the revision they come with.
    """

    name: str
    tables: Sequence[Table]
    events: Mapping[str, type[Event]]
    project: Callable[[Connection, Iterable[tuple[RecordedEvent, Any]]], None]
    gathers: float = 0.0
    amend: Mapping[str, Callable[[Connection, Bar], None]] = field(default_factory=dict)

    @property
    def is_personal(self) -> bool:
        """Whether it reads personal fields of any event."""
        return any(event.personal for event in self.events.values())
