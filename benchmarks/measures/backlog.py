"""What takes turns, alone at a backlog: the inbox, the log with any number of command workers, and a projection."""

import logging
import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine

from benchmarks.contestants import ours
from shared import tuning
from shared.database.errors import Taken
from shared.settings import Settings
from workers.handling.handler import TAKEN_REST_SECONDS, CommandHandler

WITHIN = 60.0
"""Seconds for all workers to be there, and for all to be handled."""


together: Any


class Rates(NamedTuple):
    """Commands a second; and the share of the time of handling for which a worker holds the log's lock."""

    accepted: float
    handled: float
    locked: float
    projected: float


def handle(folder: Path, stores: Mapping[str, str], count: int, workers: int) -> Rates:
    """Accept so many commands, then handle them, then project them, each as fast as it goes."""
    settings = ours.empty(folder, **stores)
    began = time.monotonic()
    ours.accept_mixed(settings, count)
    accepting = time.monotonic() - began
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(workers, _meet, [spawn.Barrier(workers)]) as pool:
        worked = pool.map_async(_work, [settings] * workers, chunksize=1).get(WITHIN)
    begins, ends, locks = zip(*worked, strict=True)
    ours.check_handled(settings, count)
    handling = max(ends) - min(begins)
    return Rates(count / accepting, count / handling, sum(locks) / handling, ours.project(settings))


def _meet(barrier: Any) -> None:
    global together  # noqa: PLW0603 a process of a pool gets a barrier only when it starts
    together = barrier


def _work(settings: Settings) -> tuple[float, float, float]:
    """Handle until nothing is left, and tell when it began and ended, and for how long it held the log's lock.

    Times are `time.monotonic`'s, which processes have in common.
    """
    logging.disable(logging.INFO)
    store = ours.writer_of(settings, waits=False)
    handler = ours.handler_of(settings, store)
    locked = _times_locked(store)
    tuning.collect_less()
    together.wait(WITHIN)
    began = time.monotonic()
    while _handle(handler):
        pass
    return began, time.monotonic(), sum(locked)


def _handle(handler: CommandHandler) -> bool:
    """One turn, as a command worker takes it."""
    try:
        return handler.handle() > 0
    except Taken:
        time.sleep(TAKEN_REST_SECONDS)
        return True


def _times_locked(store: Engine) -> list[float]:
    """Seconds from each transaction's beginning, when it has the lock, until it is committed."""
    begin, commit = store.dialect.do_begin, store.dialect.do_commit
    begun = 0.0
    took: list[float] = []

    def timed_begin(connection: Any) -> None:
        nonlocal begun
        begin(connection)
        begun = time.monotonic()

    def timed_commit(connection: Any) -> None:
        commit(connection)
        took.append(time.monotonic() - begun)

    store.dialect.do_begin = timed_begin  # type: ignore[method-assign,assignment]
    store.dialect.do_commit = timed_commit  # type: ignore[method-assign,assignment]
    return took
