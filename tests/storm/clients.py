"""The traffic: clients that send one request after the other, and the ledger of what they saw."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import Connections, Reply

CLIENTS = 10

LONGEST_PAUSE = 0.08
"""Seconds a client thinks between two requests, at most."""

GIVE_UP = 90.0
"""Seconds without an answer after which a client calls that unexpected."""

RETRY_PAUSE = 0.05
BUSY_PAUSE = 0.25
"""Seconds before a request is sent again: after a lost connection, after a 503."""

WAIT = "wait=2"

OWN_USERS = 6
HOT_USERS = 3
HOT_UPDATES = 150
"""After so many updates a hot user is left for a new one: histories grow no longer than real ones."""

RECENT = 50


@dataclass
class Request:
    """A command as a client sent it, again and again with its key, and its answer. Times are monotonic seconds."""

    key: str
    method: str
    path: str
    body: Mapping[str, str]
    if_match: int | None
    wait: bool
    sent: float
    acknowledged: float | None = None
    tries: int = 0
    status: int = 0
    command_id: str | None = None
    user_id: int | None = None
    version: int | None = None
    problem: str | None = None

    @property
    def allowed(self) -> set[int]:
        """The statuses that the README's table has for it, but 503."""
        if not self.wait:
            return {202}
        if self.method == "POST":
            return {201, 202, 409}
        return {200, 202, 404, 409} | ({412} if self.if_match is not None else set())


@dataclass
class Ledger:
    """What clients saw: their commands, what `GET /commands/{id}` shows in the end, and answers out of place."""

    requests: list[Request] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    out_of_place: list[tuple[str, str]] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Request]:
        return [request for request in self.requests if request.acknowledged is not None]


@dataclass
class Own:
    """A user as its client believes it to be."""

    user_id: int
    email: str
    version: int = 1


@dataclass
class World:
    """What all clients share."""

    connections: Connections
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    hot: dict[int, int] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Client:
    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world
        self._ledger = world.ledger
        self._chance = random.Random(f"{name} of {world.seed}")
        self._own: list[Own] = []
        self._recent: list[Request] = []
        self._numbers = 0

    async def go(self) -> None:
        """Send one thing after the other until the storm is over."""
        while not self._world.over.is_set():
            await asyncio.sleep(self._chance.uniform(0, LONGEST_PAUSE))
            [act] = self._chance.choices(list(ACTS), list(ACTS.values()))
            await act(self)

    async def command(
        self, method: str, path: str, body: Mapping[str, str], *, if_match: int | None = None, wait: bool = False
    ) -> Request:
        request = Request(self._unique(), method, path, body, if_match, wait, sent=time.monotonic())
        self._ledger.requests.append(request)
        reply = await self._answer(request)
        if reply is None:
            return request
        if reply.status not in request.allowed:
            self._out_of_place(request, reply)
            return request
        if request.tries == 1 and "idempotency-replayed" in reply.headers:
            self._out_of_place(request, reply, "replayed at its first try")
        request.acknowledged = time.monotonic()
        _note(request, reply)
        self._recent = [*self._recent[1 - RECENT :], request]
        return request

    async def create(self) -> None:
        """A new user, or now and then one with an address that is likely to be taken."""
        taken = self._own and self._chance.random() < 0.15
        email = self._variant(self._chance.choice(self._own).email) if taken else self._address()
        request = await self._create(email)
        if request.user_id is not None and not taken:
            self._own = [*self._own[1 - OWN_USERS :], Own(request.user_id, email)]

    async def update(self) -> None:
        if not self._own:
            return await self.create()
        own = self._chance.choice(self._own)
        await self._move(own, own.email if self._chance.random() < 0.1 else self._address())
        return None

    async def update_if_match(self) -> None:
        """At the version that the client believes in, or at the one before."""
        if not self._own:
            return await self.create()
        own = self._chance.choice(self._own)
        version = own.version if self._chance.random() < 0.7 else own.version - 1
        await self._move(own, self._address(), if_match=version)
        return None

    async def update_hot(self) -> None:
        """A user that all clients change at the same time, now and then to an address of a few."""
        hot = self._world.hot
        if len(hot) < HOT_USERS:
            request = await self._create(self._address())
            if request.user_id is not None:
                hot[request.user_id] = 0
            return
        user_id = self._chance.choice(list(hot))
        hot[user_id] += 1
        few = self._chance.random() < 0.3
        email = self._variant(f"hot{self._chance.randrange(4)}@example.com") if few else self._address()
        match = self._chance.randrange(1, HOT_UPDATES) if self._chance.random() < 0.1 else None
        await self._put(user_id, email, if_match=match)
        if hot.get(user_id, 0) >= HOT_UPDATES:
            del hot[user_id]

    async def swap(self) -> None:
        """Two users exchange their addresses over a third."""
        if len(self._own) < 2:
            return await self.create()
        one, other = self._chance.sample(self._own, 2)
        first, second = one.email, other.email
        await self._move(one, self._address())
        await self._move(other, first)
        await self._move(one, second)
        return None

    async def race(self) -> None:
        """Several for one address at the same time, each in its own spelling."""
        address = self._address("josé")
        racers: list[Awaitable[Request]] = [self._create(self._variant(address)) for _ in range(2)]
        racers += [self._put(own.user_id, self._variant(address)) for own in self._own[:2]]
        await asyncio.gather(*racers)

    async def send_again(self) -> None:
        """A request that was answered long ago, in every word."""
        if not (known := [request for request in self._recent if request.command_id]):
            return
        request = self._chance.choice(known)
        reply = await self._until_answered(request.method, request.path, request.body, _headers(request, wait=False))
        if reply is None:
            return
        if reply.status != 202 or "idempotency-replayed" not in reply.headers:
            self._out_of_place(request, reply, "sent again")
        elif json.loads(reply.body)["command_id"] != request.command_id:
            self._ledger.out_of_place.append(
                ("duplicated", f"{request.key} is {request.command_id} and {reply.body!r}")
            )

    async def send_other(self) -> None:
        """Another request with a key that was used."""
        if not self._recent:
            return
        request = self._chance.choice(self._recent)
        body = {**request.body, "email": self._address()}
        reply = await self._until_answered(request.method, request.path, body, _headers(request, wait=False))
        if reply and (reply.status, _type(reply)) != (422, "idempotency-key-reused"):
            self._out_of_place(request, reply, "its key with another body")

    async def read(self) -> None:
        """What became of a command, and what the read model shows once it has reached it."""
        if not (known := [request for request in self._recent if request.command_id]):
            return
        path = f"/commands/{self._chance.choice(known).command_id}"
        reply = await self._until_answered("GET", path, None, {"Prefer": WAIT})
        if reply is None or (reply.status == 200 and json.loads(reply.body)["status"] in {"accepted", "rejected"}):
            return
        if reply.status != 200 or (command := json.loads(reply.body))["status"] != "succeeded":
            word = "lost" if reply.status == 404 else "unexpected"
            self._ledger.out_of_place.append((word, f"GET {path} is answered {reply.status} {reply.body!r}"))
            return
        path = f"/users/{command['user_id']}?min_position={command['position']}"
        reply = await self._until_answered("GET", path, None, {})
        if reply and (reply.status != 200 or json.loads(reply.body)["version"] < command["version"]):
            what = f"GET {path} is answered {reply.status} {reply.body!r} after {command}"
            self._ledger.out_of_place.append(("unexpected", what))

    async def update_nobody(self) -> None:
        await self._put(10**9 + self._chance.randrange(5), self._address())

    async def probe(self, *, within: float) -> bool:
        """Create a user and wait until it is visible. Tells if that came about within so many seconds."""
        body = {"first_name": "Probe", "last_name": self.name, "email": self._address()}
        request = Request(self._unique(), "POST", "/users/", body, None, wait=True, sent=time.monotonic())
        self._ledger.requests.append(request)
        while time.monotonic() < request.sent + within:
            reply = await self._answer(request)
            if reply and reply.status in {201, 202}:
                request.acknowledged = request.acknowledged or time.monotonic()
                _note(request, reply)
            if reply and reply.status != 202:
                if reply.status not in request.allowed:
                    self._out_of_place(request, reply)
                return reply.status == 201
        return False

    async def _create(self, email: str) -> Request:
        body = {"first_name": "Storm", "last_name": self.name, "email": email}
        return await self.command("POST", "/users/", body, wait=self._chance.random() < 0.2)

    async def _put(self, user_id: int, email: str, *, if_match: int | None = None) -> Request:
        wait = self._chance.random() < 0.1
        return await self.command("PUT", f"/users/{user_id}", {"email": email}, if_match=if_match, wait=wait)

    async def _move(self, own: Own, email: str, *, if_match: int | None = None) -> None:
        request = await self._put(own.user_id, email, if_match=if_match)
        if request.problem is None and if_match in {None, own.version}:
            own.version += email != own.email
            own.email = email

    async def _answer(self, request: Request) -> Reply | None:
        headers = _headers(request, wait=request.wait)

        def count() -> None:
            request.tries += 1

        return await self._until_answered(request.method, request.path, request.body, headers, count)

    async def _until_answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None,
        headers: Mapping[str, str],
        sending: Callable[[], None] = lambda: None,
    ) -> Reply | None:
        """Sent again on a lost connection and on 503, until there is another answer; None if that never comes."""
        encoded = None if body is None else json.dumps(body).encode()
        deadline, last = time.monotonic() + GIVE_UP, "nothing"
        while time.monotonic() < deadline:
            sending()
            try:
                reply = await self._world.connections.request(method, path, encoded, headers)
            except OSError as error:
                last = repr(error)
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if reply.status != 503:
                return reply
            last = f"503 {reply.body!r}"
            if "retry-after" not in reply.headers:
                self._ledger.out_of_place.append(("unexpected", f"{method} {path}: {last} has no Retry-After"))
            await asyncio.sleep(BUSY_PAUSE)
        what = f"{method} {path} had no answer within {GIVE_UP:.0f} s, at last {last}"
        self._ledger.out_of_place.append(("unexpected", what))
        return None

    def _out_of_place(self, request: Request, reply: Reply, why: str = "") -> None:
        what = f"{request.method} {request.path} {request.body} {why} is answered {reply.status} {reply.body!r}"
        self._ledger.out_of_place.append(("unexpected", what))

    def _unique(self) -> str:
        self._numbers += 1
        return f"{self.name}-{self._numbers}"

    def _address(self, word: str = "u") -> str:
        return f"{word}.{self._unique()}@example.com"

    def _variant(self, email: str) -> str:
        """The same address to the rules, however it is spelled."""
        return self._chance.choice([email, email.upper(), email.replace("é", "e\N{COMBINING ACUTE ACCENT}")])


ACTS: Mapping[Callable[[Client], Awaitable[None]], int] = {
    Client.create: 20,
    Client.update: 25,
    Client.update_hot: 15,
    Client.update_if_match: 10,
    Client.send_again: 8,
    Client.read: 8,
    Client.race: 6,
    Client.swap: 5,
    Client.send_other: 4,
    Client.update_nobody: 2,
}


def _headers(request: Request, *, wait: bool) -> dict[str, str]:
    headers = {"Idempotency-Key": request.key}
    if request.if_match is not None:
        headers["If-Match"] = f'"{request.if_match}"'
    return headers | ({"Prefer": WAIT} if wait else {})


def _note(request: Request, reply: Reply) -> None:
    """Keep of the answer what it says of the command: 202 names it, 200 and 201 show the user, others the problem."""
    answer = json.loads(reply.body)
    request.status = reply.status
    if reply.status == 202:
        request.command_id, request.user_id = answer["command_id"], answer["user_id"]
    elif reply.status in {200, 201}:
        request.user_id, request.version = answer["user_id"], answer["version"]
    else:
        request.command_id, request.problem = answer["instance"].removeprefix("/commands/"), _type(reply)


def _type(reply: Reply) -> str:
    name: str = json.loads(reply.body).get("type", "")
    return name.removeprefix("/problems/")
