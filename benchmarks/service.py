"""The service as one thing to measure: `cqrs up` on a data dir and a port of its own."""

import asyncio
import math
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.journey import Wrong, expect
from benchmarks.load import Connections

DISK = "/var/tmp"
"""Not /tmp, which is memory on many systems: a durable write costs nothing there."""

START_WITHIN = STOP_WITHIN = 30.0
"""Seconds."""


class Service:
    host = "127.0.0.1"

    def __init__(self, folder: str) -> None:
        self.port = _free_port(self.host)
        self.started = time.perf_counter()
        self._log = Path(folder, "log")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CQRS_")}
        own = {"CQRS_DATA_DIR": folder, "CQRS_API_HOST": self.host, "CQRS_API_PORT": str(self.port)}
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "cli", "up"]
            self._up = psutil.Popen(command, cwd=folder, env=inherited | own, stdout=log, stderr=log)

    async def ready(self, connections: Connections) -> None:
        while self._up.poll() is None and time.perf_counter() < self.started + START_WITHIN:
            with suppress(OSError):
                reply = await connections.request("GET", "/readyz")
                if expect(reply, 200, 503, to="GET /readyz")["status"] == "ready":
                    return
            await asyncio.sleep(0.02)
        raise Wrong(f"it does not start. Its log ends:\n{self._log.read_text()[-2000:]}")

    def processes(self) -> list[psutil.Process]:
        return [self._up, *self._up.children(recursive=True)] if self._up.poll() is None else []

    def cpu(self) -> float:
        """Seconds, of all its processes."""
        times = [process.cpu_times() for process in self.processes()]
        return math.fsum(each.user + each.system for each in times)

    def memory(self) -> float:
        """MB. What processes share counts for each of them."""
        return math.fsum(process.memory_info().rss / 1e6 for process in self.processes())

    def stop(self) -> float:
        """The seconds it takes. Raises Wrong if a process has to be killed."""
        processes = self.processes()
        began = time.perf_counter()
        if processes:
            self._up.terminate()
        _, left = psutil.wait_procs(processes, timeout=STOP_WITHIN)
        for process in left:
            process.kill()
        if left:
            raise Wrong(f"{STOP_WITHIN:.0f} s after SIGTERM there were still {left}")
        return time.perf_counter() - began


@contextmanager
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="cqrs-bench-", dir=DISK) as folder:
        running = Service(folder)
        try:
            yield running
        finally:
            running.stop()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
