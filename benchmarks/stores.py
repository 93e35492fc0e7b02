"""What is measured without HTTP: each in a process of its own, on a folder of its own."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.contestants import eventsourcing_library, floor_sqlite, ours
from benchmarks.scale import Scale
from benchmarks.service import folder


class Task(Protocol):
    def __call__(self, folder: Path, /) -> float:
        """Returns a rate."""


def figures(scale: Scale) -> Iterator[tuple[str, str, float]]:
    """The contestant, the measure's key, and what was measured."""
    for contestant, key, task in _tasks(scale):
        with folder() as where, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            yield contestant, key, process.submit(task, where).result()


def _tasks(scale: Scale) -> Iterator[tuple[str, str, Task]]:
    for key, count, together in (("append 1", scale.appends, 1), ("append 100", 20 * scale.appends, 100)):
        yield "ours", key, partial(ours.append, count=count, together=together)
        yield "floor-sqlite", key, partial(floor_sqlite.append, count=count, together=together)
        yield "eventsourcing", key, partial(eventsourcing_library.append, count=count, together=together)
    yield "ours", "read", partial(ours.read, count=scale.events)
    yield "eventsourcing", "read", partial(eventsourcing_library.read, count=scale.library_events)
    yield "ours", "rebuild", partial(ours.rebuild, count=scale.events)
    yield "eventsourcing", "rebuild", partial(eventsourcing_library.rebuild, count=scale.library_events)
    yield "ours", "handle", partial(ours.handle, count=scale.backlog)
