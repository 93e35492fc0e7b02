"""What more processes give, on SQLite and on PostgreSQL: commands a second, and whose CPU they take."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import uvloop

from benchmarks import backlog
from benchmarks.bounds import OURS, Bound, Measure
from benchmarks.people import Person, invent
from benchmarks.rounds import Figures, Say
from benchmarks.scaled import Scaled
from benchmarks.service import folder
from benchmarks.traffic import Traffic
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

STORES = "inbox_url", "event_store_url", "read_model_url"

ONE = "1 worker"
"""What more of them are compared with, in the same round."""

Figure = tuple[str, str, float]
"""The measure's key, ours or what it is compared with, and what was measured."""


def run(say: Say) -> Figures:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    people = invent(len(APIS) * COMMANDS + 1_000)
    postgres = Postgres(durable=True)
    try:
        postgres.start()
        for number in range(1, ROUNDS + 1):
            for engine in ENGINES:
                for key, who, value in chain(_serve(engine, postgres, people), _handle(engine, postgres)):
                    figures[key][who].append(value)
                    say(f"round {number} of {ROUNDS}: {key}, {who}: {value:,.2f}")
    finally:
        postgres.remove()
    return figures


def _measures() -> Iterator[Measure]:
    for engine in ENGINES:
        for apis in APIS:
            for workers in WORKERS:
                what = f"{engine}: {_count(apis, 'API process', 'es')}, {_count(workers, 'command worker', 's')}"
                yield Measure(sustained(engine, apis, workers), what, "/s", _bounds(workers))
        for workers in WORKERS:
            what = f"{engine}: {_count(workers, 'command worker', 's')} alone, a backlog of {BACKLOG:,}"
            yield Measure(handled(engine, workers), what, "/s", _bounds(workers))


def sustained(engine: str, apis: int, workers: int) -> str:
    return f"{engine} {apis} {workers}"


def cpu(engine: str, apis: int, workers: int) -> str:
    """Seconds a thousand commands, by role."""
    return f"{sustained(engine, apis, workers)} CPU"


def handled(engine: str, workers: int) -> str:
    return f"{engine} backlog {workers}"


def locked(engine: str, workers: int) -> str:
    """The share of that time for which the log's lock is held."""
    return f"{handled(engine, workers)} lock"


def accepted(engine: str) -> str:
    """By the inbox, a second."""
    return f"{engine} accepted"


def projected(engine: str) -> str:
    """To the users, a second."""
    return f"{engine} projected"


def _serve(engine: str, postgres: Postgres, people: Sequence[Person]) -> Iterator[Figure]:
    alone: dict[int, float] = {}
    for workers in WORKERS:
        with folder() as where:
            for apis, rate, spent in uvloop.run(_at_full_load(where, workers, _urls(engine, postgres), people)):
                yield sustained(engine, apis, workers), OURS, rate
                if alone.setdefault(apis, rate) is not rate:
                    yield sustained(engine, apis, workers), ONE, alone[apis]
                for role, seconds in spent.items():
                    yield cpu(engine, apis, workers), role, seconds


def _handle(engine: str, postgres: Postgres) -> Iterator[Figure]:
    alone: float | None = None
    for workers in WORKERS:
        with folder() as where:
            done = backlog.handle(where, _urls(engine, postgres), BACKLOG, workers)
        yield handled(engine, workers), OURS, done.handled
        if alone:
            yield handled(engine, workers), ONE, alone
        alone = alone or done.handled
        yield locked(engine, workers), OURS, done.locked
        if workers == 1:
            yield accepted(engine), OURS, done.accepted
            yield projected(engine), OURS, done.projected


async def _at_full_load(
    where: Path, workers: int, urls: Mapping[str, str], people: Sequence[Person]
) -> list[tuple[int, float, dict[str, float]]]:
    """By the number of API processes: commands a second, and by role the seconds of CPU a thousand of them take."""
    figures = []
    async with Scaled(where, urls, workers=workers, apis=max(APIS)) as service:
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


def _urls(engine: str, postgres: Postgres) -> Mapping[str, str]:
    """Of the stores; on PostgreSQL one database has all three. None: files in the data dir."""
    return dict.fromkeys(STORES, postgres.database()) if engine == "PostgreSQL" else {}


def _bounds(workers: int) -> tuple[Bound, ...]:
    return (Bound(0.9, over=ONE),) if workers > 1 else ()


def _count(number: int, what: str, plural: str) -> str:
    return f"{number} {what}{plural if number > 1 else ''}"


MEASURES = tuple(_measures())
