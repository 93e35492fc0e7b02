"""What the routes work with: the stores, the acceptor, and the ways to wait."""

import time
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cache, partial
from typing import Self

from fastapi import Request
from sqlalchemy.exc import DBAPIError

from api.accepting.acceptor import Acceptor
from api.accepting.announcer import Announcer
from api.http.clients import Shares, client_of
from api.http.problems import Problem, too_many, unavailable
from api.http.streaming import Streams
from api.reading.condition import Conditions
from api.reading.feed import INTERVAL, Feed
from api.reading.poll import Poll
from api.reading.store import Store
from api.reading.turns import Turns
from shared.broker import bus
from shared.database import engines
from shared.database.probes import Probes
from shared.domain.projections import PROJECTIONS
from shared.schemas.check import locks
from shared.settings import Settings
from shared.stores import checkpoints, event_store, inbox, outcomes
from shared.stores.outcomes import Outcome

SOCKET_TIMEOUT = 0.5
"""Seconds the announcer waits for a broker that hangs."""

REST = 5
"""Times as long as it took a log to fail to say how far commands are handled, before it is asked again."""

MIN_POSITION_WAIT = 2.0
"""Seconds a query waits for the read model to reach `min_position`."""


def unknown(position: int) -> Problem:
    """Whoever names it has it from another log: this one had none of its positions when it gave it away."""
    return Problem("position-unknown", 422, f"The log ends before position {position}.")


class Service:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        store = cache(Store)  # one for each database
        self.inbox = store(settings.inbox)
        self.log = store(settings.event_store)
        self.read_models = {name: store(settings.read_model_of(name)) for name in PROJECTIONS}
        self.bus = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
        self.announcer = Announcer(self.bus)
        self.acceptor = Acceptor(engines.writer(settings.inbox, lock=inbox.LOCK), self.announcer.announce, self._upto)
        self._handled: int | None = None
        self._known = False
        self._ask_again = 0.0
        self._probes = Probes(locks(settings))
        self.conditions = Conditions(
            self.inbox,
            self.log,
            self.read_models,
            stores=self._probes.troubles,
            redis=partial(bus.trouble, self.bus),
            acceptor=lambda: self.acceptor.trouble,
        )
        self.outcomes = Poll[int, Outcome](self._outcomes)
        self.followed = Poll[int, Outcome](self._outcomes, every=INTERVAL)
        self.feed = Feed(self.log)
        self.streams = Streams(settings.max_streams, settings.max_streams_per_client)
        self.waits = Shares(settings.max_waits, settings.max_waits_per_client)
        files = Turns(None)  # all are read on the one event loop; a server that hangs holds up its own readers
        stores = {self.log, *self.read_models.values()}
        self.turns = {each: Turns(each.patience) if each.patience else files for each in stores}
        self.visible = {name: Poll[int, Outcome](partial(self._visible, name)) for name in PROJECTIONS}
        self.reached = {name: Poll[int, bool](partial(self._reached, name)) for name in PROJECTIONS}

    @classmethod
    def of(cls, request: Request) -> Self:
        service = request.app.state.service
        assert isinstance(service, cls)
        return service

    async def close(self) -> None:
        await self.acceptor.close()
        await self.announcer.close()
        for store in {self.inbox, self.log, *self.read_models.values()}:
            store.close()
        self._probes.close()

    @contextmanager
    def waiting(self, request: Request, wait: float | None) -> Iterator[float | None]:
        """The seconds a request may wait: those it asks for, or None if too many wait already. It counts meanwhile."""
        client = client_of(request)
        if wait is None or self.waits.gone or self.waits.used_up(client):
            yield None
            return
        with self.waits.one(client):
            yield wait

    async def require(self, request: Request, which: str, position: int | None) -> None:
        """Wait a moment for the projection to reach the position, if one is asked for. Raises Problem if it doesn't."""
        if not position or await self._reached(which, [position]):
            return
        await self.require_logged(position)
        with self.waiting(request, MIN_POSITION_WAIT) as wait:
            if await self.reached[which].get(position, within=wait or 0, later=True):
                return
        if wait is None and self.waits.used_up(client_of(request)):
            detail = f"A client may have {self.waits.per_client} requests waiting, and this one has."
            raise too_many("too-many-waits-of-client", detail)
        raise unavailable("read-model-behind", f"The read model has not reached position {position} yet.")

    async def require_logged(self, position: int | None) -> None:
        """Raises Problem if the log has not reached the position, if one is asked for."""
        if position and await self.log.read(event_store.last_position) < position:
            raise unknown(position)

    def _upto(self, seq: int) -> int:
        """The seq at which the backlog is full: by what was known last, if that is enough or all there is."""
        waiting = seq - (self._handled or 0)
        if not self._known or not 0 <= waiting <= self.settings.max_backlog:  # below 0 these are other stores
            self._look_at_outcomes()
        if self._handled is None:
            self._handled = seq
        return self._handled + self.settings.max_backlog

    def _look_at_outcomes(self) -> None:
        """A log that hangs is asked again after a rest, since the inbox's transaction waits for the answer."""
        began = time.monotonic()
        if began < self._ask_again:
            return
        try:
            with self.log.engine.connect() as connection:
                self._handled, self._known = outcomes.settled_seq(connection), True
        except DBAPIError:
            self._ask_again = time.monotonic() + REST * (time.monotonic() - began)

    async def _outcomes(self, seqs: Collection[int]) -> dict[int, Outcome]:
        return await self.log.read(outcomes.find, seqs)

    async def _visible(self, which: str, seqs: Collection[int]) -> dict[int, Outcome]:
        """Outcomes that the projection shows; a rejection shows itself."""
        ended = await self._outcomes(seqs)
        shown = await self._reached(which, {outcome.position or 0 for outcome in ended.values()}) if ended else {}
        return {seq: outcome for seq, outcome in ended.items() if (outcome.position or 0) in shown}

    async def _reached(self, which: str, positions: Collection[int]) -> dict[int, bool]:
        reached = await self.read_models[which].read(checkpoints.position_of, which)
        return {position: True for position in positions if reached >= position}


def turn(request: Request, store: Store) -> AbstractAsyncContextManager[None]:
    """To be held while many rows of a store are read and shown."""
    return Service.of(request).turns[store].one(client_of(request))
