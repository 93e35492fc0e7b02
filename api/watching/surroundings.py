"""What the stores' condition doesn't tell: which workers answer, and whose keys are lost. Asked in threads, seldom."""

import asyncio
from typing import NamedTuple

from api.reading.sharing import Shared
from shared.broker import bus
from shared.database import engines
from shared.operations import unkeyed
from shared.settings import Settings

ANSWER_TIMEOUT = 1.0
"""Seconds in which workers must answer."""

WORKERS_LAST = 5.0
"""Seconds for which it is good to know which workers answer."""

PEOPLE_LAST = 600.0
"""Seconds for which it is good to know whose keys are lost: to know it, an index of the whole log is read."""


class Workers(NamedTuple):
    """The workers that answer by role, and why none can be asked, if so."""

    by_role: dict[str, list[str]]
    unasked: str


class People(NamedTuple):
    """The streams of people whose keys are lost, and of those whose key is destroyed while no event says so."""

    lost: list[str]
    unrecorded: list[str]


class Surroundings:
    """Asks once for all who want to know."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = bus.celery(settings, socket_timeout=ANSWER_TIMEOUT + 1)
        self.workers = Shared[Workers](self._ask_workers, lasts=WORKERS_LAST)
        self.people = Shared[People](self._ask_people, lasts=PEOPLE_LAST)

    async def _ask_workers(self) -> Workers:
        return Workers(*await asyncio.to_thread(bus.workers, self._app, within=ANSWER_TIMEOUT))

    async def _ask_people(self) -> People:
        return await asyncio.to_thread(self._people)

    def _people(self) -> People:
        with engines.reading(self._settings.event_store) as log, engines.reading(self._settings.subjects) as keys:
            return People(list(unkeyed.unreadable_in(log, keys)), unkeyed.unfinished_in(log, keys))
