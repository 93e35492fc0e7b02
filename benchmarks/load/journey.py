"""Many people's way through the service, on many connections at once, from POST to visible, and checks of it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.connections import Connections, Reply, Wrong, each
from benchmarks.load.people import Person

WAIT = {"Prefer": "wait=30"}

VISIBLE_WITHIN = 60.0
"""Seconds after the last answer."""

Json = dict[str, Any]


@dataclass
class Run:
    """Creates people and changes their addresses, and remembers what came of it.

    One request in `sample` is answered only when its effect is visible.
    """

    connections: Connections
    people: Sequence[Person]
    at_once: int
    sample: int = 20
    accepted: int = 0
    commands: list[str] = field(default_factory=list)
    users: dict[int, Json] = field(default_factory=dict)
    to_visible: list[float] = field(default_factory=list)
    seconds: float = 0
    client_cpu: float = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.total = sum(1 + len(person.later_emails) for person in self.people)
        self._numbers = itertools.count()

    async def go(self) -> None:
        """Send everything, and wait until the log has grown by `total` and all is projected: one event a command."""
        self._start = log_end(await readiness(self.connections, 200))
        self.started.set()
        began, cpu = time.perf_counter(), time.process_time()
        await each(self.people, self._send, at_once=self.at_once)
        await until_visible(self.connections, self._start + self.total)
        self.seconds, self.client_cpu = time.perf_counter() - began, time.process_time() - cpu

    async def count_visible(self) -> int:
        """The commands of this run whose events are projected."""
        return int((await readiness(self.connections, 200))["projections"]["users"]["position"]) - self._start

    async def _send(self, person: Person) -> None:
        user_id = await self._command("POST", "/users/", person.body())
        for email in person.later_emails:
            await self._command("PUT", f"/users/{user_id}", {"email": email})
        emails = [person.email, *person.later_emails]
        self.users[user_id] = {"user_id": user_id, **person.body(), "email": emails[-1], "version": len(emails)}

    async def _command(self, method: str, path: str, body: Mapping[str, str]) -> int:
        waits = next(self._numbers) % self.sample == 0
        encoded = json.dumps(body, ensure_ascii=False).encode()
        sent = time.perf_counter()
        reply = await self.connections.request(method, path, encoded, WAIT if waits else None)
        seconds = time.perf_counter() - sent
        answer = expect(reply, *((200, 201) if waits else (202,)), to=f"{method} {path}{' and wait' if waits else ''}")
        if waits:
            self.to_visible.append(seconds)
        else:
            self.commands.append(reply.headers["location"])
        self.accepted += 1
        return int(answer["user_id"])


async def readiness(connections: Connections, *statuses: int) -> Json:
    """What /readyz says. Raises Wrong if its status is another."""
    found: Json = expect(await connections.request("GET", "/readyz"), *statuses, to="GET /readyz")
    return found


def log_end(ready: Json) -> int:
    """The position of the last event, from what /readyz says."""
    users = ready["projections"]["users"]
    return int(users["position"] + users["lag"])


async def until_visible(connections: Connections, position: int) -> None:
    """Wait until users are projected up to the position. Raises Wrong if that takes too long."""
    deadline = time.monotonic() + VISIBLE_WITHIN
    while (await connections.request("GET", f"/users/?limit=1&min_position={position}")).status != 200:
        if time.monotonic() > deadline:
            raise Wrong(f"not everything is visible {VISIBLE_WITHIN:.0f} s after the last answer")


def expect(reply: Reply, *statuses: int, to: str) -> Any:
    """The answer, decoded. Raises Wrong if its status is another."""
    if reply.status not in statuses:
        raise Wrong(f"{to} was answered {reply.status} {reply.body.decode()}")
    return json.loads(reply.body)


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The p50 and the p99, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[len(ordered) * 99 // 100]


async def holding(run: Run) -> AsyncIterator[tuple[str, str]]:
    """What holds, and how much was looked at, one by one. Raises Wrong at the first thing that doesn't hold."""
    yield "every command has its outcome", await _outcomes(run)
    yield "everything is visible", f"{run.total:,} commands"  # else the run has raised Wrong
    events = await _pages(run.connections, "/events/")
    yield "every stream's versions are dense", _dense(events)
    users = {user["user_id"]: user for user in await _pages(run.connections, "/users/")}
    yield "the read model is the fold of the events", _same(users, _fold(events), of="all")
    mine = {user_id: users[user_id] for user_id in run.users.keys() & users.keys()}
    yield "every user is as it was sent", _same(mine, run.users, of="this run's")


async def _outcomes(run: Run) -> str:
    async def succeeded(path: str) -> None:
        command = expect(await run.connections.request("GET", path), 200, to=f"GET {path}")
        if command["status"] != "succeeded":
            raise Wrong(f"{path} is {command['status']}: {command['problem']}")

    await each(run.commands, succeeded, at_once=run.at_once)
    return f"{len(run.commands):,} asked for and {len(run.to_visible):,} waited for: all succeeded"


def _dense(events: Iterable[Json]) -> str:
    versions: dict[str, int] = {}
    for event in events:
        stream, version = event["stream"], event["version"]
        if version != versions.get(stream, 0) + 1:
            raise Wrong(f"event {event['id']} is version {version} of {stream}, after {versions.get(stream, 0)}")
        versions[stream] = version
    return f"{sum(versions.values()):,} events in {len(versions):,} streams"


def _fold(events: Iterable[Json]) -> dict[int, Json]:
    users: dict[int, Json] = {}
    for event in events:
        data = event["data"]
        if event["type"] == "UserCreated":
            users[data["user_id"]] = {**data, "version": event["version"]}
        elif event["type"] == "UserEmailUpdated":
            users[data["user_id"]] |= {"email": data["new_email"], "version": event["version"]}
    return users


def _same(shown: Mapping[int, Json], expected: Mapping[int, Json], *, of: str) -> str:
    for user_id in sorted(shown.keys() | expected.keys()):
        if shown.get(user_id) != expected.get(user_id):
            raise Wrong(f"user {user_id} is shown as {shown.get(user_id)}, not as {expected.get(user_id)}")
    return f"{of} {len(expected):,} users"


async def _pages(connections: Connections, path: str) -> Sequence[Json]:
    items: list[Json] = []
    page = f"{path}?limit=1000"
    while page:
        reply = await connections.request("GET", page)
        items += expect(reply, 200, to=f"GET {page}")
        page = reply.headers.get("link", "").partition("<")[2].partition(">")[0]
    return items
