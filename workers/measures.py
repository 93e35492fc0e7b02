"""What workers count and time, once a transaction is committed: a batch at a time, which costs a tenth."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

from prometheus_client import Histogram, start_http_server

from shared.clock import moment, written
from shared.messages import RecordedEvent
from shared.settings import Settings
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Status
from shared.telemetry import metrics
from workers.handling.batch import Batch

HISTORY = timedelta(hours=1)
"""Older events are those of a rebuild: when they are visible tells nothing of how long it takes."""

log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Show the metrics at a port of this process, if it was given one."""
    if not settings.metrics_port:
        return
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry())
    except OSError as error:
        log.warning("no metrics at port %d: %s", settings.metrics_port, error.strerror)


def expect(types: Iterable[str]) -> None:
    """Show each type's counters from the beginning: the first failure is an increase only if it was 0 before."""
    for type_ in types:
        metrics.RETRIES.labels(type_)
        for status in get_args(Status):
            metrics.HANDLED.labels(type_, status)


def handled(chunk: Sequence[Accepted], batches: Iterable[Batch]) -> None:
    commands = {command.seq: command for command in chunk}
    ended = [(commands[each.seq], each.status) for batch in batches for each in batch.outcomes]
    for (type_, status), times in Counter((command.type, status) for command, status in ended).items():
        metrics.HANDLED.labels(type_, status).inc(times)
    for each in (each for batch in batches for each in batch.set_aside if each.tries):
        metrics.RETRIES.labels(commands[each.seq].type).inc()
    metrics.observe(metrics.HANDLE, len(chunk))
    _since(metrics.HANDLING, (command.accepted_at for command, _ in ended))


def projected(projection: str, events: Sequence[RecordedEvent]) -> None:
    metrics.observe(metrics.PROJECT, len(events))
    earliest = written(datetime.now(UTC) - HISTORY)
    recent = (event.recorded_at for event in events if event.recorded_at > earliest)
    _since(metrics.PROJECTING.labels(projection), recent)


def _since(histogram: Histogram, times: Iterable[str]) -> None:
    """The seconds from each time to now; what was done together has the same."""
    now = datetime.now(UTC)
    for time, count in Counter(times).items():
        seconds = (now - moment(time)).total_seconds()
        metrics.observe(histogram, max(0.0, seconds), count)  # the clock may have been set back
