"""The trail of a command through the workers, told once it is committed: log lines, and spans if they are asked for."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from shared.messages import RecordedEvent
from shared.projection import Projection
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome
from shared.telemetry import logs, tracing

log = logs.logger()

METADATA = {"command_id", "correlation_id", "traceparent"}
"""Told of an event; one that was imported may have more."""

Handled = tuple[Accepted, Outcome]


def handled(each: Sequence[Handled], *, began: int) -> None:
    """`began` is when the transaction did, in nanoseconds since 1970."""
    counts = Counter(outcome.status for _, outcome in each)
    logs.tell(log, "handled", each, _of_outcome, **{status: counts[status] for status in sorted(counts)})
    if tracing.on():
        for command, outcome in each:
            _record(f"handle {command.type}", _of_outcome((command, outcome)), began)


def projected(which: Projection, events: Sequence[RecordedEvent], *, began: int, replayed: bool) -> None:
    """Of those that are `replayed` only their number is told."""
    its = [each for each in events if each.type in which.events]
    told = {"projection": which.name, "events": len(its), "reached": events[-1].position}
    if replayed:
        log.info("projected", **told)
        return
    logs.tell(log, "projected", its, partial(_of_event, which.name), **told)
    if tracing.on():
        for event in its:
            _record(f"project {which.name}", _of_event(which.name, event), began)


def _of_outcome(each: Handled) -> dict[str, Any]:
    command, outcome = each
    if outcome.problem:
        return {**command.trail(), "status": outcome.status, "problem": outcome.problem["type"]}
    return {**command.trail(), "status": outcome.status, "version": outcome.version}


def _of_event(projection: str, event: RecordedEvent) -> dict[str, Any]:
    known = {name: value for name, value in event.metadata.items() if name in METADATA}
    return {"projection": projection, "position": event.position, "type": event.type, "stream": event.stream, **known}


def _record(name: str, told: dict[str, Any], began: int) -> None:
    tracing.record(name, parent=told.pop("traceparent", None), began=began, **told)
