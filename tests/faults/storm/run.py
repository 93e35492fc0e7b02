"""A storm from start to verdict: the service, its clients, the faults one after another, and the quiet at the end."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import psutil
from sqlalchemy.exc import DBAPIError

from benchmarks.load.connections import Connections, each
from shared.settings import Settings
from tests.faults.storm import evidence, traces
from tests.faults.storm.clients import CLIENTS, Client, World
from tests.faults.storm.evidence import Progress
from tests.faults.storm.faults import COMMAND_WORKERS, Fault, strike, victims
from tests.faults.storm.judge import count, judge
from tests.faults.storm.ledger import Ledger
from tests.faults.storm.sender import Sender
from tests.faults.storm.verdict import Recovery, Verdict
from tests.support.postgresql import Postgres
from tests.support.service import Service, environment

AFTERMATH = 300
"""Commands acknowledged after the last fault, before the clients stop."""

PROBE_WITHIN = 30.0
QUIET_WITHIN = 60.0
"""Seconds after which a command is given up that should be visible; and quiet, that should have come."""


@dataclass
class Storm:
    """What is going on, for those who watch."""

    settings: Settings
    seed: int
    faults: Sequence[Fault] = ()
    seconds: float = 0
    server: Postgres | None = None
    struck: list[Fault] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def go(self) -> Verdict:
        """No fault is begun after so many `seconds`."""
        async with _service(self.settings) as service:
            await self.weathered("127.0.0.1", service.port, partial(self._strike_all, service))
        return self.verdict()

    async def weathered(self, host: str, port: int, trouble: Callable[[Sender], Awaitable[None]]) -> None:
        """Have clients go on while there is trouble, and until all that they sent is done."""
        async with Connections(host, port) as connections:
            world = World(connections, self.seed, self.ledger)
            async with _clients(world):
                await trouble(Sender(connections, self.ledger, "probe"))
                enough = len(self.ledger.acknowledged) + AFTERMATH
                await self._until(lambda _: len(self.ledger.acknowledged) >= enough)
            await self._until(lambda progress: progress.quiet)
            await self._ask(connections)

    def verdict(self) -> Verdict:
        """What the service did, by what clients saw and by its stores, once nobody sends anything."""
        (self.settings.data_dir / traces.OURS).write_text(json.dumps(asdict(self.ledger), indent=1))
        findings = judge(self.ledger, evidence.read(self.settings))
        return Verdict(count(self.ledger, findings), findings, self.recoveries)

    async def progress(self) -> Progress | None:
        """None while a store is being recovered."""
        with contextlib.suppress(DBAPIError):
            return await asyncio.to_thread(evidence.progress, self.settings)
        return None

    async def _strike_all(self, service: Service, probes: Sender) -> None:
        deadline = time.monotonic() + self.seconds
        for fault in self.faults:
            await asyncio.sleep(fault.pause)
            processes = await asyncio.to_thread(victims, service, fault)
            if time.monotonic() > deadline:
                return None
            since, stood = time.monotonic(), False
            await asyncio.to_thread(strike, processes, fault, self.settings, self.server)
            self.struck.append(fault)
            if fault.kind == "freeze":
                stood = await self._thaw(fault, processes[0], probes)
                since = time.monotonic()
            if not await probe(probes, within=PROBE_WITHIN):
                return self.ledger.wrong(f"no command sent after {fault} came through: the storm ends")
            self.recoveries.append(Recovery(fault, time.monotonic() - since, stood))
        return None

    async def _thaw(self, fault: Fault, process: psutil.Process, probes: Sender) -> bool:
        """Resume the process when it is time. Tells if a command had to wait for that."""
        meanwhile = asyncio.create_task(probe(probes, within=fault.seconds))
        try:
            await asyncio.sleep(fault.seconds)
            return not meanwhile.done()
        finally:
            process.resume()
            meanwhile.cancel()

    async def _until(self, reached: Callable[[Progress], bool]) -> None:
        """Returns in any case after a minute: what hasn't come about by then, the judge finds."""
        deadline = time.monotonic() + QUIET_WITHIN
        while time.monotonic() < deadline:
            if (progress := await self.progress()) and reached(progress):
                return
            await asyncio.sleep(0.1)

    async def _ask(self, connections: Connections) -> None:
        """What becomes of each command that its client can name."""

        async def ask(command_id: str) -> None:
            reply = await connections.request("GET", f"/commands/{command_id}")
            self.ledger.shown[command_id] = json.loads(reply.body) if reply.status != 404 else None

        named = [request.command_id for request in self.ledger.acknowledged if request.command_id]
        await each(named, ask, at_once=8)


@contextlib.asynccontextmanager
async def _service(settings: Settings) -> AsyncIterator[Service]:
    arguments = "--command-workers", str(COMMAND_WORKERS)
    service = await asyncio.to_thread(Service, settings.data_dir, *arguments, **environment(settings))
    try:
        await asyncio.to_thread(service.ready)
        yield service
    finally:
        await asyncio.to_thread(service.stop)


@contextlib.asynccontextmanager
async def _clients(world: World) -> AsyncIterator[None]:
    """They go on meanwhile, and in the end each gets the answer that it waits for."""
    clients = [asyncio.create_task(Client(world, f"client{number}").go()) for number in range(1, CLIENTS + 1)]
    try:
        yield
        world.over.set()
        await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()


async def probe(sender: Sender, *, within: float) -> bool:
    """Create a user and wait until it is visible. Tells if that came about within so many seconds."""
    deadline = time.monotonic() + within
    body = {"first_name": "Probe", "last_name": f"Doe {sender.unique()};", "email": f"{sender.unique()}@example.com"}
    request = await sender.command("POST", "/users/", body, wait=True)
    while request.status == 202 and time.monotonic() < deadline:
        await sender.repeat(request)
    return request.status == 201
