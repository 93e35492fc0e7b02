"""What the service takes and gives on this machine: started for it, measured, checked, stopped."""

import asyncio
import math
import os
import platform
import signal
import sys
import time
from collections.abc import AsyncIterator
from itertools import cycle, takewhile
from typing import NamedTuple

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from benchmarks import checks
from benchmarks.journey import Run, Wrong, expect, percentiles
from benchmarks.load import Connections, each
from benchmarks.people import invent
from benchmarks.service import Service, service

IDLE = 10.0
READING = 5.0
"""Seconds."""

console = Console(highlight=False, soft_wrap=True)


class Figure(NamedTuple):
    what: str
    value: float
    unit: str
    bound: float = math.inf


async def figures(service: Service) -> AsyncIterator[Figure]:
    async with Connections(service.host, service.port) as connections:
        await service.ready(connections)
        yield Figure("start: until ready", time.perf_counter() - service.started, "s")
        await _create(connections, 1)
        yield Figure("start: until the first user is visible", time.perf_counter() - service.started, "s")
        await _create(connections, 50)
        p50, p99 = percentiles(await _create(connections, 300))
        yield Figure("POST to visible, one at a time: p50", p50, "ms", 15)
        yield Figure("POST to visible, one at a time: p99", p99, "ms", 60)
        yield Figure("idle: CPU of all processes", await _idle(service), "% of a core", 3)
        yield Figure("idle: memory of all processes, sum of RSS", service.memory(), "MB", 600)
        async for figure in _full_load(service, connections):
            yield figure
    yield Figure("stop: until no process is left", service.stop(), "s")


async def _create(connections: Connections, count: int) -> list[float]:
    """Create users, each when the one before is visible. Returns the seconds each took."""
    run = Run(connections, invent(count), at_once=1, sample=1)
    await run.go()
    return run.to_visible


async def _idle(service: Service) -> float:
    cpu = service.cpu()
    await asyncio.sleep(IDLE)
    return 100 * (service.cpu() - cpu) / IDLE


async def _full_load(service: Service, connections: Connections) -> AsyncIterator[Figure]:
    run = Run(connections, invent(10_000, changes=5_000), at_once=64)
    cpu = service.cpu()
    await run.go()
    cpu = service.cpu() - cpu
    p50, p99 = percentiles(run.to_visible)
    yield Figure("full load, 64 connections: commands a second", run.total / run.seconds, "/s")
    yield Figure("full load, 64 connections: CPU of all processes a command", 1000 * cpu / run.total, "ms")
    yield Figure("full load, 64 connections: POST to visible, p50", p50, "ms")
    yield Figure("full load, 64 connections: POST to visible, p99", p99, "ms")
    async for _ in checks.holding(run):
        pass
    yield Figure("GET /users/{id}, 32 connections", await _read(connections, list(run.users)), "/s")


async def _read(connections: Connections, user_ids: list[int]) -> float:
    shown = 0

    async def show(user_id: int) -> None:
        nonlocal shown
        expect(await connections.request("GET", f"/users/{user_id}"), 200, to=f"GET /users/{user_id}")
        shown += 1

    end = time.perf_counter() + READING
    await each(takewhile(lambda _: time.perf_counter() < end, cycle(user_ids)), show, at_once=32)
    return shown / READING


async def _report(service: Service) -> bool:
    """Print each figure as it comes. Returns whether all are within their bounds."""
    kept = True
    async for what, value, unit, bound in figures(service):
        within = value < bound
        kept = kept and within
        limit = "" if bound == math.inf else f"  [{'green' if within else 'red'}](bound: {bound:g})[/]"
        console.print(f"{what:<58} {value:>9,.1f} {unit}{limit}")
    return kept


def main() -> None:
    """Start the service on an empty data dir, measure it, check what it did, and stop it."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    console.print(f"{machine}; load average before: {os.getloadavg()[0]:.1f}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the service is stopped
    try:
        with service() as running:
            kept = uvloop.run(_report(running))
    except (OSError, Wrong) as error:
        console.print(f"[red]✗[/] {escape(str(error))}")
        kept = False
    raise typer.Exit(0 if kept else 1)


if __name__ == "__main__":
    typer.run(main)
