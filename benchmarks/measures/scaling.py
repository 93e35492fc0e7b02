"""What more processes give, on SQLite and on PostgreSQL: commands a second, and whose CPU they take."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path

import uvloop

from benchmarks.contestants.service import folder
from benchmarks.contestants.services import Scaled
from benchmarks.load.people import Person, invent
from benchmarks.load.traffic import Traffic
from benchmarks.measures import backlog
from benchmarks.measures.bounds import OURS, Bound, Figure, Figures, Measure, Say
from tests.support.postgresql import Postgres

ENGINES = "SQLite", "PostgreSQL"

WORKERS = 1, 2, 4
"""Command workers."""

APIS = 1, 2
"""API processes, among which the connections are shared."""

ROUNDS = 4

COMMANDS = 8_000
"""On 64 connections, for each number of API processes."""

BACKLOG = 20_000

ONE = "1 worker"
"""What more of them are compared with, in the same round."""


def key(engine: str, *what: str | int) -> str:
    """A measure's key, by what is measured.

    The numbers of API processes and workers: commands a second; with `CPU`, each role's seconds a thousand commands.
    `backlog` and the number of workers: commands a second; with `lock`, the share of the time the log is locked.
    `accepted` or `projected`: commands or events a second.
    """
    return " ".join(map(str, (engine, *what)))


def run(say: Say) -> Figures:
    """Measure everything. Raises Wrong."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    people = invent(len(APIS) * COMMANDS + 1_000)
    postgres = Postgres(durable=True)
    try:
        postgres.start()
        for number, engine in product(range(1, ROUNDS + 1), ENGINES):
            for measure, who, value in chain(_serve(engine, postgres, people), _handle(engine, postgres)):
                figures[measure][who].append(value)
                say(f"round {number} of {ROUNDS}: {measure}, {who}: {value:,.2f}")
    finally:
        postgres.remove()
    return figures


def _measures() -> Iterator[Measure]:
    for engine in ENGINES:
        for apis, workers in product(APIS, WORKERS):
            what = f"{engine}: {_count(apis, 'API process', 'es')}, {_count(workers, 'command worker', 's')}"
            yield Measure(key(engine, apis, workers), what, "/s", _bounds(workers))
        for workers in WORKERS:
            what = f"{engine}: {_count(workers, 'command worker', 's')} alone, a backlog of {BACKLOG:,}"
            yield Measure(key(engine, "backlog", workers), what, "/s", _bounds(workers))


def _serve(engine: str, postgres: Postgres, people: Sequence[Person]) -> Iterator[Figure]:
    alone: dict[int, float] = {}
    for workers in WORKERS:
        with folder() as where:
            for apis, rate, spent in uvloop.run(_at_full_load(where, workers, _stores(engine, postgres), people)):
                yield key(engine, apis, workers), OURS, rate
                if alone.setdefault(apis, rate) is not rate:
                    yield key(engine, apis, workers), ONE, alone[apis]
                for role, seconds in spent.items():
                    yield key(engine, apis, workers, "CPU"), role, seconds


def _handle(engine: str, postgres: Postgres) -> Iterator[Figure]:
    alone: float | None = None
    for workers in WORKERS:
        with folder() as where:
            done = backlog.handle(where, _stores(engine, postgres), BACKLOG, workers)
        yield key(engine, "backlog", workers), OURS, done.handled
        if alone:
            yield key(engine, "backlog", workers), ONE, alone
        alone = alone or done.handled
        yield key(engine, "backlog", workers, "lock"), OURS, done.locked
        if workers == 1:
            yield key(engine, "accepted"), OURS, done.accepted
            yield key(engine, "projected"), OURS, done.projected


async def _at_full_load(
    where: Path, workers: int, stores: Mapping[str, str], people: Sequence[Person]
) -> list[tuple[int, float, dict[str, float]]]:
    """By the number of API processes: commands a second, and by role the seconds of CPU a thousand of them take."""
    figures = []
    async with Scaled(where, stores, workers=workers, apis=max(APIS)) as service:
        await service.ready()
        traffic = Traffic(service, people)
        await traffic.warm_up()
        for apis in APIS:
            service.load(apis)
            before = service.cpu_by_role()
            rate, client = await traffic.sustained(COMMANDS)
            spent = {role: seconds - before[role] for role, seconds in service.cpu_by_role().items()}
            spent["client"] = client * COMMANDS / rate
            figures.append((apis, rate, {role: 1000 * seconds / COMMANDS for role, seconds in spent.items()}))
    return figures


def _stores(engine: str, postgres: Postgres) -> Mapping[str, str]:
    """Settings that say where the stores are; on PostgreSQL one database has all. None: files in the data dir."""
    return postgres.stores() if engine == "PostgreSQL" else {}


def _bounds(workers: int) -> tuple[Bound, ...]:
    return (Bound(0.9, over=ONE),) if workers > 1 else ()


def _count(number: int, what: str, plural: str) -> str:
    return f"{number} {what}{plural if number > 1 else ''}"


MEASURES = tuple(_measures())
