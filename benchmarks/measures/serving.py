"""What is measured over HTTP: each contestant is started, asked, and stopped."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from benchmarks.contestants.service import Service, folder
from benchmarks.contestants.services import FloorHttp, NaiveCelery, NaiveSync, Ours
from benchmarks.load import checks
from benchmarks.load.journey import Run, percentiles
from benchmarks.load.people import Person, invent
from benchmarks.load.traffic import AT_ONCE, Traffic
from benchmarks.measures.bounds import Figure


@dataclass(frozen=True)
class Scale:
    """How much is asked in a run: enough for figures to trust, or what two minutes allow. Times are in seconds."""

    rounds: int = 4
    commands: int = 24_000
    naive_commands: int = 800
    singles: int = 200
    reading: float = 4
    steady: float = 8
    idle: float = 8
    appends: int = 5_000
    events: int = 999_999
    library_events: int = 30_000
    backlog: int = 20_000


FULL, QUICK = Scale(), Scale(2, 4_500, 200, 40, 1, 2, 2, 1_500, 49_998, 8_000)

Found = dict[str, float]
"""What was measured, by the key of its measure."""


def figures(scale: Scale, people: Sequence[Person]) -> Iterator[Figure]:
    """Everything, contestant by contestant."""
    for kind in MEASURING:
        for key, value in uvloop.run(_serve(kind, scale, people)).items():
            yield key, kind.name, value


async def _serve(kind: type[Service], scale: Scale, people: Sequence[Person]) -> Found:
    with folder() as where:
        async with kind(where) as service:
            found: Found = await MEASURING[kind](service, Traffic(service, people), scale)
            return found


async def _ours(service: Ours, traffic: Traffic, scale: Scale) -> Found:
    found = {}
    await service.ready()
    found["start"] = time.perf_counter() - service.started
    await traffic.waiting(1)
    found["first"] = time.perf_counter() - service.started
    await traffic.warm_up()
    cpu = service.cpu()
    await asyncio.sleep(scale.idle)
    found["idle CPU"] = 100 * (service.cpu() - cpu) / scale.idle
    found["idle memory"] = service.memory()
    found["low load"], found["low load p99"] = percentiles(await traffic.waiting(scale.singles))
    found["polled"], _ = percentiles(await traffic.polling(scale.singles))
    found["sustained"], found["CPU"], _ = await _sustained(service, traffic, scale.commands)
    found["GET"] = await traffic.reads(scale.reading)
    found["half p50"], found["half p99"] = percentiles(await traffic.steady(found["sustained"] / 2, scale.steady))
    run = Run(service.connections, invent(1_000, changes=500), AT_ONCE)
    await run.go()
    found["full p50"], found["full p99"] = percentiles(run.to_visible)
    async for _ in checks.holding(run):
        pass
    return {**found, "stop": service.stop()}


async def _naive_celery(service: Service, traffic: Traffic, scale: Scale) -> Found:
    await traffic.warm_up()
    low, _ = percentiles(await traffic.polling(scale.singles))
    rate, cpu, _ = await _sustained(service, traffic, scale.naive_commands)
    return {"low load": low, "sustained": rate, "CPU": cpu}


async def _naive_sync(service: Service, traffic: Traffic, scale: Scale) -> Found:
    await traffic.warm_up()
    return {"GET": await traffic.reads(scale.reading)}


async def _floor_http(service: Service, traffic: Traffic, scale: Scale) -> Found:
    await traffic.warm_up()
    rate, cpu, client = await _sustained(service, traffic, scale.commands)
    return {"sustained": rate, "CPU": cpu, "client": client, "GET": await traffic.reads(scale.reading)}


async def _sustained(service: Service, traffic: Traffic, count: int) -> tuple[float, float, float]:
    """Commands a second, milliseconds of CPU each takes, and the client's share of a core in percent."""
    cpu = service.cpu()
    rate, client = await traffic.sustained(count)
    return rate, 1000 * (service.cpu() - cpu) / count, 100 * client


MEASURING: dict[type[Service], Any] = {
    Ours: _ours,
    NaiveCelery: _naive_celery,
    NaiveSync: _naive_sync,
    FloorHttp: _floor_http,
}
