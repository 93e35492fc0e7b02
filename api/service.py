"""What the routes work with: the stores, the acceptor, and the ways to wait."""

from collections.abc import Collection
from contextlib import suppress
from typing import Self

from fastapi import Request
from sqlalchemy.exc import DBAPIError

from api.acceptance import Acceptor, Announcer
from api.problems import unavailable
from api.waiting import Poll
from shared import bus, database, inbox, outcomes, projection
from shared.outcomes import Outcome
from shared.settings import Settings

SOCKET_TIMEOUT = 0.5
"""Seconds the announcer waits for a broker that hangs."""

MIN_POSITION_WAIT = 2.0
"""Seconds a query waits for the read model to reach `min_position`."""

Reached = tuple[str, int]
"""A projection, and a position in the log."""

Visible = tuple[str, int]
"""A projection, and the seq of a command."""


class Service:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.inbox = database.reader(settings.inbox)
        self.log = database.reader(settings.event_store)
        self.read_model = database.reader(settings.read_model)
        self.bus = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
        self.announcer = Announcer(self.bus)
        self.acceptor = Acceptor(database.writer(settings.inbox, lock=inbox.LOCK), self.announcer.announce, self._upto)
        self._handled: int | None = None
        self._known = False
        self.outcomes = Poll[int, Outcome](self._outcomes)
        self.visible = Poll[Visible, Outcome](self._visible)
        self.reached = Poll[Reached, bool](self._reached)

    @classmethod
    def of(cls, request: Request) -> Self:
        service = request.app.state.service
        assert isinstance(service, cls)
        return service

    async def close(self) -> None:
        await self.acceptor.close()
        await self.announcer.close()

    async def require(self, which: str, position: int | None) -> None:
        """Wait a moment for the projection to reach the position, if one is asked for. Raises Problem if it doesn't."""
        if position and not await self.reached.get((which, position), within=MIN_POSITION_WAIT):
            raise unavailable("read-model-behind", f"The read model has not reached position {position} yet.")

    def _upto(self, seq: int) -> int:
        """The seq at which the backlog is full: by what was known last, if that is enough or all there is."""
        waiting = seq - (self._handled or 0)
        if not self._known or not 0 <= waiting <= self.settings.max_backlog:  # below 0 these are other stores
            with suppress(DBAPIError), self.log.connect() as connection:
                self._handled, self._known = outcomes.last_seq(connection), True
        if self._handled is None:
            self._handled = seq
        return self._handled + self.settings.max_backlog

    def _outcomes(self, seqs: Collection[int]) -> dict[int, Outcome]:
        with self.log.connect() as connection:
            return outcomes.find(connection, seqs)

    def _visible(self, wanted: Collection[Visible]) -> dict[Visible, Outcome]:
        """Outcomes that the projection shows; a rejection shows itself."""
        outcomes_ = self._outcomes({seq for _, seq in wanted})
        ended = {key: outcomes_[key[1]] for key in wanted if key[1] in outcomes_}
        shown = self._reached({(name, outcome.position or 0) for (name, _), outcome in ended.items()}) if ended else {}
        return {key: outcome for key, outcome in ended.items() if (key[0], outcome.position or 0) in shown}

    def _reached(self, wanted: Collection[Reached]) -> dict[Reached, bool]:
        with self.read_model.connect() as connection:
            positions = projection.positions(connection)
        return {(name, position): True for name, position in wanted if positions.get(name, 0) >= position}
