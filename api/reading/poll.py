"""Waiting for what workers do: one poll of a store serves every request that waits for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

LOOK_EVERY = 0.0005
"""Seconds between two looks, while anybody waits."""

REST_FACTOR = 7
"""Times as long as the last look took, if that is longer: so that looking costs an eighth of the time at most."""

REST_MAX = 0.05
"""Seconds, however long a look took: it may have been the machine that stood still."""

K = TypeVar("K")
V = TypeVar("V")


class Poll(Generic[K, V]):
    """Answers each waiter once `look` finds the key that it waits for. While nobody waits nothing is looked at."""

    def __init__(self, look: Callable[[Collection[K]], Awaitable[Mapping[K, V]]], *, every: float = LOOK_EVERY) -> None:
        """`look` gets all keys that are waited for, and returns the values of those that are there."""
        self._look = look
        self._every = every
        self._waiting: dict[asyncio.Future[V], K] = {}
        self._polling: asyncio.Task[None] | None = None

    async def get(self, key: K, *, within: float, later: bool = False) -> V | None:
        """The value; None if it isn't there within so many seconds, or when the API stops. Raises what `look` raises.

        `later`: it can't be there yet.
        """
        if not later and key in (found := await self._look([key])):
            return found[key]
        try:
            async with asyncio.timeout(within):
                return await self.wait(key)
        except (TimeoutError, asyncio.CancelledError):
            return None

    async def wait(self, key: K) -> V:
        """The value, however long it takes. Raises what `look` raises."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = key
        self._polling = self._polling or asyncio.create_task(self._poll())
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    async def _poll(self) -> None:
        try:
            took = 0.0
            while self._waiting:
                await asyncio.sleep(min(max(self._every, REST_FACTOR * took), REST_MAX))
                began = time.perf_counter()
                found = await self._look(set(self._waiting.values()))
                took = time.perf_counter() - began
                for answer, key in list(self._waiting.items()):
                    if key in found:
                        del self._waiting[answer]  # at once: else a busy loop might look again for nobody
                        if not answer.done():
                            answer.set_result(found[key])
        except Exception as error:
            for answer in self._waiting:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            self._polling = None
