"""The service with as many processes as asked, on stores of either engine, and whose CPU is whose."""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.contestants.services import Ours
from benchmarks.service import free_port

ROLES = {
    "API": "api$",
    "command workers": "command-worker",
    "projection worker": "projection-worker",
    "PostgreSQL": "postgres",
    "Valkey": "valkey-server",
}
"""Words of their command lines."""

REST = "beat, supervisor"

QUIET = 0.1
"""The share of a core under which all that was started has come up."""

LOOK = 0.5
"""Seconds."""


class Scaled(Ours):
    """`cqrs up` has one API process; others listen beside it, each on a port of its own."""

    def __init__(self, folder: Path, urls: Mapping[str, str], *, workers: int, apis: int) -> None:
        self._urls = urls
        self._workers = workers
        super().__init__(folder)
        self._apis = [self.port, *(free_port(self.host) for _ in range(apis - 1))]

    def commands(self) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-m", "cli", "up", "--command-workers", str(self._workers)]]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **{f"CQRS_{name.upper()}": url for name, url in self._urls.items()}}

    async def ready(self) -> None:
        """All processes have come up."""
        await super().ready()
        for port in self._apis[1:]:
            self._start(["env", f"CQRS_API_PORT={port}", sys.executable, "-m", "api"])
        spent = self.cpu()
        while True:
            await asyncio.sleep(LOOK)
            before, spent = spent, self.cpu()
            if spent - before < QUIET * LOOK:
                return

    def load(self, apis: int) -> None:
        """Share the connections among so many API processes; the others are idle."""
        self.ports = self._apis[:apis]

    def cpu_by_role(self) -> dict[str, float]:
        """Seconds; those of the PostgreSQL server that this process runs are among them."""
        spent = dict.fromkeys([*ROLES, REST], 0.0)
        servers = [each for each in psutil.Process().children(recursive=True) if each.name() == "postgres"]
        for process in {*self.processes(), *servers}:
            times = process.cpu_times()
            spent[_role(process)] += times.user + times.system + times.children_user + times.children_system
        return spent


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    its = (role for role, word in ROLES.items() if any(re.search(f"(^|/){word}", each) for each in words))
    return next(its, REST)
