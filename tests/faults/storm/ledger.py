"""What clients saw: their commands with the answers, and what was out of place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.connections import Reply

WAIT = "wait=2"


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
        """The statuses that docs/reference/http.md has for it, but 503."""
        if not self.wait:
            return {202}
        if self.path == "/users/":
            return {201, 202, 409}
        return {200, 202, 404, 409, 410} | (set() if self.if_match is None else {412})

    @property
    def erases(self) -> bool:
        return self.method == "DELETE" and not self.path.endswith("/deactivation")

    @property
    def user(self) -> int | None:
        """The user that it is about, if its client knows the number."""
        _, _, number, *_ = self.path.split("/")
        return int(number) if number else self.user_id

    def headers(self, *, wait: bool) -> dict[str, str]:
        match = {} if self.if_match is None else {"If-Match": f'"{self.if_match}"'}
        return {"Idempotency-Key": self.key} | match | ({"Prefer": WAIT} if wait else {})

    def note(self, reply: Reply, when: float) -> None:
        """Of the answer: 202 names the command, 200 and 201 show the user, the others are the command's problem."""
        answer = json.loads(reply.body)
        self.acknowledged = self.acknowledged or when
        self.status = reply.status
        if reply.status == 202:
            self.command_id, self.user_id = answer["command_id"], answer["user_id"]
        elif reply.status in {200, 201}:
            self.user_id, self.version = answer["user_id"], answer["version"]
        else:
            self.command_id, self.problem = answer["instance"].removeprefix("/commands/"), problem_of(reply)


@dataclass
class Ledger:
    """All requests, what `GET /commands/{id}` shows in the end, and answers out of place with the verdict's word."""

    requests: list[Request] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    out_of_place: list[tuple[str, str]] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Request]:
        return [request for request in self.requests if request.acknowledged is not None]

    def wrong(self, what: str, word: str = "unexpected") -> None:
        self.out_of_place.append((word, what))


def problem_of(reply: Reply) -> str:
    name: str = json.loads(reply.body).get("type", "")
    return name.removeprefix("/problems/")
