"""What is measured over HTTP: each contestant is started, asked, and stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import uvloop

from benchmarks import checks
from benchmarks.contestants.services import FloorHttp, NaiveCelery, NaiveSync, Ours
from benchmarks.journey import Run, percentiles
from benchmarks.people import Person, invent
from benchmarks.scale import Scale
from benchmarks.service import Service, folder
from benchmarks.traffic import AT_ONCE, Traffic

Figure = tuple[str, float]
"""The key of a measure, and what was measured."""


def figures(scale: Scale, people: Sequence[Person]) -> Iterator[tuple[str, str, float]]:
    """The contestant, the measure's key, and what was measured."""
    for kind in MEASURING:
        for key, value in uvloop.run(_serve(kind, scale, people)):
            yield kind.name, key, value


async def _serve(kind: type[Service], scale: Scale, people: Sequence[Person]) -> list[Figure]:
    with folder() as where:
        async with kind(where) as service:
            return [figure async for figure in MEASURING[kind](service, Traffic(service, people), scale)]


async def _ours(service: Ours, traffic: Traffic, scale: Scale) -> AsyncIterator[Figure]:
    await service.ready()
    yield "start", time.perf_counter() - service.started
    await traffic.waiting(1)
    yield "first", time.perf_counter() - service.started
    await traffic.warm_up()
    cpu = service.cpu()
    await asyncio.sleep(scale.idle)
    yield "idle CPU", 100 * (service.cpu() - cpu) / scale.idle
    yield "idle memory", service.memory()
    p50, p99 = percentiles(await traffic.waiting(scale.singles))
    yield "low load", p50
    yield "low load p99", p99
    yield "polled", percentiles(await traffic.polling(scale.singles))[0]
    cpu = service.cpu()
    rate, _ = await traffic.sustained(scale.commands)
    yield "sustained", rate
    yield "CPU", 1000 * (service.cpu() - cpu) / scale.commands
    yield "GET", await traffic.reads(scale.reading)
    p50, p99 = percentiles(await traffic.steady(rate / 2, scale.steady))
    yield "half p50", p50
    yield "half p99", p99
    run = Run(service.connections, invent(1_000, changes=500), at_once=AT_ONCE)
    await run.go()
    p50, p99 = percentiles(run.to_visible)
    yield "full p50", p50
    yield "full p99", p99
    async for _ in checks.holding(run):
        pass
    yield "stop", service.stop()


async def _naive_celery(service: Service, traffic: Traffic, scale: Scale) -> AsyncIterator[Figure]:
    await traffic.warm_up()
    yield "low load", percentiles(await traffic.polling(scale.singles))[0]
    cpu = service.cpu()
    yield "sustained", (await traffic.sustained(scale.naive_commands))[0]
    yield "CPU", 1000 * (service.cpu() - cpu) / scale.naive_commands


async def _naive_sync(service: Service, traffic: Traffic, scale: Scale) -> AsyncIterator[Figure]:
    await traffic.warm_up()
    yield "GET", await traffic.reads(scale.reading)


async def _floor_http(service: Service, traffic: Traffic, scale: Scale) -> AsyncIterator[Figure]:
    await traffic.warm_up()
    cpu = service.cpu()
    rate, client = await traffic.sustained(scale.commands)
    yield "sustained", rate
    yield "CPU", 1000 * (service.cpu() - cpu) / scale.commands
    yield "client", 100 * client
    yield "GET", await traffic.reads(scale.reading)


MEASURING: dict[type[Service], Any] = {
    Ours: _ours,
    NaiveCelery: _naive_celery,
    NaiveSync: _naive_sync,
    FloorHttp: _floor_http,
}
