"""Pages of the log for followers: short, read one at a time, and shared by all followers at the same position."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection

from api.http.streaming import message
from api.reading.store import Store
from shared.messages import RecordedEvent
from shared.stores import event_store, subjects

PAGE_EVENTS = 100
"""Events of a page at most."""

PAGE_BYTES = 64 * 1024
"""Length of a page at most, unless its only event is longer."""

FIRST_PAGE_EVENTS = 10
"""Events of the first page, when it isn't known yet how long events are."""

KEPT_BYTES = 4 * 1024 * 1024
"""Bytes of pages, and of what was asked for, kept for other followers that come to the same position."""


class Wanted(NamedTuple):
    """Which events a follower wants: only these types and this stream, if given."""

    types: frozenset[str] | None = None
    stream: str | None = None

    def has(self, event: RecordedEvent) -> bool:
        """Whether the event is wanted."""
        return (self.types is None or event.type in self.types) and self.stream in {None, event.stream}


EVERYTHING = Wanted()


class Page(NamedTuple):
    """Messages of events. `last` is the last one's position, 0 if there is none. `more`: there may be more already."""

    text: bytes
    last: int
    more: bool


Key = tuple[int, Wanted]


class Reader:
    """Reads as many events at once as make a page, going by the length of the events before.

    Whoever keeps what was read keeps it only if `erased` is then what it was before, and forgets it when told to.
    """

    def __init__(self, log: Store) -> None:
        self._log = log
        self._limit = FIRST_PAGE_EVENTS
        self.erased = 0
        """How many people were erased when this was last looked at."""
        self._forgetting = list[Callable[[], None]]()

    def tell(self, forget: Callable[[], None]) -> None:
        """Call `forget` from now on whenever more people were erased."""
        self._forgetting.append(forget)

    async def see_erasures(self) -> None:
        """Have all forget what they keep, if more people were erased: it may tell of them."""
        erased = await self._log.read(_erased)
        if erased > self.erased:
            self.erased = erased
            for forget in self._forgetting:
                forget()

    async def read(self, after: int, wanted: Wanted = EVERYTHING) -> tuple[list[RecordedEvent], list[bytes], bool]:
        """Events past a position, the message of each, and whether there may be more already."""
        limit, (types, stream) = self._limit, wanted
        events = await self._log.read(event_store.read_all, after=after, types=types, stream=stream, limit=limit)
        messages = [message(each.position, each.shown()) for each in events]
        if messages:
            fit = PAGE_BYTES * len(messages) // sum(map(len, messages))
            self._limit = max(1, min(PAGE_EVENTS, 2 * limit, fit))
        return events, messages, len(events) == limit


class Pages:
    """Pages past a position, for one follower each time the event loop goes round."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[Key, Page] = OrderedDict()
        self._bytes = 0
        reader.tell(self._forget)

    async def behind(self, position: int, wanted: Wanted) -> Page:
        """The page past a position. Callers take turns: the next one goes on after the loop has gone round."""
        async with self._turn:
            await asyncio.sleep(0)  # also for a page that is kept: to send it to each in one round takes long, too
            await self._reader.see_erasures()
            key, erased = (position, wanted), self._reader.erased
            if page := self._kept.get(key):
                return page
            events, messages, more = await self._reader.read(position, wanted)
            page = Page(b"".join(messages), events[-1].position if events else 0, more)
            if page.more and erased == self._reader.erased:  # of what isn't full there will be more
                self._keep(key, page)
            return page

    def _forget(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _keep(self, key: Key, page: Page) -> None:
        self._kept[key] = page
        self._bytes += _size(key, page)
        while self._bytes > KEPT_BYTES:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _erased(log: Connection) -> int:
    """How many people were erased. Their keys are no longer known then to who reads the log."""
    return subjects.of(log).erased()


def _size(key: Key, page: Page) -> int:
    _, (types, stream) = key
    return len(page.text) + sum(map(len, types or ())) + len(stream or "")
