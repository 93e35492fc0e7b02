"""Metrics for Prometheus: what this process counts and times, or, under `cqrs up`, what all processes do."""

import os
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache

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

from shared.telemetry import metric_files

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""As SECONDS, upper bounds of histograms' buckets."""


class OnDemand(Collector):
    """Metrics made for one request of /metrics, such as the backlog."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(*, more: Iterable[Metric] = ()) -> bytes:
    """All metrics and `more`, as Prometheus reads them."""
    return generate_latest(registry()) + generate_latest(OnDemand(more))


def registry() -> CollectorRegistry:
    """The registry to show: that of all processes if they share a folder of files, else this process's own."""
    folder = metric_files.folder()
    if folder is None:
        return REGISTRY
    show_zeros()
    shared = CollectorRegistry()
    MultiProcessCollector(shared, str(folder))
    return shared


@cache
def show_zeros() -> None:
    """Put zeros for what was not counted yet into this process's files: so Prometheus sees a first count as a rise."""
    for _ in REGISTRY.collect():
        pass


def observe(histogram: Histogram, amount: float, times: int = 1) -> None:
    """Observe the same amount so many `times`, in the time of one; even one takes less than the library's method."""
    histogram._sum.inc(amount * times)  # noqa: SLF001 the library has no way to say it
    histogram._buckets[bisect_left(histogram._upper_bounds, amount)].inc(times)  # noqa: SLF001


disable_created_metrics()
if os.environ.get(metric_files.FOLDER):
    # Before the first metric is made, as the library asks: https://github.com/prometheus/client_python/issues/509
    values.ValueClass = metric_files.FileValue

REQUESTS = Histogram(
    "cqrs_http_request_duration_seconds",
    "From a request's arrival to the end of its answer, with any wait it asked for",
    ["method", "route", "status"],
    buckets=SECONDS,
)
REFUSED = Counter("cqrs_http_refused", "Requests refused before a route read them, by problem", ["type"])
STREAMS = Gauge("cqrs_feed_clients", "Streaming answers that are open", multiprocess_mode="livesum")
ACCEPTED = Counter("cqrs_commands_accepted", "Commands accepted; one sent again counts once", ["type"])
HANDLED = Counter("cqrs_commands_handled", "Commands that reached their outcome", ["type", "status"])
RETRIES = Counter("cqrs_command_retries", "Failed tries after which a command is tried again", ["type"])
EMPTIED = Counter(
    "cqrs_commands_emptied", "Commands whose data and idempotency key were taken away, since they are old"
)
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
    "cqrs_role_seen_timestamp_seconds", "When a worker last showed that it is alive", ["role"], multiprocess_mode="max"
)
