"""What the API promises, without I/O: tests/stores/test_histories.py holds the service against it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.stores import JOHN

BUG = "bug@example.com"
"""An address on which the rules raise."""


class Request(NamedTuple):
    """A new user, or with `user` a new address for that one; with `if_match` only if it is at this version.

    With `active` that user is deactivated, or reactivated, and there is no address.
    """

    user: int | None
    email: str | None
    if_match: int | None = None
    active: bool | None = None


@dataclass(eq=False)
class Command:
    """`problem` is a type and a status; `tries` counts how often the rules raised."""

    request: Request
    user: int
    status: str = "accepted"
    version: int | None = None
    position: int | None = None
    problem: tuple[str, int] | None = None
    tries: int = 0

    def end(self, status: str, type: str, code: int) -> None:
        self.status, self.problem = status, (type, code)


class Event(NamedTuple):
    command: Command
    version: int
    type: str
    data: dict[str, Any]


@dataclass
class Model:
    """`taken_up` counts the commands that workers have seen, `projected` the events that queries show."""

    commands: list[Command] = field(default_factory=list)
    keys: dict[str, Command] = field(default_factory=dict)
    set_aside: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    numbers: int = 0
    taken_up: int = 0
    projected: int = 0

    def accept(self, request: Request, key: str | None) -> Command | None:
        """A key that came before gets its first command again, or None if that was another request."""
        if key in self.keys:
            first = self.keys[key]
            return first if first.request == request else None
        self.numbers += request.user is None
        command = Command(request, request.user or self.numbers)
        self.commands.append(command)
        if key:
            self.keys[key] = command
        return command

    def handle(self, limit: int) -> None:
        """The next commands take effect in the order in which they came, except behind one that is set aside."""
        chunk = self.commands[self.taken_up :][:limit]
        self.taken_up += len(chunk)
        self._handle(chunk, stuck={command.user for command in self.set_aside})

    def retry(self) -> None:
        again, self.set_aside = self.set_aside, []
        self._handle(again, stuck=set())

    def catch_up(self, limit: int) -> None:
        self.projected = min(self.projected + limit, len(self.events))

    def visible(self, command: Command) -> bool:
        return command.status != "accepted" and (command.position or 0) <= self.projected

    def users(self, upto: int) -> dict[int, dict[str, Any]]:
        """The users by number, as the log up to that position leaves them."""
        users: dict[int, dict[str, Any]] = {}
        for command, version, _, data in self.events[:upto]:
            user = users.get(command.user, data)
            match command.request:
                case Request(active=None, email=email):
                    user = {**user, "email": email}
                case Request(active=False):
                    user = {**user, "active": False}
                case Request(active=True):
                    user = {name: value for name, value in user.items() if name != "active"}
            users[command.user] = {**user, "version": version}
        return users

    def _handle(self, commands: list[Command], stuck: set[int]) -> None:
        for command in commands:
            if command.user not in stuck:
                self._decide(command)
            if command.status == "accepted":
                stuck.add(command.user)
                self.set_aside.append(command)

    def _decide(self, command: Command) -> None:
        others = self.users(len(self.events))
        user = others.pop(command.user, None)
        version = user["version"] if user else 0
        number, email, if_match, active = command.request
        if if_match not in (None, version):
            command.end("rejected", "version-conflict", 412)
        elif email == BUG:
            command.tries += 1
            if command.tries == 3:
                command.end("failed", "command-failed", 500)
        elif number and not user:
            command.end("rejected", "user-not-found", 404)
        elif user and active is None and "active" in user:
            command.end("rejected", "user-deactivated", 409)
        elif email and email.casefold() in {other["email"].casefold() for other in others.values()}:
            command.end("rejected", "email-taken", 409)
        else:
            self._change(command, user)
            command.status, command.position = "succeeded", len(self.events)
            command.version = self.users(len(self.events))[command.user]["version"]

    def _change(self, command: Command, user: dict[str, Any] | None) -> None:
        data: dict[str, Any] = {"user_id": command.user}
        _, email, _, active = command.request
        if not user:
            self.events.append(Event(command, 1, "UserCreated", {**JOHN, **data, "email": email}))
        elif active is None and user["email"] != email:
            self.events.append(Event(command, user["version"] + 1, "UserEmailUpdated", {**data, "new_email": email}))
        elif active is not None and active == ("active" in user):
            type = "UserReactivated" if active else "UserDeactivated"
            self.events.append(Event(command, user["version"] + 1, type, data))
