"""Rebuilds that operators ask for, done by the projection's worker while it goes on with the live tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from sqlalchemy import Engine

from shared.errors.reasons import reason_of
from shared.operations import rebuilds
from shared.projection import Projection
from shared.settings import Settings
from shared.telemetry import logs
from workers.projecting.rebuild import How, UnderWay, passes, rebuild

LOOK_EVERY = 1.0
"""Seconds from one look for a request to the next."""

REST_SECONDS = 10.0
"""Rest after trouble with a store, before the rebuild begins again."""

log = logs.logger()


class Stopped(BaseException):
    """The worker is told to stop: the next one begins the rebuild again."""


class Rebuilding:
    """Rebuilds one projection, in a thread of its own, when that is asked for.

    It always begins anew, since another version of the code may have filled what an interrupted rebuild left. The
    request stays until it is done, or can't be done, whichever worker is killed meanwhile.
    """

    def __init__(self, settings: Settings, which: Projection, live: Engine) -> None:
        """`live` reads the projection's checkpoint."""
        self._settings = settings
        self._which = which
        self._live = live
        self._thread: Thread | None = None
        self._over = Event()
        self._next = 0.0

    def look(self) -> None:
        """Begin a rebuild if one is due and it is time to look. Returns at once."""
        if time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        self._next = time.monotonic() + LOOK_EVERY
        try:
            with self._live.connect() as connection:
                found = rebuilds.find(connection, self._which.name)
        except Exception as error:
            log.warning("a rebuild waits for the next look", projection=self._which.name, error=reason_of(error))
            return
        if found.is_due:
            # A daemon: it never keeps the process.
            self._thread = Thread(target=self._run, args=[found.by or "?"], name="rebuild", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Have it end soon, as if it were killed. Returns at once."""
        self._over.set()

    def _run(self, by: str) -> None:
        name = self._which.name
        try:
            done = rebuild(self._settings, self._which, How(by, self._bar))
        except (UnderWay, Stopped):
            return
        except Exception as error:
            if passes(error):
                self._next = time.monotonic() + REST_SECONDS
            log.warning("a projection is not rebuilt", projection=name, error=reason_of(error))
        else:
            log.info("rebuilt", projection=name, position=done["switched"]["position"], seconds=done["seconds"])

    @contextmanager
    def _bar(self, _: str) -> Iterator[Callable[[int, int], None]]:
        yield self._check_that_it_goes_on

    def _check_that_it_goes_on(self, *_: int) -> None:
        if self._over.is_set():
            raise Stopped
