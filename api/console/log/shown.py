"""Events as pages show them: which of their fields are personal, and what stands in the place of those."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic_core import to_json

from shared.domain.projections import PROJECTIONS
from shared.messages import Event, RecordedEvent
from shared.operations import record

KNOWN: Mapping[str, type[Event]] = {
    name: event
    for events in (*(each.events for each in PROJECTIONS.values()), record.EVENTS)
    for name, event in events.items()
    if event is not Event  # so a projection asks for events of which it reads no data
}
"""The classes of events by their names, as far as they are known here."""

PER_PAGE = 50
"""Events on a page."""

HIDDEN, ERASED, LOST = "hidden", "erased", "can't be read, its key is lost"


class Value(NamedTuple):
    """A value on a page. `instead`: the words in its place, such as `hidden`; "" if it is shown as it is."""

    value: Any
    instead: str = ""

    @property
    def text(self) -> str:
        """Its JSON, where it stands among the fields of an object."""
        return to_json(self.value, indent=2, fallback=str).decode().replace("\n", "\n  ")


def fields_of(event: RecordedEvent, *, revealed: bool) -> dict[str, Value]:
    """The fields of an event's data, as far as they may be seen."""
    personal, gone = personal_in(event), gone_from(event.marks)

    def shown(name: str, value: Any) -> Value:
        if name in personal and value is None and gone:
            return Value(None, gone)
        return Value(None, HIDDEN) if name in personal and not revealed else Value(value)

    return {name: shown(name, value) for name, value in event.data.items()}


def personal_in(event: RecordedEvent) -> frozenset[str]:
    """The names of the fields that tell about a person: all, if this version doesn't know the event's shape."""
    its = KNOWN.get(event.type)
    if its is None or event.schema_version > its.schema_version:
        return frozenset(event.data)
    return frozenset({*its.personal, *its.formerly_personal})


def gone_from(marks: Mapping[str, bool]) -> str:
    """What stands for personal fields that can be read no more, by the marks of events; "" if they can."""
    return ERASED if "erased" in marks else LOST if "unreadable" in marks else ""


def address_of(stream: str, version: int = 0) -> str:
    """The address of a stream's page, at a version."""
    before = (version - 1) // PER_PAGE * PER_PAGE
    where = f"?after={before}" if before > 0 else ""
    return f"/console/streams/{quote(stream)}{where}{f'#v{version}' if version else ''}"
