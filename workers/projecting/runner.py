"""A thread for each projection: one that is slow, hangs or has trouble with its database holds up no other."""

import sys
import time
from collections.abc import Callable
from functools import cache, partial
from threading import Event, Thread

from sqlalchemy import Engine

from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.errors.reasons import reason_of
from shared.operations import rebuilds
from shared.operations.orders import obey, recorded
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import advances, event_store
from shared.stores.subjects import Subjects, heed
from shared.telemetry import logs
from workers import reporting
from workers.projecting.chunk import advance
from workers.projecting.forgetting import Forgetting
from workers.projecting.rebuilding import Rebuilding

STOP_SECONDS = 5.0
"""How long chunks under way may take to end when the worker is told to stop."""

SWITCH_SECONDS = 0.0005
"""How long a busy thread keeps Python's lock. The default of 5 ms is nearly all that a command takes."""

FORGET_EVERY = 60.0
"""Seconds from one look for old rows of advances to the next."""

HEAD_START_SECONDS = 0.0015
"""How long projections that clients wait for have Python's lock for themselves: about as long as one event takes."""

log = logs.logger()


def try_to_catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Like `catch_up`, but trouble is logged and holds up this projection alone."""
    try:
        return catch_up(store, read_model, which)
    except BaseException as error:
        log.warning("a projection waits for the next look", projection=which.name, error=reason_of(error))
        return False


def catch_up(store: Engine, read_model: Engine, which: Projection) -> bool:
    """Project the next chunk past the checkpoint, in one transaction; returns whether there may be more.

    Each event is projected once and in order, also by several workers: they take turns. After the chunk the projection
    heeds what operators asked for.
    """
    began = time.time_ns()
    with read_model.begin() as connection, store.connect() as reading:
        done = advance(connection, reading, which)
        # The chunk that reaches the end has all that was recorded past the checkpoint.
        after, at_end = done.reached - len(done.events), done.events and not done.more
        if done.events and not after:
            rebuilds.built(connection, which.name, upto=event_store.last_position(reading))
        goes_on = obey(connection, which.name, done.events if at_end else recorded(reading, after=after))
        if done.events:
            since = done.events[0].recorded_at
            advances.add(connection, which.name, after=after, position=done.reached, recorded_at=since)
    if done.events:
        reporting.projected(which, done.events, began=began, replayed=done.more)
    return done.more or goes_on


def try_to_forget(read_model: Engine, projection: str) -> None:
    """Delete rows of advances that are too old. Trouble is logged, and what it leaves waits for the next time."""
    try:
        more = True
        while more:
            with read_model.begin() as connection:
                more = advances.forget(connection, projection)
    except BaseException as error:
        log.warning("old advances are deleted later", projection=projection, error=reason_of(error))


class ProjectionThread:
    """Catches up whenever it is woken. It shares nothing with the others, not even a connection to the log."""

    def __init__(self, settings: Settings, which: Projection, people: Callable[[], Subjects]) -> None:
        self.gathers = which.gathers
        self._settings = settings
        self._which = which
        self._people = people
        self._due = Event()
        self._over = Event()
        self._thread = Thread(target=self._run, name=which.name, daemon=True)  # one that hangs won't keep the process
        self._thread.start()

    def wake(self) -> None:
        """Have it look for new events. Returns at once."""
        self._due.set()

    def stop(self) -> None:
        """Have it end after the chunk under way. Returns at once."""
        self._over.set()
        self._due.set()

    def join(self, seconds: float) -> None:
        """Wait so long at most for the chunk under way."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("a projection does not end: left as it is", projection=self._which.name)

    def _run(self) -> None:
        name, settings = self._which.name, self._settings
        store = engines.reader(settings.event_store)
        read_model = engines.writer(url := settings.read_model_of(name), lock=name, durable=False)
        forgetting, rebuilding = None, Rebuilding(settings, self._which, read_model)
        if self._which.is_personal:
            heed(store, people := self._people())
            forgetting = Forgetting(url, self._which, people, store, read_model)
        forgets_at = 0.0
        while not self._over.is_set():
            self._due.wait()
            self._over.wait(self.gathers)
            self._due.clear()  # before it looks: what comes from here on may be too late for it
            while not self._over.is_set() and try_to_catch_up(store, read_model, self._which):
                pass
            if forgetting:
                forgetting.look()
            if time.monotonic() >= forgets_at:
                forgets_at = time.monotonic() + FORGET_EVERY
                try_to_forget(read_model, name)
            rebuilding.look()
        rebuilding.stop()


class ProjectionThreads:
    """The threads of a projection worker. They start when they are first woken: other roles have none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: list[ProjectionThread] = []

    def wake(self) -> None:
        """Have all of them look for new events. Returns at once."""
        if not self._running:
            sys.setswitchinterval(SWITCH_SECONDS)
            people = cache(partial(Subjects.of, self._settings, looks=False))  # of all threads
            self._running = [ProjectionThread(self._settings, each, people) for each in PROJECTIONS.values()]
        for each in self._running:
            if not each.gathers:
                each.wake()
        time.sleep(HEAD_START_SECONDS)
        for each in self._running:
            if each.gathers:
                each.wake()

    def stop(self) -> None:
        """Returns when the chunks under way have ended, after `STOP_SECONDS` at most."""
        deadline = time.monotonic() + STOP_SECONDS
        for each in self._running:
            each.stop()
        for each in self._running:
            each.join(max(0, deadline - time.monotonic()))
