"""States of an aggregate at each version of its stream, and what each event changed."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError

from api.console.log.shown import HIDDEN, Value, gone_from, personal_in
from api.console.shapes import NOTHING
from api.reading.store import Store
from api.routes.history import Fold
from shared.errors.reasons import reason_of
from shared.messages import RecordedEvent
from shared.stores import event_store

FOLDED_AT_ONCE = 100
"""Events folded between two turns of others: a few milliseconds."""

FOLDED_MOST = 20_000
"""Events before a page that are folded for it: a second's work, of which others notice little."""

NOT_THERE = Value(None, NOTHING)


class Change(NamedTuple):
    """A field before an event and after it. `what`: `added`, `changed` or `removed`; "" if it is as it was."""

    field: str
    before: Value
    after: Value
    what: str


class States(NamedTuple):
    """What events changed, by their versions; if that isn't shown, `why`."""

    changes: Mapping[int, list[Change]]
    why: str = ""


class _State:
    """An aggregate; unless what is personal is revealed, folded a second time with null for it.

    A field in which the two differ tells about a person, whatever the aggregate makes of its events.
    """

    def __init__(self, fold: Fold[Any], *, revealed: bool) -> None:
        self._fold = fold
        self._revealed = revealed
        self._row: Any = None
        self._bare: Any = None
        self._personal = set[str]()
        self._marks = dict[str, bool]()

    def apply(self, events: Sequence[RecordedEvent]) -> None:
        """Fold more events of the stream."""
        self._row = self._fold(self._row, events)
        if not self._revealed:
            self._bare = self._fold(self._bare, list(map(_bare, events)))
        for each in events:
            self._personal |= personal_in(each)
            self._marks |= each.marks

    def fields(self) -> dict[str, Any]:
        """The fields as they are."""
        return _fields(self._row)

    def shown(self) -> dict[str, Value]:
        """The fields as far as they may be seen."""
        bare, gone = _fields(self._bare), gone_from(self._marks)

        def shown(name: str, value: Any) -> Value:
            if value is None and gone and name in self._personal:
                return Value(None, gone)
            if self._revealed or (name in bare and bare[name] == value):
                return Value(value)
            return Value(None, HIDDEN)

        return {name: shown(name, value) for name, value in self.fields().items()}


async def states_of(log: Store, fold: Fold[Any] | None, events: Sequence[RecordedEvent], *, revealed: bool) -> States:
    """What these events changed, which follow each other in a stream. Raises a store's error."""
    if fold is None or not events:
        return States({}, "Nothing is known that makes a state of the events of such a stream.")
    if events[0].version > FOLDED_MOST + 1:
        return States({}, f"States are shown up to version {FOLDED_MOST:,}: to fold more events takes too long.")
    state = _State(fold, revealed=revealed)
    try:
        await _begin(log, state, events[0])
        return States({event.version: _changes(state, event) for event in events})
    except DBAPIError:
        raise
    except Exception as error:
        return States({}, f"These events can't be folded into a state: {reason_of(error)}.")


async def _begin(log: Store, state: _State, first: RecordedEvent) -> None:
    """Fold what stands before the first event, a page at a time."""
    version, last = 0, first.version - 1
    while version < last and (
        page := await log.read(event_store.read_stream, first.stream, after=version, upto=last, limit=FOLDED_AT_ONCE)
    ):
        state.apply(page)
        version = page[-1].version
        await asyncio.sleep(0)


def _changes(state: _State, event: RecordedEvent) -> list[Change]:
    before, shown_before = state.fields(), state.shown()
    state.apply([event])
    after, shown_after = state.fields(), state.shown()
    return [
        Change(name, shown_before.get(name, NOT_THERE), shown_after.get(name, NOT_THERE), _what(name, before, after))
        for name in before | after
    ]


def _what(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if name not in before:
        return "added"
    if name not in after:
        return "removed"
    return "" if before[name] == after[name] else "changed"


def _bare(event: RecordedEvent) -> RecordedEvent:
    """The event with null for what is personal, as if its person were erased."""
    personal = personal_in(event)
    if not personal:
        return event
    return event._replace(
        data_json=to_json({name: None if name in personal else value for name, value in event.data.items()}).decode()
    )


def _fields(row: Any) -> dict[str, Any]:
    """The fields of a row but its version, which stands beside each event."""
    return {} if row is None else {name: value for name, value in row._asdict().items() if name != "version"}
