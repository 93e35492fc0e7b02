"""Shapes of events: whether this version knows the type and the schema version of every event in the log."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from shared.database.statements import fetch
from shared.messages import Event, Types
from shared.plain import Plain
from shared.stores.event_store import CHANGED, events


class Unreadable(Plain):
    """The log has events that this version can't read. Each of `lines` says which and why; the message has all."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def compare(log: Connection, known: Types[Any]) -> Unreadable | None:
    """The error that names the events in the log that can't be read as the `known` classes; None if all can."""
    wrong = list(unreadable(log, known))
    return Unreadable(wrong) if wrong else None


def unreadable(log: Connection, known: Types[Any]) -> Iterator[str]:
    """A line for each upcaster missing or left over, and each shape not known. Fast in a long log if there is none."""
    for name, event in known.items():
        for version in sorted(event.upcasters.keys() ^ range(1, event.schema_version)):
            yield _gap(log, name, event, version)
    for name, newest in fetch(log, _newest):
        last = known[name].schema_version if name in known else 0
        for version, count in _counts(log, name).items() if newest > last else ():
            if version > last:
                yield f"the log has {count:,} {name} of schema version {version}, which this version doesn't know"


def _gap(log: Connection, name: str, event: type[Event], version: int) -> str:
    """Why there must be an upcaster from this version, or why there must be none."""
    if version in event.upcasters:
        return f"{name} has an upcaster from schema version {version}, and {name} is at {event.schema_version}"
    count = sum(count for its, count in _counts(log, name).items() if its <= version)
    return f"{name} has no upcaster from schema version {version}, and the log has {count:,} that need it"


def _counts(log: Connection, name: str) -> dict[int, int]:
    """How many events of a type there are, by schema version."""
    return dict(fetch(log, _counted, type=name))


# These go from one type to the next by the index events_by_type, and to each type's newest shape by events_by_shape.
_type, _shape = events.c.type, events.c.schema_version
_first = select(func.min(_type).label("type")).cte("types", recursive=True)
_next = select(func.min(_type)).where(_type > _first.c.type).scalar_subquery()
_types = _first.union_all(select(_next).where(_first.c.type.is_not(None)))
_changed = select(func.max(_shape)).where(_type == _types.c.type, CHANGED).scalar_subquery()
_newest = select(_types.c.type, func.coalesce(_changed, 1)).where(_types.c.type.is_not(None))
_counted = select(_shape, func.count()).where(_type == bindparam("type")).group_by(_shape).order_by(_shape)
