"""Metrics for Prometheus: what is counted here, and what the stores say when they are asked."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from fastapi import Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily

from api.http.routing import Router
from api.reading.condition import Condition
from shared.stores.backlog import Lag
from shared.telemetry import metrics

STORE_TIMEOUT = 1.0
"""Seconds in which a store must answer."""

OF_PROJECTIONS: list[tuple[str, str, Callable[[Lag], float]]] = [
    ("projection_lag_events", "Events not projected yet", lambda lag: lag.events),
    ("projection_lag_seconds", "Since the first of them was recorded", lambda lag: lag.seconds),
    ("projection_stopped", "1 if an event stops it", lambda lag: lag.progress.stopped is not None),
    ("projection_paused", "1 until it is resumed", lambda lag: lag.progress.paused),
]
"""Gauges of each projection: a name, a help text, and the value for a lag."""

router = Router(in_schema=False)


@router.get("/metrics", role="operator")
async def show_metrics(request: Request) -> Response:
    """For Prometheus; without what a store in trouble would have to say. Takes four seconds at most."""
    condition: Condition = await request.app.state.service.conditions.look(STORE_TIMEOUT)
    text = await asyncio.to_thread(metrics.exposition, more=list(gauges(condition)))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def gauges(condition: Condition) -> Iterator[GaugeMetricFamily]:
    """What the stores say, as far as they answered."""
    well = {name: words == "ok" for name, words in condition.dependencies.items()}
    yield _gauges("dependency_up", "1 if it does what commands need of it", "dependency", well)
    if condition.waiting and condition.handled:
        _, waiting, oldest = condition.waiting
        yield _gauge("backlog_commands", "Commands that nobody has taken up yet", waiting)
        yield _gauge("backlog_oldest_seconds", "Since the oldest that waits was accepted", oldest or 0.0)
        yield _gauge("set_aside_commands", "Commands to be tried again, and those behind them", condition.handled.aside)
    if condition.lags:
        lags = condition.lags.by_name
        yield _gauge("log_position", "The position of the last event", condition.lags.last)
        for name, help_, value in OF_PROJECTIONS:
            yield _gauges(name, help_, "projection", {each: value(lag) for each, lag in lags.items()})


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cqrs_{name}", help_, value)


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"cqrs_{name}", help_, labels=[label])
    for its, value in values.items():
        family.add_metric([its], value)
    return family
