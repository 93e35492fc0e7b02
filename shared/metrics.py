"""What is counted and timed for Prometheus: by a process for itself, or, under `cqrs up`, in files that all share.

Who has files is told by Prometheus' own variable, and under which name by ours: a process that takes the place of one
that died has its name, so that it counts on from where that one stood.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

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
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
PROCESS = "CQRS_PROCESS"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


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


disable_created_metrics()
if folder := os.environ.get(FOLDER):
    Path(folder).mkdir(parents=True, exist_ok=True)
    if name := os.environ.get(PROCESS):
        values.ValueClass = values.MultiProcessValue(lambda: name)  # by default it is a process's number

REQUESTS = Histogram(
    "cqrs_http_request_duration_seconds",
    "From a request's arrival to the end of its answer, waiting asked for included",
    ["method", "route", "status"],
    buckets=SECONDS,
)
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
