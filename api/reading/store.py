"""Reading a store, so that no route needs to know its engine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from api.http.problems import Problem, unavailable
from shared.database import engines
from shared.errors.reasons import reason_of
from shared.errors.surroundings import Silent
from shared.messages import UnknownShape
from shared.telemetry import logs

READ_TIMEOUT = 3.0
"""Seconds after which a server that says nothing counts as down."""

QUESTIONS_AT_ONCE = 8
"""Questions to one server at the same time."""

P = ParamSpec("P")
log = logs.logger()

T = TypeVar("T")


def store_unavailable(error: DBAPIError) -> Problem:
    """A 503: what a request is answered that met trouble with a store."""
    return unavailable("store-unavailable", f"A store does not answer: {reason_of(error)}.")


def newer_event(error: UnknownShape) -> Problem:
    """A 503: a newer version of this code wrote what a request would show."""
    return unavailable("newer-event", f"{error}; another one is being deployed.")


@asynccontextmanager
async def bounded(seconds: float | None) -> AsyncIterator[None]:
    """Bounds questions to a store. Raises the store's error if they take longer; None: they may take however long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise silent(seconds or 0) from None


def silent(seconds: float) -> OperationalError:
    """A store's error in the place of an answer that didn't come."""
    return OperationalError(None, None, Silent(seconds))


class Store:
    """A database that is read. A file is read on the event loop: a look-up takes less than handing it to a thread.

    A server is asked in threads, since it may hang: then only the request that asked waits.
    """

    def __init__(self, url: str) -> None:
        self.engine = engines.reader(url)
        self._threads = None if self.engine.name == "sqlite" else ThreadPoolExecutor(QUESTIONS_AT_ONCE, "reads")
        self.patience = READ_TIMEOUT if self._threads else None
        """Seconds to wait for an answer; None: a file always answers."""

    async def read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the query returns. Raises the store's error, also for a server that says nothing."""
        ask = partial(self._ask, query, *args, **kwargs)
        if not self._threads:
            return ask()
        async with bounded(READ_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def close(self) -> None:
        """Ask nothing more; a question that hangs isn't waited for."""
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self.engine.connect() as connection:
            return query(connection, *args, **kwargs)


async def persist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the store answers: an open stream stays open, since an EventSource doesn't come back after a 503."""
    while True:
        try:
            return await ask()
        except DBAPIError as error:
            log.debug("a stream waits for the store", error=reason_of(error))
            await asyncio.sleep(1)
