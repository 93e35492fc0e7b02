"""The traffic: clients that send one request after the other, chosen by the seed."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.connections import Connections
from tests.faults.storm.ledger import WAIT, Ledger, Request, problem_of
from tests.faults.storm.sender import Sender

CLIENTS = 10

LONGEST_PAUSE = 0.08
"""Seconds a client thinks between two requests, at most."""

OWN_USERS, RECENT = 6, 50
"""How many users and requests a client remembers."""

HOT_USERS, HOT_UPDATES = 3, 150
"""Users that all clients change; each is left for a new one in time, as a long history slows everybody down."""


@dataclass
class World:
    """What all clients share. `erased`: users whose erasure was sent."""

    connections: Connections
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    hot: dict[int, int] = field(default_factory=dict)
    erased: list[int] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Own:
    """A user as its client believes it to be."""

    user_id: int
    email: str
    version: int = 1


class Client:
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._ledger = world.ledger
        self._sender = Sender(world.connections, world.ledger, name)
        self._chance = random.Random(f"{name} of {world.seed}")
        self._own: list[Own] = []
        self._recent: list[Request] = []

    async def go(self) -> None:
        """Send one thing after the other until the storm is over."""
        while not self._world.over.is_set():
            await asyncio.sleep(self._chance.uniform(0, LONGEST_PAUSE))
            [act] = self._chance.choices(list(ACTS), list(ACTS.values()))
            await act(self)

    async def create(self) -> None:
        """A new user, now and then one whose address is likely to be taken."""
        if self._own and self._chance.random() < 0.15:
            await self._create(self._spelled(self._chance.choice(self._own).email))
            return
        request = await self._create(email := self._address())
        if request.user_id is not None:
            self._own = [*self._own[1 - OWN_USERS :], Own(request.user_id, email)]

    async def update(self) -> None:
        for own in self._some(1):
            await self._move(own, own.email if self._chance.random() < 0.1 else self._address())

    async def update_if_match(self) -> None:
        """At the version that the client believes in, or at the one before, if there is one."""
        for own in self._some(1):
            version = max(1, own.version - (self._chance.random() < 0.3))
            await self._move(own, self._address(), if_match=version)

    async def update_hot(self) -> None:
        """A user that all clients change at the same time, now and then to one of a few addresses."""
        hot = self._world.hot
        if len(hot) < HOT_USERS:
            request = await self._create(self._address())
            hot |= {} if request.user_id is None else {request.user_id: 0}
            return
        user_id = self._chance.choice(list(hot))
        hot[user_id] += 1
        if hot[user_id] >= HOT_UPDATES:
            del hot[user_id]
        few = self._chance.random() < 0.3
        email = self._spelled(f"hot{self._chance.randrange(4)}@example.com") if few else self._address()
        guess = self._chance.randrange(1, HOT_UPDATES) if self._chance.random() < 0.1 else None
        await self._put(user_id, email, if_match=guess)

    async def swap(self) -> None:
        """Two users exchange their addresses over a third."""
        if len(both := self._some(2)) == 2:
            one, other = both
            first, second = one.email, other.email
            await self._move(one, self._address())
            await self._move(other, first)
            await self._move(one, second)

    async def leave(self) -> None:
        """A user leaves, is sent a change now and then, and mostly comes back."""
        for own in self._some(1):
            await self._mark("POST", own)
            if self._chance.random() < 0.5:
                await self._put(own.user_id, self._address())
            if self._chance.random() < 0.8:
                await self._mark("DELETE", own)

    async def erase(self) -> None:
        """A user is erased, also by two at once or with a change on its way; mostly another takes its address."""
        for own in self._some(1):
            self._own.remove(own)
            self._world.erased.append(own.user_id)
            match = own.version if self._chance.random() < 0.3 else None
            ways = [self._erase(own.user_id, if_match=match)]
            if self._chance.random() < 0.3:
                ways.append(self._erase(own.user_id))
            if self._chance.random() < 0.3:
                ways.append(self._put(own.user_id, self._address()))
            await asyncio.gather(*ways)
            if self._chance.random() < 0.5:
                await self._create(self._spelled(own.email))

    async def change_erased(self) -> None:
        """Any change of a user whose erasure was sent before."""
        if self._world.erased:
            user_id = self._chance.choice(self._world.erased)
            guess = self._chance.randrange(1, 5) if self._chance.random() < 0.2 else None
            match self._chance.randrange(3):
                case 0:
                    await self._put(user_id, self._address(), if_match=guess)
                case 1:
                    await self._erase(user_id, if_match=guess)
                case _:
                    await self._mark("POST", Own(user_id, ""))

    async def race(self) -> None:
        """Several for one address at the same time, each in a spelling of its own."""
        address = self._address("josé")
        racers = [self._create(self._spelled(address)) for _ in range(2)]
        racers += [self._put(own.user_id, self._spelled(address)) for own in self._some(2)]
        await asyncio.gather(*racers)

    async def update_nobody(self) -> None:
        await self._put(10**9 + self._chance.randrange(5), self._address())

    async def send_again(self) -> None:
        """A request that was answered before, in every word."""
        for request in self._answered():
            reply = await self._sender.ask(request.method, request.path, request.body, request.headers(wait=False))
            if reply and (reply.status != 202 or "idempotency-replayed" not in reply.headers):
                self._ledger.wrong(f"{request}, sent again, is answered {reply}")
            elif reply and json.loads(reply.body)["command_id"] != request.command_id:
                self._ledger.wrong(f"{request}, sent again, is answered {reply}", "duplicated")

    async def send_other(self) -> None:
        """Another request with a key that was used."""
        for request in self._answered():
            if not request.body:  # it goes by its method and path alone
                continue
            body = {**request.body, "email": self._address()}
            reply = await self._sender.ask(request.method, request.path, body, request.headers(wait=False))
            if reply and reply.status == 202 and request.user in self._world.erased:
                continue  # whether it was another, nobody can tell any more
            if reply and (reply.status, problem_of(reply)) != (422, "idempotency-key-reused"):
                self._ledger.wrong(f"{body} with the key of {request} is answered {reply}")

    async def read(self) -> None:
        """What became of a command, and what the read model shows once it has reached it."""
        for request in self._answered():
            reply = await self._sender.ask("GET", f"/commands/{request.command_id}", None, {"Prefer": WAIT})
            command: Any = json.loads(reply.body) if reply and reply.status == 200 else {"status": ""}
            if command["status"] == "succeeded":
                await self._read_user(command["user_id"], command["position"], command["version"], request.erases)
            elif reply and command["status"] not in {"accepted", "rejected"}:
                word = "lost" if reply.status == 404 else "unexpected"
                self._ledger.wrong(f"GET of {request} is answered {reply}", word)

    async def _read_user(self, user_id: int, position: int, version: int, erased: bool) -> None:
        reply = await self._sender.ask("GET", f"/users/{user_id}?min_position={position}", None, {})
        if reply and reply.status == 410 and user_id in self._world.erased:
            return
        if reply and erased:
            self._ledger.wrong(f"user {user_id}, erased at position {position}, is shown as {reply}", "readable")
        elif reply and (reply.status != 200 or json.loads(reply.body)["version"] < version):
            self._ledger.wrong(f"user {user_id}, at version {version} from position {position} on, is shown as {reply}")

    async def _create(self, email: str) -> Request:
        body = {"first_name": "Storm", "last_name": f"Doe {self._sender.unique()};", "email": email}
        return self._remember(await self._sender.command("POST", "/users/", body, wait=self._chance.random() < 0.2))

    async def _put(self, user_id: int, email: str, *, if_match: int | None = None) -> Request:
        path, wait = f"/users/{user_id}", self._chance.random() < 0.1
        return self._remember(await self._sender.command("PUT", path, {"email": email}, if_match=if_match, wait=wait))

    async def _move(self, own: Own, email: str, *, if_match: int | None = None) -> None:
        request = await self._put(own.user_id, email, if_match=if_match)
        if request.problem is None and if_match in {None, own.version}:
            own.version += email != own.email
            own.email = email

    async def _mark(self, method: str, own: Own) -> None:
        path, wait = f"/users/{own.user_id}/deactivation", self._chance.random() < 0.1
        self._remember(await self._sender.command(method, path, {}, wait=wait))
        own.version += 1

    async def _erase(self, user_id: int, *, if_match: int | None = None) -> Request:
        path, wait = f"/users/{user_id}", self._chance.random() < 0.3
        return self._remember(await self._sender.command("DELETE", path, {}, if_match=if_match, wait=wait))

    def _remember(self, request: Request) -> Request:
        self._recent = [*self._recent[1 - RECENT :], request]
        return request

    def _some(self, number: int) -> list[Own]:
        """Own users, fewer if there aren't so many."""
        return self._chance.sample(self._own, min(number, len(self._own)))

    def _answered(self) -> list[Request]:
        """One request whose command is known by name, if there is any."""
        known = [request for request in self._recent if request.command_id]
        return self._chance.sample(known, min(1, len(known)))

    def _address(self, word: str = "u") -> str:
        return f"{word}.{self._sender.unique()}@example.com"

    def _spelled(self, email: str) -> str:
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
    Client.leave: 5,
    Client.erase: 5,
    Client.change_erased: 3,
    Client.send_other: 4,
    Client.update_nobody: 2,
}
"""What clients do, and how often."""
