"""The service behind the routes: the stores, the way in, the ways to wait, and what one client may have of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cache, partial
from typing import Any, TypeVar

from fastapi import Request

from api.accepting.acceptor import Acceptor
from api.accepting.announcer import Announcer
from api.accepting.limit import Limit
from api.access.credentials import Credentials
from api.access.sessions import Sessions
from api.http.clients import Shares, client_of
from api.http.problems import Problem, too_many, unavailable
from api.http.streaming import Streams
from api.reading.condition import Conditions
from api.reading.feed import Feed
from api.reading.results import Results
from api.reading.sharing import Shared
from api.reading.store import Store
from api.reading.turns import Turns
from api.watching.hour import LastHour
from api.watching.surroundings import Surroundings
from shared.broker import bus
from shared.database import engines
from shared.database.probes import Probes
from shared.domain.projections import PROJECTIONS
from shared.schemas.check import locks
from shared.settings import Settings
from shared.stores import event_store, inbox
from shared.stores.inbox import Accepted
from shared.stores.subjects import Subjects, heed
from shared.telemetry import tracing

BROKER_TIMEOUT = 0.5
"""Seconds the announcer waits for a broker that hangs."""

MIN_POSITION_TIMEOUT = 2.0
"""Seconds a query waits for the read model to reach `min_position`."""


T = TypeVar("T")


class Service:
    """One for the app, made when it starts: `request.app.state.service`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        store = cache(Store)  # one for each database
        self._subjects = Subjects.of(settings)
        self.inbox = store(settings.inbox)
        self.log = store(settings.event_store)
        self.read_models = {name: store(settings.read_model_of(name)) for name in PROJECTIONS}
        self.people = people = store(settings.subjects)
        self._stores = {self.inbox, self.log, people, *self.read_models.values()}
        broker = bus.celery(settings, socket_timeout=BROKER_TIMEOUT)
        self._announcer = Announcer(broker)
        heed(self.log.engine, self._subjects)
        writer = heed(engines.writer(settings.inbox, lock=inbox.LOCK), self._subjects)
        limit = Limit(self.log.engine, settings.max_backlog)
        self.acceptor = Acceptor(writer, limit, self._announcer.announce)
        self._probes = Probes(locks(settings))
        self.conditions = Conditions(
            self.inbox,
            self.log,
            self.read_models,
            people,
            stores=self._probes.troubles,
            redis=partial(bus.trouble, broker),
            acceptor=lambda: self.acceptor.trouble,
        )
        self.surroundings = Surroundings(settings)
        self.hour = LastHour(self.inbox, self.log, self.read_models, PROJECTIONS.values())
        self.traced = tracing.on()
        self.results = Results(self.log, self.read_models)
        self.feed = Feed(self.log)
        self._keys = Store(settings.event_store)  # of its own: readers must not hold up the look for revoked keys
        self.credentials = Credentials(self._keys, settings)
        self.sessions = Sessions(self.inbox, self.credentials, settings)
        self._shared: dict[str, Shared[Any]] = {}
        self._watches: list[asyncio.Task[None]] = []
        self.streams = Streams(settings.max_streams, settings.max_streams_per_client)
        self._waits = Shares(settings.max_waits, settings.max_waits_per_client)
        files = Turns(None)  # all are read on the one event loop; a server that hangs holds up its own readers
        self._turns = {each: Turns(each.patience) if each.patience else files for each in self._stores}

    def shared(self, what: str, look: Callable[[], Awaitable[T]], *, lasts: float) -> Shared[T]:
        """One look for all who ask for the same; who asks first says how one looks."""
        return self._shared.setdefault(what, Shared(look, lasts=lasts))

    def token(self, *values: str) -> str:
        """An HMAC of the values that every process of the installation makes, and nobody else."""
        return self._subjects.blind("console", *values)

    async def revealed(self, command: Accepted) -> Accepted:
        """A command with what is personal; null stands for it if the person is erased, or the key is lost."""
        return (await asyncio.to_thread(inbox.reveal, [command], self._subjects))[0]

    def watch_credentials(self) -> None:
        """From now on see which keys and tokens still count, and end the streams of those that don't."""
        self._watches.append(asyncio.create_task(self.credentials.run(self.streams.keep)))

    def watch_erasures(self) -> None:
        """From now on forget, within about a second, what is kept of people who are erased, and their keys."""
        self._watches.append(asyncio.create_task(self.feed.forget_erased()))

    async def close(self) -> None:
        """Wait until all that was accepted is committed and announced."""
        for each in self._watches:
            each.cancel()
        await self.acceptor.close()
        await self._announcer.close()
        self.sessions.close()
        for store in {*self._stores, self._keys}:
            store.close()
        self._probes.close()

    def turn(self, request: Request, store: Store) -> AbstractAsyncContextManager[None]:
        """A client's turn, to be held while many rows of a store are read and shown."""
        return self._turns[store].one(client_of(request))

    @contextmanager
    def waiting(self, request: Request, wait: float | None) -> Iterator[float | None]:
        """The seconds a request may wait: those it asks for, or None if too many wait already. It counts meanwhile."""
        if wait is None:
            yield None
            return
        client = client_of(request)
        if self._waits.gone or self._waits.used_up(client):
            yield None
            return
        with self._waits.one(client):
            yield wait

    async def require(self, request: Request, projection: str, position: int | None) -> None:
        """Wait a moment until the projection has reached the position, if one is asked for; else raises Problem."""
        if not position or await self.results.has_reached(projection, position):
            return
        await self.require_logged(position)
        with self.waiting(request, MIN_POSITION_TIMEOUT) as wait:
            if await self.results.reached[projection].get(position, within=wait or 0, later=True):
                return
        if wait is None and self._waits.used_up(client_of(request)):
            detail = f"A client may have {self._waits.per_client} requests waiting, and this one has."
            raise too_many("too-many-waits-of-client", detail)
        raise unavailable("read-model-behind", f"The read model has not reached position {position} yet.")

    async def require_logged(self, position: int | None) -> None:
        """Raises Problem if the log has not reached the position, if one is asked for."""
        if position and await self.log.read(event_store.last_position) < position:
            raise unknown(position)


def unknown(position: int) -> Problem:
    """Whoever names it has it from another log: this one had none of its positions when it gave it away."""
    return Problem("position-unknown", 422, f"The log ends before position {position}.")
