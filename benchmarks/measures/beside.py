"""The service beside others, in rounds in which contestants take turns, so that a slow machine slows all of them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import uvloop

from benchmarks.contestants import eventsourcing_library, floor_sqlite, ours
from benchmarks.contestants.service import Service, alone, folder
from benchmarks.contestants.services import Closed, FloorAsgi, FloorHttp, NaiveCelery, NaiveSync, Ours, Unobserved
from benchmarks.load.journey import Run, holding, percentiles
from benchmarks.load.people import Person, invent
from benchmarks.load.traffic import AT_ONCE, Traffic
from benchmarks.measures.bounds import OURS, Bound, Figure, Figures, Measure, Say

CELERY, SYNC, HTTP, SQLITE, LIBRARY = "naive-celery", "naive-sync", "floor-http", "floor-sqlite", "eventsourcing"

OPEN, UNOBSERVED = "without keys", "without them"
"""The service itself, open, and without what observes it."""

PIECE = 500
"""Commands that two kinds of the service are sent in turn while both run."""

EVENTS = 30_000
"""Of which each is revealed and hashed."""

MEASURES = (
    Measure(
        "sustained",
        "accepted → handled → visible, 64 connections",
        "/s",
        (Bound(20, 30, CELERY), Bound(0.45, 0.6, HTTP)),
    ),
    Measure("low load", "POST → visible, one at a time, p50", "ms", (Bound(0.6, 0.4, CELERY), Bound(15)), low=True),
    Measure("low load p99", "POST → visible, one at a time, p99", "ms", (Bound(60),), low=True),
    Measure(
        "polled", "POST → visible, one at a time with pauses, polled, p50", "ms", (Bound(0.6, 0.45, CELERY),), low=True
    ),
    Measure("polled p99", "the same, p99", "ms", low=True),
    Measure("half p50", "POST → visible at half of its maximum, p50", "ms", low=True),
    Measure("half p99", "POST → visible at half of its maximum, p99", "ms", (Bound(60, 25),), low=True),
    Measure("full p50", "POST → visible at full load, p50", "ms", low=True),
    Measure("full p99", "POST → visible at full load, p99", "ms", low=True),
    Measure("GET", "GET /users/{id}, 32 connections", "/s", (Bound(4, 5, SYNC), Bound(0.5, 0.7, HTTP))),
    Measure("append 1", "append, 1 event a transaction", "/s", (Bound(0.6, 0.85, SQLITE), Bound(0.9, 1.2, LIBRARY))),
    Measure("append 100", "append, 100 streams a transaction", "/s", (Bound(0.6, 0.85, SQLITE), Bound(2, 3, LIBRARY))),
    Measure("append 50", "append, 50 a transaction, 4 threads on one file", "/s", (Bound(0.7, 1, LIBRARY),)),
    Measure("read", "reading the log, decoded", "/s", (Bound(2, 4, LIBRARY),)),
    Measure("append sealed", "the same of events with personal fields, sealed", "/s"),
    Measure("read sealed", "reading the log, personal fields revealed", "/s"),
    Measure("reveal", "revealing an event, mostly of a person not met before", "µs", low=True),
    Measure("hash", "the hash of an event", "µs", low=True),
    Measure("rebuild", "rebuilding the users", "/s", (Bound(60_000, 120_000), Bound(15, over=LIBRARY))),
    Measure("rebuild NORMAL", "rebuilding, the library's view at NORMAL", "/s"),
    Measure("handle", "command worker alone, a backlog of 20,000", "/s", (Bound(10_000, 20_000),)),
    Measure("keys", "accepted → handled → visible, each request with a key", "/s", (Bound(0.97, over=OPEN),)),
    Measure("check", "checking the key of a request", "µs", (Bound(10),), low=True),
    Measure("observed", "CPU a command, with ids, logs and metrics", "ms", (Bound(1.03, over=UNOBSERVED),), low=True),
    Measure("CPU", "CPU of all processes a command", "ms", low=True),
    Measure("client", "CPU of the load generator", "% of a core", low=True),
    Measure("start", "start until ready", "s", low=True),
    Measure("first", "start until the first user is visible", "s", low=True),
    Measure("idle CPU", "idle: CPU of all processes", "% of a core", (Bound(3),), low=True),
    Measure("idle memory", "idle: memory of all processes", "MB", (Bound(600),), low=True),
    Measure("stop", "stop until no process is left", "s", low=True),
)


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
    checks: int = 100_000
    pieces: int = 24


FULL, QUICK = Scale(), Scale(2, 4_500, 200, 40, 1, 2, 2, 1_500, 49_998, 8_000, pieces=8)

Found = dict[str, float]
"""What was measured, by the key of its measure."""


def run(scale: Scale, say: Say) -> Figures:
    """Measure everything. Raises Wrong, or what a contestant raises."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    people = invent(3 * scale.commands + 10_000)
    for number in range(1, scale.rounds + 1):
        for key, contestant, value in chain(_serving(scale, people), _in_pairs(scale, people), _stores(scale)):
            figures[key][contestant].append(value)
            say(f"round {number} of {scale.rounds}: {contestant}, {key}: {value:,.1f}")
    return figures


def _stores(scale: Scale) -> Iterator[Figure]:
    """What is measured without HTTP."""
    for contestant, found in _tasks(scale):
        for key, value in found.items():
            yield key, contestant, value


def _tasks(scale: Scale) -> Iterator[tuple[str, dict[str, float]]]:
    for count, together in ((scale.appends, 1), (20 * scale.appends, 100)):
        for contestant, store in {OURS: ours, SQLITE: floor_sqlite, LIBRARY: eventsourcing_library}.items():
            yield contestant, alone(store.append, count, together=together)
    for contestant, store in {OURS: ours, LIBRARY: eventsourcing_library}.items():
        yield contestant, alone(store.append, 4 * scale.appends, together=50)
    yield OURS, alone(ours.append_sealed, 20 * scale.appends)
    yield OURS, alone(ours.of_an_event, EVENTS)
    yield OURS, alone(ours.read_and_rebuild, scale.events)
    yield LIBRARY, alone(eventsourcing_library.read_and_rebuild, scale.library_events)
    yield OURS, alone(ours.handle, scale.backlog)
    yield OURS, alone(ours.admit, scale.checks)


def _serving(scale: Scale, people: Sequence[Person]) -> Iterator[Figure]:
    """What is measured over HTTP: each contestant is started, asked, and stopped."""
    for kind in MEASURING:
        for key, value in uvloop.run(_serve(kind, scale, people)).items():
            yield key, kind.name, value


def _in_pairs(scale: Scale, people: Sequence[Person]) -> Iterator[Figure]:
    """What keys cost, and what observing costs: the service with and without them, a piece each in turn."""
    for found in uvloop.run(_in_turn({OPEN: Ours, OURS: Closed}, scale, people)):
        for contestant, (rate, _) in found.items():
            yield "keys", contestant, rate
    for found in uvloop.run(_in_turn({UNOBSERVED: Unobserved, OURS: Ours}, scale, people)):
        for contestant, (_, cpu) in found.items():
            yield "observed", contestant, cpu


async def _in_turn(
    pair: Mapping[str, type[Ours]], scale: Scale, people: Sequence[Person]
) -> list[dict[str, tuple[float, float]]]:
    """Commands a second and milliseconds of CPU a command, piece by piece; which of the two is first changes."""
    (one, its_kind), (other, others_kind) = pair.items()
    with folder() as here, folder() as there:
        async with its_kind(here) as its_service, others_kind(there) as others_service:
            services = {one: its_service, other: others_service}
            traffic = {name: Traffic(service, people) for name, service in services.items()}
            for name, each in traffic.items():
                await services[name].ready()
                await each.warm_up()
                await each.sustained(PIECE)
            found = []
            for number in range(scale.pieces):
                turns = sorted(traffic, reverse=number % 2 == 1)
                found.append({name: (await _sustained(services[name], traffic[name], PIECE))[:2] for name in turns})
            return found


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
    found["polled"], found["polled p99"] = percentiles(await traffic.polling(scale.singles))
    found["sustained"], found["CPU"], _ = await _sustained(service, traffic, scale.commands)
    found["GET"] = await traffic.reads(scale.reading)
    found["half p50"], found["half p99"] = percentiles(await traffic.steady(found["sustained"] / 2, scale.steady))
    run = Run(service.connections, invent(1_000, changes=500), AT_ONCE)
    await run.go()
    found["full p50"], found["full p99"] = percentiles(run.to_visible)
    async for _ in holding(run):
        pass
    return {**found, "stop": service.stop()}


async def _naive_celery(service: Service, traffic: Traffic, scale: Scale) -> Found:
    await traffic.warm_up()
    polled, polled_p99 = percentiles(await traffic.polling(scale.singles))
    rate, cpu, _ = await _sustained(service, traffic, scale.naive_commands)
    low = {"low load": polled, "polled": polled, "polled p99": polled_p99}
    return {**low, "sustained": rate, "CPU": cpu}


async def _naive_sync(service: Service, traffic: Traffic, scale: Scale) -> Found:
    await traffic.warm_up()
    return {"GET": await traffic.reads(scale.reading)}


async def _floor(service: Service, traffic: Traffic, scale: Scale) -> Found:
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
    FloorHttp: _floor,
    FloorAsgi: _floor,
}
