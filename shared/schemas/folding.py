"""Folding: a stream's version and unique keys made of its events. Each event is checked on the way."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection

from shared.decider import Decider, UniqueKey
from shared.errors.reasons import reason_of
from shared.errors.visible import shortened
from shared.messages import ErasedEvent, Event, RecordedEvent, UnknownShape, UnreadableEvent
from shared.personal.ciphers import Blind
from shared.stores import event_store

Rules = Decider[Any, Any, Any]
Aggregates = Mapping[str, Rules]
"""Deciders by category."""

SHOWN_CHARACTERS = 300
"""How much an error shows of a stream's name, and of a reason: a name in an imported log may be very long."""

NUMBER = re.compile("[1-9][0-9]*")


class Wrong(Exception):
    """The stores are damaged. The message says in one line what is wrong."""


class WrongEvent(Wrong):
    """An event that doesn't belong where it is, or that can't be read."""

    def __init__(self, event: RecordedEvent, why: str) -> None:
        stream, why = shortened(event.stream, SHOWN_CHARACTERS), shortened(why, SHOWN_CHARACTERS)
        super().__init__(f"event {event.position} of {stream}: {why}")


class Held(NamedTuple):
    """A unique key that a stream holds: `shown` as a client gave it, `since` the position of the event that gave it."""

    shown: str
    since: int


class Folded(NamedTuple):
    """A stream, its version, and the keys that it holds."""

    stream: str
    version: int
    keys: Mapping[UniqueKey, Held]

    @property
    def category(self) -> str:
        """The stream's category, which is the first part of its name."""
        return self.stream.rpartition("-")[0]

    @property
    def number(self) -> int:
        """The stream's number in its category."""
        return int(self.stream.rpartition("-")[2])


def hashed(key: UniqueKey, blind: Blind) -> UniqueKey:
    """A unique key as it is stored: its value can be looked up, and not read."""
    return UniqueKey(key.scope, blind(key.scope, key.value))


def folded(connection: Connection, aggregates: Aggregates) -> Iterator[Folded]:
    """All streams, in order of their names. Raises WrongEvent at the first wrong event."""
    for _, events in groupby(event_store.read_by_stream(connection), key=attrgetter("stream")):
        yield fold(events, aggregates)


def fold(events: Iterable[RecordedEvent], aggregates: Aggregates) -> Folded:
    """Fold one stream, given all its events. Raises WrongEvent."""
    state, version = None, 0
    keys: Mapping[UniqueKey, Held] = {}
    for event in events:
        rules = rules_of(event, aggregates)
        check_version(event, version)
        model = _model(event, rules)
        version = event.version
        try:
            state = rules.evolve(state, model)
            held = rules.unique_keys(state)
        except Exception as error:
            raise WrongEvent(event, f"the rules can't take this {event.type}: {reason_of(error)}") from error
        keys = {key: Held(its, keys[key].since if key in keys else event.position) for key, its in held.items()}
    return Folded(event.stream, version, keys)


def rules_of(event: RecordedEvent, aggregates: Aggregates) -> Rules:
    """The rules of the stream's aggregate. Raises WrongEvent if no aggregate has such streams, or such an event."""
    category, _, number = event.stream.rpartition("-")
    if category not in aggregates or not NUMBER.fullmatch(number):
        raise WrongEvent(event, "no known aggregate has streams of this name")
    if event.type in (rules := aggregates[category]).events:
        return rules
    if any(event.type in each.events for each in aggregates.values()):
        raise WrongEvent(event, f"the aggregate {category} has no event {event.type}")
    raise WrongEvent(event, str(UnknownShape(event.type, event.schema_version)))


def check_version(event: RecordedEvent, before: int) -> None:
    """Raises WrongEvent unless the event's version is the one after `before`."""
    if event.version != before + 1:
        raise WrongEvent(event, f"version {event.version} follows {before}")


def _model(event: RecordedEvent, rules: Rules) -> Event:
    try:
        model: Event = event.model(rules.events)
        if "NaN" in event.data_json or "Infinity" in event.data_json:
            from_json(event.data_json, allow_inf_nan=False)
    except UnknownShape as error:
        raise WrongEvent(event, str(error)) from error
    except Exception as error:
        raise WrongEvent(event, f"this {event.type} can't be read: {reason_of(error)}") from error
    _check_place(event, model, rules)
    if not isinstance(event, ErasedEvent | UnreadableEvent):
        for name in model.personal:
            if getattr(model, name) is None:
                raise WrongEvent(event, f"its {name} is null, which is for people who are erased")
    return model


def _check_place(event: RecordedEvent, model: Event, rules: Rules) -> None:
    """Raises WrongEvent if the event has another stream's number, begins one that has begun, or fails to begin one."""
    category, _, number = event.stream.rpartition("-")
    its = getattr(model, name := f"{category}_id", None)
    if its is not None and its != int(number):
        raise WrongEvent(event, f"its {name} is another stream's")
    if model.begins_stream and event.version > 1:
        raise WrongEvent(event, f"{event.type} begins a stream, but this stream had begun")
    if event.version == 1 and not model.begins_stream and any(each.begins_stream for each in rules.events.values()):
        raise WrongEvent(event, f"{event.type} doesn't begin a stream")
