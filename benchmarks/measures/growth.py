"""How cost grows: with a stream, with the log, with what was done before, with the connections."""

import itertools
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import uvloop

from benchmarks.contestants import ours
from benchmarks.contestants.fill import fill, fill_users
from benchmarks.contestants.service import alone, folder
from benchmarks.contestants.services import Ours
from benchmarks.load.journey import WAIT, Run, expect, percentiles
from benchmarks.load.people import Person, invent
from benchmarks.load.traffic import Traffic
from benchmarks.measures.bounds import OURS, Bound, Figure, Figures, Measure, Say

SHORT, LONG = 10, 10_000
"""Events of a stream."""

FEW, MANY = 9_999, 4_999_998
"""Events of the log."""

COMMANDS = 1_000_000

FEW_USERS, MANY_USERS = 10_000, 10_000_000

ROUNDS = 3

JOURNEY = 10_000
"""Commands by which throughput is measured."""

ROLES = {"api": "api$", "command-worker": "command-worker", "projection-worker": "projection-worker"}
"""Words of their command lines."""

CONNECTIONS = 1, 16, 64, 256

PAGES = {f"{path} {where}": (path, where) for path in ("/events/", "/users/") for where in ("start", "middle", "end")}

LOOKS = 100
"""At each page; the median counts."""

USERS = {
    "a user by number": "/users/{n}",
    "a user by address": "/users/?email=person{n}@example.com",
    "a page of users anywhere": "/users/?after={n}",
}
"""What is asked of ten million users, whichever of them."""

MEASURES = (
    Measure("stream", "a command to a stream of 10,000 events", "ms", (Bound(2, over="10 events"),), low=True),
    Measure("first touch", "… the first after a start", "ms", low=True),
    Measure("journey", "accepted → handled → visible, a log of 5 million", "/s", (Bound(0.85, over="10,000"),)),
    *(Measure(page, f"GET {page}", "ms", (Bound(1.25, over="10,000"),), low=True) for page in PAGES),
    *(Measure(what, f"{what}, of 10 million", "ms", (Bound(1.25, over="10,000"),), low=True) for what in USERS),
    *(Measure(f"start {role}", f"start of {role}", "s", (Bound(2),), low=True) for role in ROLES),
    *(
        Measure(f"memory {role}", f"{role} after a million", "MB", (Bound(1.1, over="100,000"),), True)
        for role in ROLES
    ),
    *(
        Measure(f"{n} connections", f"{n} connections", "/s", (Bound(0.8, over="fewer"),) * (n > 1))
        for n in CONNECTIONS
    ),
    *(Measure(f"{n} p99", f"{n} connections: POST → visible, p99", "ms", low=True) for n in CONNECTIONS),
)

T = TypeVar("T")


def run(say: Say) -> Figures:
    """Measure everything. Raises Wrong."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for key, who, value in itertools.chain(_stream(), _connections(), _log(), _users(), _memory()):
        figures[key][who].append(value)
        say(f"{key}: {who} {value:,.2f}")
    return figures


def _stream() -> Iterator[Figure]:
    for _ in range(ROUNDS):
        took = alone(ours.streams, (SHORT, LONG), 300)
        for length, who in ((LONG, OURS), (SHORT, "10 events")):
            first, *others = took[length]
            yield "stream", who, median(others)
            yield "first touch", who, first


def _connections() -> Iterator[Figure]:
    best = 0.0
    with folder() as where:
        for number, rate, p99 in uvloop.run(_all(_serve_connections(where))):
            if number == CONNECTIONS[0]:
                best = rate
            else:
                yield f"{number} connections", "fewer", best
            yield f"{number} connections", OURS, rate
            yield f"{number} p99", OURS, p99
            best = max(best, rate)


async def _serve_connections(where: Path) -> AsyncIterator[tuple[int, float, float]]:
    """Each number of connections, with its commands a second and their p99 in milliseconds."""
    async with Ours(where) as service:
        traffic = await _warm(service, invent(ROUNDS * len(CONNECTIONS) * JOURNEY))
        for _, number in itertools.product(range(ROUNDS), CONNECTIONS):
            rate, _ = await traffic.sustained(JOURNEY if number > 1 else JOURNEY // 5, at_once=number)
            run = Run(service.connections, invent(2_000 if number > 1 else 300), number, sample=10)
            await run.go()
            traffic.sent += run.total
            yield number, rate, percentiles(run.to_visible)[1]


def _log() -> Iterator[Figure]:
    with folder() as few, folder() as many:
        for where, events in ((few, FEW), (many, MANY)):
            fill(ours.empty(where), events)
        os.sync()  # else the first to be measured waits for all of this to reach the disk
        for _ in range(ROUNDS):
            for where, who in ((few, "10,000"), (many, OURS)):
                for key, value in uvloop.run(_all(_serve_log(where))):
                    yield key, who, value


async def _serve_log(where: Path) -> AsyncIterator[tuple[str, float]]:
    async with Ours(where) as service:
        for role, seconds in (await _starts(service)).items():
            yield f"start {role}", seconds
        traffic = await _warm(service, invent(2 * JOURNEY))
        yield "journey", (await traffic.sustained(JOURNEY))[0]
        for key, (path, place) in PAGES.items():
            yield key, await _page(service, path, place)


async def _starts(service: Ours) -> dict[str, float]:
    """Seconds from each role's start until it has done something: answered, handled, projected."""
    answered = time.perf_counter()
    await service.ready()
    email = invent(1)[0].email
    body = b'{"first_name": "A", "last_name": "B", "email": "%s"}' % email.encode()
    path = (await service.connections.request("POST", "/users/", body)).headers["location"]
    command = expect(await service.connections.request("GET", path, None, WAIT), 200, to=path)
    handled = time.perf_counter()
    shown = f"/users/?limit=1&min_position={command['position']}"
    while (await service.connections.request("GET", shown)).status != 200:
        pass
    ends = {"api": answered, "command-worker": handled, "projection-worker": time.perf_counter()}
    up = service.processes()[0].create_time()
    return {role: end - service.started - (service.role(ROLES[role]).create_time() - up) for role, end in ends.items()}


async def _page(service: Ours, path: str, place: str) -> float:
    """Milliseconds that a page of 100 takes."""
    last = service.already if path == "/events/" else service.already * 2 // 3
    after = {"start": 0, "middle": last // 2, "end": last - 100}[place]
    took = []
    for _ in range(LOOKS):
        page, milliseconds = await _timed(service, f"{path}?after={after}")
        took.append(milliseconds)
        assert len(page) == 100, f"{path} after {after} has {len(page)}"
    return median(took)


async def _timed(service: Ours, path: str) -> tuple[Any, float]:
    """What is shown there, and the milliseconds it took."""
    began = time.perf_counter()
    shown = expect(await service.connections.request("GET", path), 200, to=path)
    return shown, 1000 * (time.perf_counter() - began)


def _users() -> Iterator[Figure]:
    with folder() as few, folder() as many:
        for where, users in ((few, FEW_USERS), (many, MANY_USERS)):
            fill_users(ours.empty(where), users)
        os.sync()
        for _ in range(ROUNDS):
            for where, who, users in ((few, "10,000", FEW_USERS), (many, OURS, MANY_USERS)):
                for key, value in uvloop.run(_all(_serve_users(where, users))):
                    yield key, who, value


async def _serve_users(where: Path, users: int) -> AsyncIterator[tuple[str, float]]:
    """Milliseconds that each answer takes; each asks for others, all over the tables."""
    async with Ours(where) as service:
        await service.ready()
        for key, path in USERS.items():
            paths = (path.format(n=1 + look * 7919 * 104_729 % (users - 100)) for look in range(LOOKS))
            yield key, median([(await _timed(service, path))[1] for path in paths])


def _memory() -> Iterator[Figure]:
    """Each role's, at ten looks after a tenth of all commands and at ten before the last."""
    with folder() as where:
        samples = uvloop.run(_all(_serve_memory(where)))
    for role in ROLES:
        its = [megabytes for name, megabytes in samples if name == role]
        for who, part in (("100,000", its[len(its) // 10 :]), (OURS, its[-10:])):
            for megabytes in part[:10]:
                yield f"memory {role}", who, megabytes


async def _serve_memory(where: Path) -> AsyncIterator[tuple[str, float]]:
    people = (Person("Zoë", "Müller-Lüdenscheidt", f"person{number}@example.com") for number in itertools.count())
    async with Ours(where) as service:
        traffic = await _warm(service, people)
        for _ in range(100):
            await traffic.sustained(COMMANDS // 100)
            for role, word in ROLES.items():
                yield role, service.role(word).memory_info().rss / 1e6


async def _warm(service: Ours, people: Iterator[Person] | list[Person]) -> Traffic:
    await service.ready()
    traffic = Traffic(service, people)
    await traffic.warm_up()
    return traffic


async def _all(figures: AsyncIterator[T]) -> list[T]:
    return [figure async for figure in figures]
