"""Many people's way through the service, on many connections at once: from POST to visible."""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.load import Connections, Reply, each
from benchmarks.people import Person

SAMPLE = 20
"""One request in so many is answered only when its effect is visible."""

WAIT = {"Prefer": "wait=30"}

VISIBLE_WITHIN = 60.0
"""Seconds after the last answer."""

Json = dict[str, Any]


class Wrong(Exception):
    """The service didn't do what it promises."""


class Run:
    """Creates people and changes their addresses; remembers what came of it."""

    def __init__(
        self, connections: Connections, people: Sequence[Person], *, at_once: int, sample: int = SAMPLE
    ) -> None:
        self.connections = connections
        self.at_once = at_once
        self.total = sum(1 + len(person.later_emails) for person in people)
        self.started = asyncio.Event()
        self.accepted = 0
        self.commands: list[str] = []
        self.users: dict[int, Json] = {}
        self.to_visible: list[float] = []
        self.visible = False
        self.seconds = self.client_cpu = 0.0
        self._people = people
        self._sample = sample
        self._start = 0
        self._numbers = itertools.count()

    async def go(self) -> None:
        """Ends when the log has grown by `total` and all of it is projected: each command appends one event."""
        self._start = await self._projected("position") + await self._projected("lag")
        self.started.set()
        began, cpu = time.perf_counter(), time.process_time()
        await each(self._people, self._send, at_once=self.at_once)
        self.visible = await self._reaches(self._start + self.total)
        self.seconds, self.client_cpu = time.perf_counter() - began, time.process_time() - cpu

    async def count_visible(self) -> int:
        return await self._projected("position") - self._start

    async def _send(self, person: Person) -> None:
        name = {"first_name": person.first_name, "last_name": person.last_name}
        user_id = await self._command("POST", "/users/", {**name, "email": person.email})
        for email in person.later_emails:
            await self._command("PUT", f"/users/{user_id}", {"email": email})
        emails = [person.email, *person.later_emails]
        self.users[user_id] = {"user_id": user_id, **name, "email": emails[-1], "version": len(emails)}

    async def _command(self, method: str, path: str, body: Mapping[str, str]) -> int:
        waits = next(self._numbers) % self._sample == 0
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

    async def _reaches(self, position: int) -> bool:
        deadline = time.monotonic() + VISIBLE_WITHIN
        while (await self.connections.request("GET", f"/users/?limit=1&min_position={position}")).status != 200:
            if time.monotonic() > deadline:
                return False
        return True

    async def _projected(self, what: str) -> int:
        readiness = expect(await self.connections.request("GET", "/readyz"), 200, to="GET /readyz")
        return int(readiness["projections"]["users"][what])


def expect(reply: Reply, *statuses: int, to: str) -> Any:
    """The answer, decoded. Raises Wrong if its status is another."""
    if reply.status not in statuses:
        raise Wrong(f"{to} was answered {reply.status} {reply.body.decode()}")
    return json.loads(reply.body)


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The p50 and the p99, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[len(ordered) * 99 // 100]
