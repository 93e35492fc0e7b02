"""Forgetting erased people, beside projecting: what a projection worker keeps of them in memory and in its tables."""

import time
from contextlib import suppress
from functools import cached_property

from sqlalchemy import Engine

from shared.database import engines
from shared.database.errors import Taken
from shared.database.scrubbing import Scrubbing
from shared.domain.projections import ERASING
from shared.errors.reasons import reason_of
from shared.projection import Projection
from shared.stores import event_store
from shared.stores.subjects import Subjects
from shared.telemetry import logs
from workers.projecting.shadow import Shadow, reached, shadow_of

EVERY = 1.0
"""Seconds between two looks for people who were erased."""

log = logs.logger()


class Forgetting:
    """Drops erased people's keys, has their deleted rows overwritten, and empties shadows that may have their rows."""

    def __init__(self, url: str, which: Projection, people: Subjects, store: Engine, read_model: Engine) -> None:
        """`url` is the read model's; `read_model` writes it, `store` reads the log."""
        self._url = url
        self._which = which
        self._people = people
        self._store = store
        self._live = engines.reader(url)
        self._scrubbing = Scrubbing(read_model, which.tables)
        self._seen = 0  # whoever is erased by an event up to here is in no shadow
        self._next = 0.0

    def look(self) -> None:
        """Forget whoever was erased, if it is time. Trouble is logged, and what it leaves waits for the next look."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        try:
            self._people.erased()
            self._scrubbing.look()
            self.clear_shadow()
        except BaseException as error:
            name = self._which.name
            log.warning("erased people are forgotten at a later look", projection=name, error=reason_of(error))

    def clear_shadow(self) -> None:
        """Empty the shadow that an interrupted rebuild left, if it may have rows of people who were erased since.

        A rebuild that goes on applies their events before it swaps.
        """
        with self._live.connect() as live, self._store.connect() as reading:
            if not self._shadow.exists(live):
                return
            has_leftovers = self._shadow.has_leftovers(live, self._which.tables)
            after, last = max(reached(self._shadow), self._seen), event_store.last_position(reading)
            is_behind = event_store.has_any(reading, ERASING, after=after, upto=last)
        if not (has_leftovers or is_behind):
            self._seen = last
            return
        with suppress(Taken), self._shadow.alone():
            self._shadow.empty(self._which.tables)
            self._seen = last
            log.info("an interrupted rebuild's tables were emptied: somebody was erased", projection=self._which.name)

    @cached_property
    def _shadow(self) -> Shadow:
        return shadow_of(self._url, self._which.name)
