"""What rests in the clear: personal fields that were stored before they were marked, or before marks were heeded."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, bindparam, select

from shared.database.statements import fetch
from shared.messages import Command, Event
from shared.stores import event_store, inbox
from shared.stores.event_store import events
from shared.stores.inbox import EMPTIED, commands

LOOKED_AT = 100
"""Rows at each end that are looked at to tell whether any is in the clear: such rows are older than all others."""

Fields = Mapping[str, tuple[str, ...]]
"""The names of personal fields, also of those that only older shapes have, by the type of the message."""


class Marked(NamedTuple):
    """The personal fields of events and of commands."""

    events: Fields
    commands: Fields


def fields(messages: Iterable[type[Event] | type[Command]]) -> Fields:
    """The personal fields of those of the messages that have any."""
    names = {each.__name__: (*each.personal, *getattr(each, "formerly_personal", ())) for each in messages}
    return {name: its for name, its in names.items() if its}


def names_in(type: str, json: str | bytes, of: Fields) -> list[str]:
    """The names of the personal fields that a message's JSON holds in the clear."""
    if not (names := of.get(type)) or json == EMPTIED:
        return []
    data = from_json(json)
    return [name for name in names if name in data]


def is_any(log: Connection, inbox_: Connection, marked: Marked) -> bool:
    """Whether the log or the inbox holds anything in the clear, by rows at both ends: as fast however long they are."""
    if is_log(log, marked.events):
        return True
    emptied = inbox.emptied_seq(inbox_)
    rows = chain.from_iterable(fetch(inbox_, each, after=emptied) for each in (_first_commands, _last_commands))
    return any(names_in(type, data, marked.commands) for type, data in rows)


def is_log(log: Connection, of: Fields) -> bool:
    """Whether the log holds anything in the clear, by rows at both ends."""
    by_type = chain.from_iterable(fetch(log, each, type=type) for type in of for each in (_first, _last))
    return any(names_in(type, data, of) for type, data in by_type)


def is_stream(log: Connection, stream: str, of: Fields) -> bool:
    """Whether an event of the stream holds anything in the clear."""
    return any(names_in(type, data, of) for type, data in fetch(log, _of_stream, stream=stream))


def counted(log: Connection, of: Fields) -> Iterator[int]:
    """How many events of each page of the log hold anything in the clear."""
    after = 0
    while rows := event_store.read_stored(log, after=after):
        yield sum(bool(names_in(type.decode(), data, of)) for _, _, _, type, data, *_ in rows)
        after = rows[-1][0]


_its = select(events.c.type, events.c.data)
_of_type = _its.where(events.c.type == bindparam("type")).limit(LOOKED_AT)
_first, _last = _of_type.order_by(events.c.position), _of_type.order_by(events.c.position.desc())
_of_stream = _its.where(events.c.stream == bindparam("stream"))
_commands = select(commands.c.type, commands.c.data).where(commands.c.seq > bindparam("after")).limit(LOOKED_AT)
_first_commands, _last_commands = _commands.order_by(commands.c.seq), _commands.order_by(commands.c.seq.desc())
