"""What is done to see how cost grows: with a stream, with the log, with what was done before, with the connections."""

import itertools
import multiprocessing
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import psutil
import uvloop

from benchmarks.bounds import OURS
from benchmarks.contestants import ours
from benchmarks.contestants.services import Ours
from benchmarks.fill import fill
from benchmarks.journey import Run, expect, percentiles
from benchmarks.people import Person, invent
from benchmarks.service import folder
from benchmarks.traffic import Traffic

SHORT, LONG = 10, 10_000
"""Events of a stream."""

FEW, MANY = 9_999, 4_999_998
"""Events of the log."""

COMMANDS = 1_000_000

ROUNDS = 3

JOURNEY = 10_000
"""Commands of which throughput is told."""

ROLES = {"api": "api$", "command-worker": "command-worker", "projection-worker": "projection-worker", "beat": "beat$"}
"""Words of their command lines."""

CONNECTIONS = 1, 16, 64, 256

PAGES = {f"{path} {where}": (path, where) for path in ("/events/", "/users/") for where in ("start", "middle", "end")}

LOOKS = 100
"""At each page; the median counts."""

T = TypeVar("T")

Figure = tuple[str, str, float]
"""The measure's key, ours or what it is compared with, and what was measured."""


def stream() -> Iterator[Figure]:
    for _ in range(ROUNDS):
        with folder() as where, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            took = process.submit(ours.streams, where, (SHORT, LONG), 300).result()
        for length, who in ((LONG, OURS), (SHORT, "10 events")):
            first, *others = took[length]
            yield "stream", who, median(others)
            yield "first touch", who, first


def log() -> Iterator[Figure]:
    with folder() as few, folder() as many:
        for where, events in ((few, FEW), (many, MANY)):
            fill(ours.empty(where), events)
        os.sync()  # else the first to be measured waits for all of this to reach the disk
        for _ in range(ROUNDS):
            for where, who in ((few, "10,000"), (many, OURS)):
                for key, value in uvloop.run(_gather(_log(where))):
                    yield key, who, value


async def _gather(figures: AsyncIterator[T]) -> list[T]:
    return [figure async for figure in figures]


async def _log(where: Path) -> AsyncIterator[tuple[str, float]]:
    async with Ours(where) as service:
        for role, seconds in (await _starts(service)).items():
            yield f"start {role}", seconds
        await service.ready()
        traffic = Traffic(service, invent(2 * JOURNEY))
        await traffic.warm_up()
        yield "journey", (await traffic.sustained(JOURNEY))[0]
        for key, (path, place) in PAGES.items():
            yield key, await _page(service, path, place)


async def _starts(service: Ours) -> dict[str, float]:
    """Seconds from each role's start until it has done something: answered, handled, projected."""
    answered = time.perf_counter()
    await service.ready()  # before Redis is there, no worker is woken until the next beat
    person = invent(1)[0]
    body = b'{"first_name": "A", "last_name": "B", "email": "%s"}' % person.email.encode()
    path = (await service.connections.request("POST", "/users/", body)).headers["location"]
    wait = {"Prefer": "wait=30"}
    command = expect(await service.connections.request("GET", path, None, wait), 200, to=path)
    handled = time.perf_counter()
    shown = f"/users/?limit=1&min_position={command['position']}"
    while (await service.connections.request("GET", shown)).status != 200:
        pass
    ends = {"api": answered, "command-worker": handled, "projection-worker": time.perf_counter()}
    up = service.processes()[0]
    return {
        role: end - service.started - (_role(service, role).create_time() - up.create_time())
        for role, end in ends.items()
    }


def _role(service: Ours, role: str) -> psutil.Process:
    return next(
        process
        for process in service.processes()[1:]
        if any(re.search(f"(^|/){ROLES[role]}", part) for part in process.cmdline())
    )


async def _page(service: Ours, path: str, place: str) -> float:
    """Milliseconds."""
    last = service.already if path == "/events/" else service.already * 2 // 3
    after = {"start": 0, "middle": last // 2, "end": last - 100}[place]
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        page = expect(await service.connections.request("GET", f"{path}?after={after}"), 200, to=path)
        took.append(1000 * (time.perf_counter() - began))
        assert len(page) == 100, f"{path} after {after} has {len(page)}"
    return median(took)


def memory() -> Iterator[Figure]:
    """Of each role, at ten looks after a tenth of all commands and at ten before the last."""
    with folder() as where:
        samples = uvloop.run(_gather(_memory(where)))
    for role in ROLES:
        its = [megabytes for name, megabytes in samples if name == role]
        for who, part in (("100,000", its[len(its) // 10 :]), (OURS, its[-10:])):
            for megabytes in part[:10]:
                yield f"memory {role}", who, megabytes


async def _memory(where: Path) -> AsyncIterator[tuple[str, float]]:
    people = (Person("Zoë", "Müller-Lüdenscheidt", f"person{number}@example.com") for number in itertools.count())
    async with Ours(where) as service:
        await service.ready()
        traffic = Traffic(service, people)
        await traffic.warm_up()
        for _ in range(100):
            await traffic.sustained(COMMANDS // 100)
            for role in ROLES:
                yield role, _role(service, role).memory_info().rss / 1e6


def connections() -> Iterator[Figure]:
    best = 0.0
    with folder() as where:
        for number, rate, p99 in uvloop.run(_gather(_connections(where))):
            if number == CONNECTIONS[0]:
                best = rate
            else:
                yield f"{number} connections", "fewer", best
            yield f"{number} connections", OURS, rate
            yield f"{number} p99", OURS, p99
            best = max(best, rate)


class AtOnce(NamedTuple):
    connections: int
    rate: float
    p99: float


async def _connections(where: Path) -> AsyncIterator[AtOnce]:
    async with Ours(where) as service:
        await service.ready()
        traffic = Traffic(service, invent(ROUNDS * len(CONNECTIONS) * JOURNEY))
        await traffic.warm_up()
        for _, number in itertools.product(range(ROUNDS), CONNECTIONS):
            rate, _ = await traffic.sustained(JOURNEY if number > 1 else JOURNEY // 5, at_once=number)
            run = Run(service.connections, invent(2_000 if number > 1 else 300), at_once=number, sample=10)
            await run.go()
            traffic.sent += run.total
            yield AtOnce(number, rate, percentiles(run.to_visible)[1])
