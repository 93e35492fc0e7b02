"""One answer for all who ask at the same time: many askers cost what one does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One look at a time. All who ask while it is under way, and for `lasts` seconds after, share its answer."""

    def __init__(self, look: Callable[[], Awaitable[T]], *, lasts: float = 0.0) -> None:
        self._look = look
        self._lasts = lasts
        self._looking: asyncio.Task[T] | None = None
        self._good_until = 0.0
        self._latest: T | None = None

    async def get(self) -> T:
        """The answer. Raises what the look raises."""
        if not self._looking or (self._looking.done() and time.monotonic() >= self._good_until):
            self._looking = asyncio.create_task(self._run(), context=Context())  # it is no one request's
        return await asyncio.shield(self._looking)

    async def soon(self, seconds: float) -> T | None:
        """The answer, or the one before if it takes longer than that; None if there is none yet. Raises as `get`."""
        try:
            async with asyncio.timeout(seconds):
                return await self.get()
        except TimeoutError:
            return self._latest

    async def _run(self) -> T:
        self._latest = answer = await self._look()
        self._good_until = time.monotonic() + self._lasts
        return answer
