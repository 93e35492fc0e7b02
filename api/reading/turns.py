"""Fairness among clients: long queries are answered a few at a time, and clients take turns."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from api.reading.store import bounded

QUERIES_AT_ONCE = 4
"""Long queries: so many pages are in memory, and pieces of work done each time the event loop goes round."""


class Turns:
    """Turns of clients. A turn is held through several pieces of work; between them the event loop goes round."""

    def __init__(self, patience: float | None) -> None:
        """`patience`: seconds from asking for a turn to its end; beyond, a store's error is raised. None: no limit."""
        self._patience = patience
        self._free = QUERIES_AT_ONCE
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def one(self, client: Hashable) -> AsyncIterator[None]:
        """A turn of the client, which waits behind the turns of others."""
        async with bounded(self._patience):
            if self._free:
                self._free -= 1
            else:
                await self._wait(client)
            try:
                yield
            finally:
                self._pass_on()

    async def _wait(self, client: Hashable) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it came at the same time
                self._pass_on()
            turn.cancel()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            del self._waiting[client]
            if turns:
                self._waiting[client] = turns  # behind all other clients
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
