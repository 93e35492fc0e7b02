"""Bringing an exported log into empty stores.

The commands that led to it stay where they were: what is imported are the facts. New numbers go on behind it.
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from cli.errors import Refused
from cli.init import init
from shared import cloud_events, database, event_store, inbox, outcomes
from shared.aggregates import AGGREGATES
from shared.event_store import PAGE, RecordedEvent
from shared.pages import pages
from shared.settings import Settings
from shared.streams import folded


def import_(settings: Settings, lines: Iterable[bytes]) -> int:
    """All of it or nothing; returns the number of events. Raises Refused, Damaged or Wrong."""
    init(settings)
    with database.briefly(database.writer(settings.event_store, lock=event_store.LOCK)) as engine:
        try:
            with engine.begin() as log:
                _check_empty(event_store.last_position(log), outcomes.last_seq(log))
                count = _load(log, cloud_events.events(lines))
                numbers = _keep_keys(log)
                _count_on(settings, numbers)  # first: numbers that are never given do no harm
        except IntegrityError as error:
            raise Refused(f"this is no log: {' '.join(str(error.orig).split())}") from None
    return count


def _check_empty(*ends: int) -> None:
    if any(ends):
        raise Refused("a log is imported into empty stores only, and these have commands or events already")


def _load(log: Connection, events: Iterable[RecordedEvent]) -> int:
    position = 0
    for page in pages(events, PAGE):
        for event in page:
            if event.position != position + 1:
                raise Refused(f"this is no log: event {event.position} follows {position}")
            position = event.position
        event_store.load(log, page)
    return position


def _keep_keys(log: Connection) -> dict[str, int]:
    """Returns the highest number of each category."""
    numbers: dict[str, int] = defaultdict(int)
    for page in pages(folded(log, AGGREGATES), PAGE):
        for each in page:
            numbers[each.category] = max(numbers[each.category], each.number)
        outcomes.keep_keys(log, [(key, each.stream) for each in page for key in each.keys])
    return numbers


def _count_on(settings: Settings, numbers: dict[str, int]) -> None:
    with database.briefly(database.writer(settings.inbox, lock=inbox.LOCK)) as engine, engine.begin() as connection:
        _check_empty(inbox.last_seq(connection))
        inbox.count_from(connection, numbers)
