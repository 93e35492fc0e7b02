"""What is measured without HTTP: each in a process of its own, on a folder of its own."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.contestants import eventsourcing_library, floor_sqlite, ours
from benchmarks.scale import Scale
from benchmarks.service import folder

Task = Callable[[Path], dict[str, float]]
"""Figures, by the key of their measure."""


def figures(scale: Scale) -> Iterator[tuple[str, str, float]]:
    """The contestant, the measure's key, and what was measured."""
    for contestant, task in _tasks(scale):
        with folder() as where, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            for key, value in process.submit(task, where).result().items():
                yield contestant, key, value


def _tasks(scale: Scale) -> Iterator[tuple[str, Task]]:
    for count, together in ((scale.appends, 1), (20 * scale.appends, 100)):
        yield "ours", partial(ours.append, count=count, together=together)
        yield "floor-sqlite", partial(floor_sqlite.append, count=count, together=together)
        yield "eventsourcing", partial(eventsourcing_library.append, count=count, together=together)
    yield "ours", partial(ours.read_and_rebuild, count=scale.events)
    yield "eventsourcing", partial(eventsourcing_library.read_and_rebuild, count=scale.library_events)
    yield "ours", partial(ours.handle, count=scale.backlog)
