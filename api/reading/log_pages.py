"""Pages of the log as followers get them: short ones, read one at a time, and shared by all who are at one place."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from api.http.streaming import message
from api.reading.store import Store
from shared.messages import RecordedEvent
from shared.stores import event_store

PAGE = 100
"""Events of a page at most."""

BYTES = 64 * 1024
"""What a page is to be long at most, unless its only event is longer."""

FIRST = 10
"""Events of the first page, when it isn't known how long they are."""

KEPT = 4 * 1024 * 1024
"""Bytes of pages, and of what they were asked for by, kept for others who come to the same place."""


class Wanted(NamedTuple):
    """Only these types and this stream, if given."""

    types: frozenset[str] | None = None
    stream: str | None = None

    def has(self, event: RecordedEvent) -> bool:
        return (self.types is None or event.type in self.types) and self.stream in {None, event.stream}


EVERYTHING = Wanted()


class Page(NamedTuple):
    """`last` is the position of the last event, 0 if there is none. `more`: there may be more behind it already."""

    text: bytes
    last: int
    more: bool


Key = tuple[int, Wanted]


class Reader:
    """Reads so many events at once as make a page by the length of those before."""

    def __init__(self, log: Store) -> None:
        self._log = log
        self._limit = FIRST

    async def read(self, after: int, wanted: Wanted = EVERYTHING) -> tuple[list[RecordedEvent], list[bytes], bool]:
        """Events, the message of each, and whether there may be more behind them already."""
        limit, (types, stream) = self._limit, wanted
        events = await self._log.read(event_store.read_all, after=after, types=types, stream=stream, limit=limit)
        messages = [message(each.position, each.shown()) for each in events]
        if messages:
            fit = BYTES * len(messages) // sum(map(len, messages))
            self._limit = max(1, min(PAGE, 2 * limit, fit))
        return events, messages, len(events) == limit


class Pages:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[Key, Page] = OrderedDict()
        self._bytes = 0

    async def behind(self, position: int, wanted: Wanted) -> Page:
        """The lock's next holder goes on when the loop has gone round, and so after whoever else was ready."""
        async with self._turn:
            await asyncio.sleep(0)  # also for a page that is kept: to send it to each in one round takes long, too
            key = position, wanted
            if page := self._kept.get(key):
                return page
            events, messages, more = await self._reader.read(position, wanted)
            page = Page(b"".join(messages), events[-1].position if events else 0, more)
            if page.more:  # of what isn't full there will be more
                self._keep(key, page)
            return page

    def _keep(self, key: Key, page: Page) -> None:
        self._kept[key] = page
        self._bytes += _size(key, page)
        while self._bytes > KEPT:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _size(key: Key, page: Page) -> int:
    _, (types, stream) = key
    return len(page.text) + sum(map(len, types or ())) + len(stream or "")
