"""What is looked for of a person: the values of personal fields, in every form in which they may rest."""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from sqlalchemy import Connection

from shared.messages import RecordedEvent, UnknownShape
from shared.schemas.known import AGGREGATES, EVENTS
from shared.stores import event_store

SHORTEST = 4
"""Characters of the shortest text that is looked for by itself: shorter ones stand everywhere by chance."""

BETWEEN = ("", " ", ", ", "\t")
"""What stands between two values of a row: nothing in SQLite's files, a tab in a dump."""


class Value(NamedTuple):
    """Something that tells of a person. `name` says what it is, such as `email`, so that the text need not be shown."""

    name: str
    text: str

    @property
    def forms(self) -> set[bytes]:
        """The bytes that it may rest as: in UTF-8, folded, decomposed, and as JSON, URLs and dumps escape it."""
        texts = {self.text, self.text.casefold(), self.text.upper()}
        texts |= {unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in texts}
        escaped = {each for text in texts for each in _escaped(text)}
        return {each.encode() for each in texts | escaped}


def _escaped(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(text)[1:-1])[1:-1]
    yield quote(text)
    yield quote_plus(text)
    yield text.encode().hex()


def values_of(log: Connection, stream: str) -> list[Value]:
    """The values that a stream's events hold, former ones too; the keys made of them; and values beside each other.

    `log` reveals what is personal: of somebody who is erased there is nothing.
    """
    events = event_store.read_stream(log, stream)
    found = [value for event in events for value in [*_fields(event), *_together(event)]]
    return list(dict.fromkeys([*found, *_keys(stream, events)]))


def given(texts: Iterable[str]) -> list[Value]:
    """Values that somebody named."""
    return [Value(f"value {number}", text) for number, text in enumerate(texts, 1) if text]


def _fields(event: RecordedEvent) -> list[Value]:
    names = EVENTS[event.type].personal if event.type in EVENTS else ()
    data = event.data
    return [Value(name, text) for name in names for text in _texts(data.get(name))]


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case dict():
            for each in value.values():
                yield from _texts(each)


def _together(event: RecordedEvent) -> Iterator[Value]:
    """Two fields of an event beside each other: what two people share apart, they rarely share together."""
    for one, other in pairwise(_fields(event)):
        in_json = f'{json.dumps(one.text)[1:-1]}","{other.name}":"{json.dumps(other.text)[1:-1]}'
        for text in (in_json, *(f"{one.text}{between}{other.text}" for between in BETWEEN)):
            yield Value(f"{one.name} beside {other.name}", text)


def _keys(stream: str, events: list[RecordedEvent]) -> Iterator[Value]:
    """The unique keys that the stream held in turn, in the form in which they are compared."""
    rules = AGGREGATES.get(stream.rpartition("-")[0])
    if not rules:
        return
    state = None
    for event in events:
        try:
            state = reduce(rules.evolve, [event.model(rules.events)], state)
        except UnknownShape:
            return
        for key in rules.unique_keys(state):
            yield Value(f"{key.scope} as it is compared", key.value)
