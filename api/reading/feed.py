"""The log as it grows. One read of its tail serves all followers; one further back reads pages until it catches up."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from functools import partial
from typing import NamedTuple

from api.reading.log_pages import PAGE_EVENTS, Pages, Reader, Wanted
from api.reading.poll import Poll
from api.reading.sharing import Shared
from api.reading.store import Store, persist
from shared.messages import RecordedEvent
from shared.stores import event_store

LOOK_EVERY = 0.02
"""Seconds between two looks at the log, while anybody follows."""

LOOK_FOR_ERASURES_EVERY = 1.0
"""Seconds between two looks whether anybody was erased, beside those at each read."""

LATELY = 0.9
"""Seconds that a look at the log's last position serves those who look once a second."""

TAIL_EVENTS = 1000
"""Events of the tail that are kept, if they are short."""

TAIL_BYTES = 8 * 1024 * 1024
"""Bytes of the tail that are kept at most."""


class Shown(NamedTuple):
    """An event, and the message that shows it."""

    event: RecordedEvent
    message: bytes


class Feed:
    """Follows the log. A follower is a position and nothing else: nothing is buffered for it, missed or sent twice."""

    def __init__(self, log: Store) -> None:
        self._log = log
        self._reader = Reader(log)
        self._pages = Pages(self._reader)
        self._start = 0
        self._tail: list[Shown] = []
        """The events behind `_start`. Positions are dense, so that its length tells where it ends."""
        self._moved = Poll[int, bool](self._look, every=LOOK_EVERY)
        self._reader.tell(self._forget)
        self._lately = Shared[int](self.last, lasts=LATELY)

    async def lately(self) -> int:
        """The log's last position, at most LATELY old: one look serves all who ask."""
        return await self._lately.get()

    async def last(self) -> int:
        """The log's last position."""
        return await self._log.read(event_store.last_position)

    async def forget_erased(self) -> None:
        """Look for erasures for ever: what is kept for followers goes, even if nobody follows."""
        while True:
            await persist(self._reader.see_erasures)
            await asyncio.sleep(LOOK_FOR_ERASURES_EVERY)

    async def follow(self, position: int, wanted: Wanted) -> AsyncIterator[bytes]:
        """Messages of every wanted event past the position, for ever."""
        yield b"id: %d\n\n" % position  # for a client that is cut off before the first event
        await persist(self._reader.see_erasures)
        while True:
            while position >= self._end:
                await persist(partial(self._moved.wait, position))
            text, position = await self._next(position, wanted)
            if text:
                yield text
            await asyncio.sleep(0)  # neither a file nor a client that takes all need ever let others have their turn

    @property
    def _end(self) -> int:
        return self._start + len(self._tail)

    async def _next(self, position: int, wanted: Wanted) -> tuple[bytes, int]:
        """Messages past a position, and the position up to which they are complete."""
        if position >= self._start:
            begin = position - self._start
            tail = self._tail[begin : begin + PAGE_EVENTS]
            return b"".join(each.message for each in tail if wanted.has(each.event)), position + len(tail)
        end = self._end
        page = await persist(partial(self._pages.behind, position, wanted))
        return page.text, page.last if page.more else max(page.last, end)

    async def _look(self, positions: Collection[int]) -> dict[int, bool]:
        """Read on; returns those positions that the log has gone beyond."""
        await self._reader.see_erasures()
        last = await self.last()
        if last - self._end >= TAIL_EVENTS:  # nobody has followed for long: there is more of it than is worth keeping
            self._start, self._tail = last, []
        while self._end < last:
            erased = self._reader.erased
            events, messages, _ = await self._reader.read(self._end)
            if erased == self._reader.erased:  # else they are read again: they may tell of who was erased meanwhile
                self._keep(map(Shown, events, messages))
            await asyncio.sleep(0)
        return {position: True for position in positions if position < self._end}

    def _forget(self) -> None:
        self._start, self._tail = self._end, []

    def _keep(self, shown: Iterable[Shown]) -> None:
        self._tail += shown
        surplus = max(0, len(self._tail) - TAIL_EVENTS)
        kept = sum(len(each.message) for each in self._tail[surplus:])
        while kept > TAIL_BYTES:
            kept -= len(self._tail[surplus].message)
            surplus += 1
        self._start, self._tail = self._start + surplus, self._tail[surplus:]
