"""What workers report once a transaction is committed: metrics, log lines, and spans if tracing is on.

It is done a chunk at a time, which costs a tenth of doing it for each command or event.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, get_args

from prometheus_client import Histogram

from shared.clock import moment, written
from shared.messages import RecordedEvent
from shared.projection import Projection
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome, Status
from shared.stores.set_aside import SetAside
from shared.telemetry import logs, metrics, tracing

HISTORY = timedelta(hours=1)
"""Age from which an event counts as one of a rebuild, which says nothing about how long events take to be visible."""

LOGGED_METADATA = {"command_id", "correlation_id", "principal", "traceparent"}
"""Metadata of an event that is logged; one that was imported may have more."""

log = logs.logger()

Ended = tuple[Accepted, Outcome]


def expect(types: Iterable[str]) -> None:
    """Show the counters of these command types at 0: a first failure is an increase only if there was a 0 before."""
    for type_ in types:
        metrics.RETRIES.labels(type_)
        for status in get_args(Status):
            metrics.HANDLED.labels(type_, status)


def handled(
    commands: Sequence[Accepted], outcomes: Sequence[Outcome], set_aside: Sequence[SetAside], *, began: int
) -> None:
    """Report the commands of one transaction, which `began` so many nanoseconds after 1970."""
    by_seq = {command.seq: command for command in commands}
    ended = [(by_seq[outcome.seq], outcome) for outcome in outcomes]
    for (type_, status), times in Counter((command.type, outcome.status) for command, outcome in ended).items():
        metrics.HANDLED.labels(type_, status).inc(times)
    for each in set_aside:
        if each.tries:
            metrics.RETRIES.labels(by_seq[each.seq].type).inc()
    metrics.observe(metrics.HANDLE, len(commands))
    _observe_since(metrics.HANDLING, (command.accepted_at for command, _ in ended))
    if not ended:
        return
    counts = Counter(outcome.status for outcome in outcomes)
    logs.tell(log, "handled", ended, _of_outcome, **{status: counts[status] for status in sorted(counts)})
    if tracing.on():
        for command, outcome in ended:
            _record_span(f"handle {command.type}", _of_outcome((command, outcome)), began)


def emptied(count: int, *, upto: int) -> None:
    """Report commands whose data was taken away; all commands up to that seq are emptied now."""
    metrics.EMPTIED.inc(count)
    log.info("emptied", commands=count, upto=upto)


def projected(which: Projection, events: Sequence[RecordedEvent], *, began: int, replayed: bool) -> None:
    """Report the events of one transaction, which `began` so many nanoseconds after 1970.

    Events that are `replayed` are counted, and not logged one by one.
    """
    metrics.observe(metrics.PROJECT, len(events))
    earliest = written(datetime.now(UTC) - HISTORY)
    recent = (event.recorded_at for event in events if event.recorded_at > earliest)
    _observe_since(metrics.PROJECTING.labels(which.name), recent)
    known = [each for each in events if each.type in which.events]
    fields = {"projection": which.name, "events": len(known), "reached": events[-1].position}
    if replayed:
        log.info("projected", **fields)
        return
    logs.tell(log, "projected", known, partial(_of_event, which.name), **fields)
    if tracing.on():
        for event in known:
            _record_span(f"project {which.name}", _of_event(which.name, event), began)


def _observe_since(histogram: Histogram, times: Iterable[str]) -> None:
    """Observe the seconds from each time to now. What commits together was accepted at few different times."""
    now = datetime.now(UTC)
    for time, count in Counter(times).items():
        seconds = (now - moment(time)).total_seconds()
        metrics.observe(histogram, max(0.0, seconds), count)  # the clock may have been set back


def _of_outcome(ended: Ended) -> dict[str, Any]:
    command, outcome = ended
    if outcome.problem:
        return {**command.trail(), "status": outcome.status, "problem": outcome.problem["type"]}
    return {**command.trail(), "status": outcome.status, "version": outcome.version}


def _of_event(projection: str, event: RecordedEvent) -> dict[str, Any]:
    known = {name: value for name, value in event.metadata.items() if name in LOGGED_METADATA}
    return {"projection": projection, "position": event.position, "type": event.type, "stream": event.stream, **known}


def _record_span(name: str, fields: dict[str, Any], began: int) -> None:
    tracing.record(name, parent=fields.pop("traceparent", None), began=began, **fields)
