"""The traffic that is sent to a contestant over HTTP, and how long it takes."""

import asyncio
import gc
import itertools
import json
import secrets
import time
from collections.abc import Awaitable, Iterable, Iterator

from benchmarks.contestants.service import Service
from benchmarks.load.connections import Reply, Wrong, each, pour
from benchmarks.load.journey import VISIBLE_WITHIN, WAIT
from benchmarks.load.people import Person

AT_ONCE, READERS = 64, 32
"""Connections."""

WARM = 200
"""Users made before anything is timed. Changes go to them."""

POLL = 0.001
"""Seconds between two looks for a user."""

PAUSE = 0.02
"""Seconds before each command that is looked for: people make pauses."""

SAMPLE = 10
"""At a steady rate, one request in so many waits until it is visible."""

Request = tuple[str, str, bytes]


class Traffic:
    """Sends people to one service, and changes the addresses of the first of them. `people` must be enough."""

    def __init__(self, service: Service, people: Iterable[Person]) -> None:
        self.service = service
        self.sent = 0
        self.users: list[str] = []
        mark = secrets.token_hex(4)
        self._creates = (_request("POST", "/users/", person.body()) for person in people)
        self._changes = (
            _request("PUT", f"/users/{self.users[n % WARM]}", {"email": f"moved{n}.{mark}@example.com"})
            for n in itertools.count()
        )

    async def warm_up(self) -> None:
        """Create the users to whom changes go."""

        async def create(request: Request) -> None:
            self.users.append(_user_id(await self._send(request)))

        await each(itertools.islice(self._creates, WARM), create, at_once=READERS)
        await self.service.visible(self.sent)

    async def sustained(self, count: int, *, at_once: int = AT_ONCE) -> tuple[float, float]:
        """Commands a second from the first POST until all is visible, and this client's share of a core."""
        requests = [self._encode(*request) for request in self._mixed(count)]
        began, cpu = time.perf_counter(), time.process_time()
        await self._pour(requests, at_once)
        share = (time.process_time() - cpu) / (time.perf_counter() - began)
        self.sent += count
        return count / (await self.service.visible(self.sent) - began), share

    async def waiting(self, count: int) -> list[float]:
        """Seconds that each takes, one after the other, answered once it is visible."""
        return [await _timed(self._send(request, WAIT)) for request in itertools.islice(self._creates, count)]

    async def polling(self, count: int) -> list[float]:
        """The same, but each is answered at once and then looked for, and after each there is a pause."""
        took = []
        for _ in range(count):
            await asyncio.sleep(PAUSE)
            took.append(await _timed(self._post_until_shown()))
        return took

    async def post(self) -> str:
        """Create a user; returns its path."""
        return f"/users/{_user_id(await self._send(next(self._creates)))}"

    async def until_shown(self, path: str) -> None:
        """Look for the user again and again until it is shown."""
        async with asyncio.timeout(VISIBLE_WITHIN):
            while (await self.service.connections.request("GET", path)).status != 200:
                await asyncio.sleep(POLL)

    async def steady(self, rate: float, seconds: float) -> list[float]:
        """So many commands a second, whatever the answers. Returns the seconds from when each was due until visible."""
        took: list[float] = []

        async def send(request: Request, due: float, *, wait: bool) -> None:
            await self._send(request, WAIT if wait else None)
            if wait:
                took.append(time.perf_counter() - due)

        requests = self._mixed(int(rate * seconds))
        gc.freeze()  # going through all of these would be a pause of this client, not of the service
        tasks, began = [], time.perf_counter()
        for number, request in enumerate(requests):
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.append(asyncio.create_task(send(request, due, wait=number % SAMPLE == 0)))
        await asyncio.gather(*tasks)
        return took

    async def reads(self, seconds: float) -> float:
        """Users shown a second."""
        shown, end = 0, time.perf_counter() + seconds
        requests = itertools.cycle([self._encode("GET", f"/users/{user_id}") for user_id in self.users])

        def until_the_end() -> Iterator[bytes]:
            nonlocal shown
            while time.perf_counter() < end:
                yield next(requests)
                shown += 1

        await self._pour(until_the_end(), READERS)
        return shown / seconds

    def _encode(self, method: str, path: str, body: bytes | None = None) -> bytes:
        return self.service.connections.encode(method, path, body, {})

    async def _pour(self, requests: Iterable[bytes], at_once: int) -> None:
        host, ports, remaining = self.service.host, self.service.ports, iter(requests)
        await asyncio.gather(*(pour(host, port, remaining, at_once=at_once // len(ports)) for port in ports))

    def _mixed(self, count: int) -> list[Request]:
        """Two creates, a change, and so on."""
        return [next(self._changes if number % 3 == 2 else self._creates) for number in range(count)]

    async def _send(self, request: Request, headers: dict[str, str] | None = None) -> Reply:
        reply = await self.service.connections.request(*request, headers)
        if reply.status not in (200, 201, 202) or (headers and reply.status == 202):
            raise Wrong(f"{self.service.name} answered {reply.status} to {request[:2]}: {reply.body.decode()}")
        self.sent += 1
        return reply

    async def _post_until_shown(self) -> None:
        await self.until_shown(await self.post())


async def _timed(what: Awaitable[object]) -> float:
    began = time.perf_counter()
    await what
    return time.perf_counter() - began


def _request(method: str, path: str, body: dict[str, str]) -> Request:
    return method, path, json.dumps(body, ensure_ascii=False).encode()


def _user_id(reply: Reply) -> str:
    return str(json.loads(reply.body)["user_id"])
