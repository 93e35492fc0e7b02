"""Shapes of events: whether this version knows the type and the schema version of every event in the log."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from shared.database.statements import fetch
from shared.messages import Event, Types
from shared.plain import Plain
from shared.stores.event_store import CHANGED, events


class Unreadable(Plain):
    """The log has events that this version can't read. `lines` and the message say which."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def compare(log: Connection, known: Types[Any]) -> Unreadable | None:
    """The error that says what can't be read of the log with the events known, if anything can't."""
    wrong = list(unreadable(log, known))
    return Unreadable(wrong) if wrong else None


def unreadable(log: Connection, known: Types[Any]) -> Iterator[str]:
    """A line for each thing that is wrong. If nothing is, it takes the same time however long the log is."""
    for name, event in known.items():
        for version in sorted(event.upcasters.keys() ^ range(1, event.schema_version)):
            yield _gap(log, name, event, version)
    for name, newest in fetch(log, _newest):
        last = known[name].schema_version if name in known else 0
        for version, count in _counts(log, name).items() if newest > last else ():
            if version > last:
                yield f"the log has {count:,} {name} of schema version {version}, which this version doesn't know"


def _gap(log: Connection, name: str, event: type[Event], version: int) -> str:
    if version in event.upcasters:
        return f"{name} has an upcaster from schema version {version}, and its own is {event.schema_version}"
    count = sum(count for its, count in _counts(log, name).items() if its <= version)
    return f"{name} has no upcaster from schema version {version}, and the log has {count:,} that need it"


def _counts(log: Connection, name: str) -> dict[int, int]:
    """How many events of a type there are, by schema version."""
    return dict(fetch(log, _counted, type=name))


# From one type to the next by the index of types, and to the newest shape of each by that of shapes.
_type, _shape = events.c.type, events.c.schema_version
_first = select(func.min(_type).label("type")).cte("types", recursive=True)
_next = select(func.min(_type)).where(_type > _first.c.type).scalar_subquery()
_types = _first.union_all(select(_next).where(_first.c.type.is_not(None)))
_changed = select(func.max(_shape)).where(_type == _types.c.type, CHANGED).scalar_subquery()
_newest = select(_types.c.type, func.coalesce(_changed, 1)).where(_types.c.type.is_not(None))
_counted = select(_shape, func.count()).where(_type == bindparam("type")).group_by(_shape).order_by(_shape)
