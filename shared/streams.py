"""Every stream of the log, folded."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection

from shared import event_store
from shared.decider import Decider, UniqueKey
from shared.event_store import RecordedEvent
from shared.messages import UnknownShape

Aggregates = Mapping[str, Decider[Any, Any, Any]]


class Wrong(Exception):
    """What is wrong with the stores, in one line."""


class Folded(NamedTuple):
    """A stream, and the keys that it holds."""

    stream: str
    version: int
    keys: frozenset[UniqueKey]

    @property
    def category(self) -> str:
        return self.stream.rpartition("-")[0]

    @property
    def number(self) -> int:
        return int(self.stream.rpartition("-")[2])


def folded(connection: Connection, aggregates: Aggregates) -> Iterator[Folded]:
    """In order of stream. Raises Wrong at one whose versions aren't dense, or that the rules can't read."""
    for stream, events in groupby(event_store.read_by_stream(connection), key=attrgetter("stream")):
        category, _, number = stream.rpartition("-")
        if category not in aggregates or not number.isdecimal():
            raise Wrong(f"{stream} is a stream of no aggregate that is known")
        yield _fold(stream, events, aggregates[category])


def _fold(stream: str, events: Iterable[RecordedEvent], rules: Decider[Any, Any, Any]) -> Folded:
    state, version = None, 0
    for event in events:
        if event.version != version + 1:
            raise Wrong(f"{stream}: version {event.version} follows {version} (event {event.position})")
        version = event.version
        state = _evolve(state, event, rules)
    return Folded(stream, version, rules.unique_keys(state))


def _evolve(state: Any, event: RecordedEvent, rules: Decider[Any, Any, Any]) -> Any:
    try:
        return rules.evolve(state, event.model(rules.events))
    except UnknownShape as error:
        raise Wrong(f"event {event.position} of {event.stream}: {error}") from error
    except Exception as error:
        why = " ".join(str(error).split())
        raise Wrong(f"event {event.position} of {event.stream}: this {event.type} can't be read: {why}") from error
