"""The service beside others, in rounds in which contestants take turns, so that a slow machine slows all of them."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

from benchmarks.contestants import eventsourcing_library, floor_sqlite, ours
from benchmarks.contestants.service import alone
from benchmarks.load.people import invent
from benchmarks.measures import serving
from benchmarks.measures.bounds import OURS, Bound, Figure, Figures, Measure, Say
from benchmarks.measures.serving import Scale

CELERY, SYNC, HTTP, SQLITE, LIBRARY = "naive-celery", "naive-sync", "floor-http", "floor-sqlite", "eventsourcing"

MEASURES = (
    Measure(
        "sustained",
        "accepted → handled → visible, 64 connections",
        "/s",
        (Bound(20, 30, CELERY), Bound(0.45, 0.6, HTTP)),
    ),
    Measure("low load", "POST → visible, one at a time, p50", "ms", (Bound(0.6, 0.4, CELERY), Bound(15)), low=True),
    Measure("low load p99", "POST → visible, one at a time, p99", "ms", (Bound(60),), low=True),
    Measure("polled", "POST → visible, one at a time, polled, p50", "ms", low=True),
    Measure("half p50", "POST → visible at half of its maximum, p50", "ms", low=True),
    Measure("half p99", "POST → visible at half of its maximum, p99", "ms", (Bound(60, 25),), low=True),
    Measure("full p50", "POST → visible at full load, p50", "ms", low=True),
    Measure("full p99", "POST → visible at full load, p99", "ms", low=True),
    Measure("GET", "GET /users/{id}, 32 connections", "/s", (Bound(4, 5, SYNC), Bound(0.5, 0.7, HTTP))),
    Measure("append 1", "append, 1 event a transaction", "/s", (Bound(0.6, 0.85, SQLITE), Bound(0.9, 1.2, LIBRARY))),
    Measure("append 100", "append, 100 streams a transaction", "/s", (Bound(0.6, 0.85, SQLITE), Bound(2, 3, LIBRARY))),
    Measure("read", "reading the log, decoded", "/s", (Bound(2, 4, LIBRARY),)),
    Measure("rebuild", "rebuilding the users", "/s", (Bound(60_000, 120_000), Bound(15, over=LIBRARY))),
    Measure("rebuild NORMAL", "rebuilding, the library's view at NORMAL", "/s"),
    Measure("handle", "command worker alone, a backlog of 20,000", "/s", (Bound(10_000, 20_000),)),
    Measure("CPU", "CPU of all processes a command", "ms", low=True),
    Measure("client", "CPU of the load generator", "% of a core", low=True),
    Measure("start", "start until ready", "s", low=True),
    Measure("first", "start until the first user is visible", "s", low=True),
    Measure("idle CPU", "idle: CPU of all processes", "% of a core", (Bound(3),), low=True),
    Measure("idle memory", "idle: memory of all processes", "MB", (Bound(600),), low=True),
    Measure("stop", "stop until no process is left", "s", low=True),
)


def run(scale: Scale, say: Say) -> Figures:
    """Measure everything. Raises Wrong, or what a contestant raises."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    people = invent(3 * scale.commands + 10_000)
    for number in range(1, scale.rounds + 1):
        for key, contestant, value in chain(serving.figures(scale, people), _stores(scale)):
            figures[key][contestant].append(value)
            say(f"round {number} of {scale.rounds}: {contestant}, {key}: {value:,.1f}")
    return figures


def _stores(scale: Scale) -> Iterator[Figure]:
    """What is measured without HTTP."""
    for contestant, found in _tasks(scale):
        for key, value in found.items():
            yield key, contestant, value


def _tasks(scale: Scale) -> Iterator[tuple[str, dict[str, float]]]:
    for count, together in ((scale.appends, 1), (20 * scale.appends, 100)):
        for contestant, store in {OURS: ours, SQLITE: floor_sqlite, LIBRARY: eventsourcing_library}.items():
            yield contestant, alone(store.append, count, together=together)
    yield OURS, alone(ours.read_and_rebuild, scale.events)
    yield LIBRARY, alone(eventsourcing_library.read_and_rebuild, scale.library_events)
    yield OURS, alone(ours.handle, scale.backlog)
