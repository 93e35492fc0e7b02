"""The log as it grows: its end is read once for all who follow it; who is behind reads pages until he isn't."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import NamedTuple

from api.reading import Store
from api.streaming import message, persist
from api.waiting import Poll
from shared import event_store
from shared.event_store import RecordedEvent

INTERVAL = 0.02
"""Seconds between two looks, while anybody follows."""

TAIL = 1000
"""Events kept for those who follow."""

PAGE = 100
"""Events that somebody who is behind gets at once."""


class Wanted(NamedTuple):
    """Only these types and this stream, if given."""

    types: Collection[str] | None
    stream: str | None

    def has(self, event: RecordedEvent) -> bool:
        return (self.types is None or event.type in self.types) and self.stream in {None, event.stream}


class Shown(NamedTuple):
    event: RecordedEvent
    message: bytes


class Feed:
    """A follower is a position in the log and nothing else, so nothing is buffered for it, missed or sent twice."""

    def __init__(self, log: Store) -> None:
        self._log = log
        self._start = 0
        self._tail: list[Shown] = []
        """The events behind `_start`. Positions are dense, so that its length tells where it ends."""
        self._moved = Poll[int, bool](self._look, every=INTERVAL)

    async def last(self) -> int:
        return await self._log.read(event_store.last_position)

    async def follow(self, position: int, wanted: Wanted) -> AsyncIterator[bytes]:
        """Every event behind the position, for ever."""
        yield b"id: %d\n\n" % position  # for who is cut off before the first one
        while True:
            while position >= self._end:
                await persist(partial(self._moved.wait, position))
            messages, position = await self._next(position, wanted)
            if messages:
                yield b"".join(messages)
            await asyncio.sleep(0)  # neither a file nor a client that takes all need ever let others have their turn

    @property
    def _end(self) -> int:
        return self._start + len(self._tail)

    async def _next(self, position: int, wanted: Wanted) -> tuple[Sequence[bytes], int]:
        """What comes behind a position, and the position up to which that is all."""
        if position >= self._start:
            tail = self._tail[position - self._start :][:PAGE]
            return [each.message for each in tail if wanted.has(each.event)], position + len(tail)
        end = self._end
        events = await persist(partial(self._page, position, wanted))
        last = events[-1].position if events else position
        return [message_of(event) for event in events], last if len(events) == PAGE else max(last, end)

    async def _page(self, position: int, wanted: Wanted) -> list[RecordedEvent]:
        types, stream = wanted
        return await self._log.read(event_store.read_all, after=position, types=types, stream=stream, limit=PAGE)

    async def _look(self, positions: Collection[int]) -> dict[int, bool]:
        """Read on, and tell which of the positions the log has gone beyond."""
        events = await self._log.read(event_store.read_all, after=self._end, limit=TAIL)
        if len(events) == TAIL:  # nobody has followed for long: there is more of it than is worth keeping
            self._start, self._tail = await self.last(), []
        else:
            self._tail += [Shown(event, message_of(event)) for event in events]
            surplus = max(0, len(self._tail) - TAIL)
            self._start, self._tail = self._start + surplus, self._tail[surplus:]
        return {position: True for position in positions if position < self._end}


def message_of(event: RecordedEvent) -> bytes:
    return message(event.position, event.shown())
