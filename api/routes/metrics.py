"""What Prometheus is shown: what is counted here, and what the stores say when they are asked."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy.exc import DBAPIError

from api.http.routing import Route
from api.service import Service
from shared.stores import backlog, checkpoints
from shared.stores.backlog import Backlog, Handled, Lag, Lags
from shared.stores.checkpoints import Progress
from shared.telemetry import metrics

WITHIN = 1.0
"""Seconds in which a store must answer."""


NOTHING = Handled(0, 0, [])

router = APIRouter(route_class=Route)

T = TypeVar("T")


@router.get("/metrics", include_in_schema=False)
async def show_metrics(request: Request) -> Response:
    """For Prometheus; without what a store in trouble would have to say. Takes four seconds at most."""
    told = await _stores(Service.of(request))
    text = await asyncio.to_thread(metrics.exposition, more=told)
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _stores(service: Service) -> list[GaugeMetricFamily]:
    handled, progress, troubles = await asyncio.gather(
        _told(service.log.read(backlog.handled)), _progress(service), service.conditions.troubles()
    )
    waiting, lags = await asyncio.gather(
        _told(service.inbox.read(backlog.waiting, handled or NOTHING)), _told(service.log.read(backlog.lags, progress))
    )
    overdue = backlog.overdue(waiting, lags.by_name if lags else {}) if waiting and handled else ""
    up = {
        "inbox": waiting is not None,
        "event_store": handled is not None,
        "read_model": len(progress) == len(service.read_models),
        "redis": True,
        "workers": not overdue,
    }
    well = {name: answers and name not in troubles for name, answers in up.items()}
    gauges = [_gauges("dependency_up", "1 if it does what commands need of it", "dependency", well)]
    if waiting and handled:
        gauges += _backlog(waiting, handled)
    if lags:
        gauges += _projections(lags)
    return gauges


async def _progress(service: Service) -> dict[str, Progress]:
    looks = [_told(store.read(checkpoints.progress, name)) for name, store in service.read_models.items()]
    found = zip(service.read_models, await asyncio.gather(*looks), strict=True)
    return {name: each for name, each in found if each}


def _backlog(waiting: Backlog, handled: Handled) -> Iterator[GaugeMetricFamily]:
    yield _gauge("backlog_commands", "Commands that nobody has taken up yet", waiting.waiting)
    yield _gauge("backlog_oldest_seconds", "Since the oldest that waits was accepted", waiting.oldest or 0.0)
    yield _gauge("set_aside_commands", "Commands to be tried again, and those behind them", handled.aside)


def _projections(lags: Lags) -> Iterator[GaugeMetricFamily]:
    def each(value: Callable[[Lag], float | None]) -> dict[str, float | None]:
        return {name: value(lag) for name, lag in lags.by_name.items()}

    events, seconds = each(lambda lag: lag.events), each(lambda lag: lag.seconds)
    stopped, paused = each(lambda lag: lag.progress.stopped is not None), each(lambda lag: lag.progress.paused)
    yield _gauge("log_position", "The position of the last event", lags.last)
    yield _gauges("projection_lag_events", "Events not projected yet", "projection", events)
    yield _gauges("projection_lag_seconds", "Since the first of them was recorded", "projection", seconds)
    yield _gauges("projection_stopped", "1 if an event stops it", "projection", stopped)
    yield _gauges("projection_paused", "1 until it is resumed", "projection", paused)


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cqrs_{name}", help_, value)


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float | None]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"cqrs_{name}", help_, labels=[label])
    for its, value in values.items():
        if value is not None:
            family.add_metric([its], value)
    return family


async def _told(answer: Awaitable[T]) -> T | None:
    """None from a store in trouble."""
    with suppress(DBAPIError, TimeoutError):
        async with asyncio.timeout(WITHIN):
            return await answer
    return None
