"""A contestant as one thing to measure: its processes on a folder and a port of its own, started, watched, stopped."""

import asyncio
import math
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import psutil

from benchmarks.load.connections import Connections, Wrong

DISK = "/var/tmp"
"""Not /tmp, which is memory on many systems: a durable write costs nothing there."""

START_WITHIN = STOP_WITHIN = 30.0
"""Seconds."""

ROOT = Path(__file__).parents[2]

P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """The processes of a contestant; a subclass says which, and how to tell what is visible."""

    name: str
    host = "127.0.0.1"
    ready_at = "/users/1"
    """A path that is answered once it is up; 404 will do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(self.host)
        self.ports = [self.port]
        self.connections = Connections(self.host, self.port)
        self._log = folder / "log"
        self._processes: list[psutil.Popen] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CQRS_")}
        self._environment = inherited | {"PYTHONPATH": str(ROOT)} | dict(self.environment())
        self.started = time.perf_counter()
        for command in self.commands():
            self._start(command)

    def commands(self) -> Sequence[Sequence[str]]:
        """The processes to start."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """The variables that they have besides this process's."""
        return {"DATABASE_URL": f"sqlite:///{self.folder / 'naive.db'}"}

    async def visible(self, commands: int) -> float:
        """Wait until so many commands in all are visible, and tell when, by `time.perf_counter`.

        What is answered is visible, unless a contestant knows better.
        """
        return time.perf_counter()

    async def __aenter__(self) -> Self:
        """Wait until it answers."""
        try:
            await self._answering()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connections.__aexit__()
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """All that run, children included."""
        running = [process for process in self._processes if process.poll() is None]
        return [each for process in running for each in (process, *process.children(recursive=True))]

    def cpu(self) -> float:
        """Seconds, of all its processes."""
        times = [process.cpu_times() for process in self.processes()]
        return math.fsum(each.user + each.system for each in times)

    def memory(self) -> float:
        """MB. What processes share counts for each of them."""
        return math.fsum(process.memory_info().rss / 1e6 for process in self.processes())

    def stop(self) -> float:
        """Stop it, and tell the seconds that takes. Raises Wrong if a process has to be killed."""
        processes = self.processes()
        began = time.perf_counter()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        _, left = psutil.wait_procs(processes, timeout=STOP_WITHIN)
        for process in left:
            process.kill()
        if left:
            raise Wrong(f"{STOP_WITHIN:.0f} s after SIGTERM there were still {left}")
        return time.perf_counter() - began

    async def _answering(self) -> None:
        while all(process.poll() is None for process in self._processes):
            with suppress(OSError):
                if (await self.connections.request("GET", self.ready_at)).status in (200, 404):
                    return
            if time.perf_counter() > self.started + START_WITHIN:
                break
            await asyncio.sleep(0.02)
        raise Wrong(f"{self.name} does not start. Its log ends:\n{self._log.read_text()[-2000:]}")

    def _start(self, command: Sequence[str]) -> None:
        with self._log.open("ab") as log:
            started = psutil.Popen(command, cwd=self.folder, env=self._environment, stdout=log, stderr=log)
        self._processes.append(started)


def uvicorn(app: str, port: int) -> list[str]:
    """The command that serves an app of this folder as the service itself is served."""
    app = f"benchmarks.contestants.{app}"
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning"]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on disk, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="cqrs-bench-", dir=DISK) as path:
        yield Path(path)


def alone(task: Callable[Concatenate[Path, P], T], *args: P.args, **more: P.kwargs) -> T:
    """What the task returns, done in a process of its own, on a folder of its own."""
    with folder() as where, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(task, where, *args, **more).result()


def free_port(host: str) -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
