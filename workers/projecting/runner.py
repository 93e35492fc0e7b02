"""A thread for each projection: one that is slow, hangs or has trouble with its database holds up no other."""

import sys
import time
from threading import Event, Thread

from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.projection import Projection
from shared.settings import Settings
from shared.telemetry import logs
from workers.projecting.chunk import try_to_catch_up

STOP_WITHIN = 5.0
"""Seconds that chunks under way have to end when the worker is told to stop."""

SWITCH = 0.0005
"""Seconds after which a busy thread lets another one go on: by default 5 ms, nearly all that a command takes."""

log = logs.logger()


class Runner:
    """Catches up whenever it is woken, and shares nothing with the others: not even a connection to the log."""

    def __init__(self, settings: Settings, which: Projection) -> None:
        self._settings = settings
        self._which = which
        self._due = Event()
        self._over = Event()
        self._thread = Thread(target=self._run, name=which.name, daemon=True)  # one that hangs won't keep the process
        self._thread.start()

    def wake(self) -> None:
        """Returns at once."""
        self._due.set()

    def stop(self) -> None:
        """Returns at once; a chunk that is under way goes on."""
        self._over.set()
        self._due.set()

    def ends(self, within: float) -> None:
        """Wait for the chunk that is under way."""
        self._thread.join(within)
        if self._thread.is_alive():
            log.warning("a projection does not end: left as it is", projection=self._which.name)

    def _run(self) -> None:
        name, settings = self._which.name, self._settings
        store = engines.reader(settings.event_store)
        read_model = engines.writer(settings.read_model_of(name), lock=name, durable=False)
        while not self._over.is_set():
            self._due.wait()
            self._over.wait(self._which.gathers)
            self._due.clear()  # before it looks: what comes from here on may be too late for it
            while not self._over.is_set() and try_to_catch_up(store, read_model, self._which):
                pass


class Runners:
    """Those of a projection worker. The other roles have none: they are started when they are first woken."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: list[Runner] = []

    def wake(self) -> None:
        """Returns at once."""
        if not self._running:
            sys.setswitchinterval(SWITCH)
        self._running = self._running or [Runner(self._settings, each) for each in PROJECTIONS.values()]
        for each in self._running:
            each.wake()

    def stop(self) -> None:
        """Returns when the chunks under way have ended, or too much time has gone by."""
        deadline = time.monotonic() + STOP_WITHIN
        for each in self._running:
            each.stop()
        for each in self._running:
            each.ends(max(0, deadline - time.monotonic()))
