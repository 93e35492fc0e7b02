"""What is counted and timed for Prometheus: by a process for itself, or, under `cqrs up`, in files that all share.

Who has files is told by Prometheus' own variable, and under which name by ours: a process that takes the place of one
that died has its name, so that it counts on from where that one stood.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from shared.errors.reasons import reason_of
from shared.telemetry import logs

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
PROCESS = "CQRS_PROCESS"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

FILE = 64 * 1024
"""Bytes that a file has at first."""

log = logs.logger()


class Roomy(MmapedDict):
    """A file that has its room before it is mapped: to touch a page for which a disk has none ends the process.

    What finds none in it is counted by this process alone, until there is some.
    """

    def __init__(self, filename: str) -> None:
        """Raises OSError if there is no room at all."""
        with Path(filename).open("ab", buffering=0) as file:
            _fill(file.fileno(), FILE)
        super().__init__(filename)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        try:
            its: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        except OSError as error:
            _tell(reason_of(error))
            return 0.0, 0.0
        return its

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        try:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
        except OSError as error:
            _tell(reason_of(error))

    def _init_value(self, key: str) -> None:
        capacity = self._capacity
        while self._used + len(key.encode()) + 28 > capacity:  # what the library puts around it, at most
            capacity *= 2
        _fill(self._f.fileno(), capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class Gathered(Collector):
    """What stands in the shared files, those of processes that are gone included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if file.stat().st_size]  # one that is being made has 0
        gathered: Iterable[Metric] = MultiProcessCollector.merge(files)
        return gathered


class Told(Collector):
    """Metrics that are made when they are asked for."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(*, more: Iterable[Metric] = ()) -> bytes:
    """All there is, as Prometheus reads it."""
    return generate_latest(registry()) + generate_latest(_of(Told(more)))


def registry() -> CollectorRegistry:
    """For who shows it: what all count that share files, else what this process does."""
    return _of(Gathered(Path(folder))) if folder else REGISTRY


def observe(histogram: Histogram, amount: float, times: int = 1) -> None:
    """The same amount so many times, at the price of one, and of a lower one than the library asks for."""
    histogram._sum.inc(amount * times)  # noqa: SLF001 the library has no way to say it
    histogram._buckets[bisect_left(histogram._upper_bounds, amount)].inc(times)  # noqa: SLF001


def _of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _fill(file: int, size: int) -> None:
    """With zeros up to a size, or not at all; unlike posix_fallocate every system and file system can do that."""
    had = os.fstat(file).st_size
    missing = size - had
    try:
        while missing > 0:
            missing -= os.write(file, bytes(missing))
    except OSError:
        os.ftruncate(file, had)
        raise


@cache
def _tell(error: str) -> None:
    log.warning("no room for metrics: this process counts them for itself", error=error)


def _value(*args: Any, **more: Any) -> Any:
    try:
        return _in_file(*args, **more)
    except OSError as error:
        _tell(reason_of(error))
        return values.MutexValue(*args, **more)


disable_created_metrics()
if folder := os.environ.get(FOLDER):
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = os.environ.get(PROCESS)
    _in_file = values.MultiProcessValue(lambda: name) if name else values.ValueClass  # that goes by a process's number
    vars(values).update(MmapedDict=Roomy, ValueClass=_value)

REQUESTS = Histogram(
    "cqrs_http_request_duration_seconds",
    "From a request's arrival to the end of its answer, waiting asked for included",
    ["method", "route", "status"],
    buckets=SECONDS,
)
REFUSED = Counter("cqrs_http_refused", "Requests refused before the app saw them, by problem", ["type"])
STREAMS = Gauge("cqrs_feed_clients", "Streams that are open", multiprocess_mode="livesum")
ACCEPTED = Counter("cqrs_commands_accepted", "Commands accepted; one sent again counts once", ["type"])
HANDLED = Counter("cqrs_commands_handled", "Commands that came to their outcome", ["type", "status"])
RETRIES = Counter("cqrs_command_retries", "Tries in vain after which a command is tried again", ["type"])
BATCHES = Histogram(
    "cqrs_batch_size", "Commands (accept, handle) or events (project) in a transaction", ["stage"], buckets=SIZES
)
ACCEPT, HANDLE, PROJECT = (BATCHES.labels(stage) for stage in ("accept", "handle", "project"))
HANDLING = Histogram("cqrs_accepted_to_handled_seconds", "From 202 to outcome", buckets=SECONDS)
PROJECTING = Histogram(
    "cqrs_handled_to_visible_seconds",
    "From event to read model; events over an hour old count for a rebuild, and not here",
    ["projection"],
    buckets=SECONDS,
)
BUSY = Histogram("cqrs_sqlite_busy_seconds", "Waits of a writer for another's transaction", ["store"], buckets=SECONDS)
SEEN = Gauge(
    "cqrs_role_seen_timestamp_seconds",
    "When a worker or beat last came round to showing that it is alive",
    ["role"],
    multiprocess_mode="max",
)
