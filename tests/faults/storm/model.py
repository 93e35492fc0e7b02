"""The rules and the read model once more, without the service's own code."""

import json
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.storm.evidence import Evidence, Row


class Holding(NamedTuple):
    """A stream held a key from one time to another, "" if it still does; both ends belong to it."""

    stream: str
    since: str
    until: str


@dataclass
class Fold:
    """The log's sum: users, who held which key when, and where two held one. `erasures`: when keys were destroyed."""

    erasures: dict[str, str]

    users: dict[int, dict[str, Any]] = field(default_factory=dict)
    days: dict[str, dict[str, Any]] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    holdings: dict[str, list[Holding]] = field(default_factory=lambda: defaultdict(list))
    conflicts: list[Row] = field(default_factory=list)

    @property
    def projected(self) -> dict[str, dict[Any, dict[str, Any]]]:
        """What each projection should show."""
        emails = {user_id: {**user, "key": key_of(user["email"])} for user_id, user in self.users.items()}
        return {"users": self.users, "emails": emails, "stats": self.days}

    def is_gone(self, stream: str, when: str) -> bool:
        """Whether the stream's person had no key any more: what was handled then had no values."""
        return stream in self.erasures and self.erasures[stream] <= when

    def leave(self, key: str, stream: str, when: str) -> None:
        """The stream holds the key no more, if it did."""
        if key and self.holders.get(key) == stream:
            del self.holders[key]
            self.holdings[key][-1] = self.holdings[key][-1]._replace(until=when)

    def take(self, key: str, event: Row, when: str) -> None:
        """The event's stream holds the key from then on."""
        if (holder := self.holders.get(key)) and self.is_gone(holder, when):
            self.leave(key, holder, when)
        if key in self.holders:
            self.conflicts.append(event)
        self.holders[key] = event.stream
        self.holdings[key].append(Holding(event.stream, when, ""))


def fold(evidence: Evidence) -> Fold:
    """Times are those at which the commands were handled: what was rejected in the same transaction bears the same."""
    seqs = {row.command_id: row.seq for row in evidence.inbox}
    sums = Fold(evidence.erasures)
    for event in evidence.events:
        data = json.loads(event.data)
        day = sums.days.setdefault(event.recorded_at[:10], {"day": event.recorded_at[:10], "users": 0, "changes": 0})
        day["users" if event.type == "UserCreated" else "changes"] += 1
        outcome = evidence.outcomes.get(seqs.get(event.command_id, 0))
        when = outcome.handled_at if outcome else event.recorded_at
        before = sums.users.get(data["user_id"], {"user_id": data["user_id"]})
        old = key_of(before.get("email"))
        if event.type == "UserErased":
            del sums.users[data["user_id"]]
            sums.leave(old, event.stream, when)
            continue
        change = {"email": data.pop("new_email")} if event.type == "UserEmailUpdated" else data
        change |= {"active": event.type != "UserDeactivated"}  # an inactive user has no other event but that it is back
        after = sums.users[data["user_id"]] = {**before, **change, "version": event.version}
        new = key_of(after["email"])
        if old == new:
            continue
        sums.leave(old, event.stream, when)
        if not sums.is_gone(event.stream, when):
            sums.take(new, event, when)
    return sums


def key_of(email: str | None) -> str:
    """Of the storm's addresses, whose domain is always the same one."""
    folded = unicodedata.normalize("NFD", email or "").casefold()
    return unicodedata.normalize("NFC", folded)


MARKS = {"DeactivateUser": "UserDeactivated", "ReactivateUser": "UserReactivated"}


class State(NamedTuple):
    """A user as its stream tells."""

    version: int = 0
    position: int = 0
    email: str = ""
    active: bool = True
    erased: bool = False


def due(row: Row, user: State, *, gone: bool) -> str | list[tuple[str, str, Any]]:
    """The rules once more: a rejection, or events; whether an address is free, is another question.

    `gone`: the person had no key any more, and so neither version nor address told anything.
    """
    data = json.loads(row.data)
    if row.expected_version not in {None, user.version} and not gone:
        return "version-conflict"
    if user.erased:
        return "user-erased"
    if row.type == "CreateUser":
        return [(row.stream, "UserCreated", data)]
    return _due_change(row, user, data, gone=gone) if user.version else "user-not-found"


def _due_change(row: Row, user: State, data: Any, *, gone: bool) -> str | list[tuple[str, str, Any]]:
    if row.type == "EraseUser":
        return [(row.stream, "UserErased", data)]
    if row.type in MARKS:
        return [(row.stream, MARKS[row.type], data)] if user.active == (row.type == "DeactivateUser") else []
    if not user.active:
        return "user-deactivated"
    moved = row.stream, "UserEmailUpdated", {"user_id": data["user_id"], "new_email": data["email"]}
    return [] if gone or data["email"] == user.email else [moved]


def held_by_another(sums: Fold, row: Row, outcome: Row) -> bool:
    """Whether another stream held the command's address at some time between its acceptance and its end."""
    return any(
        holding.stream != row.stream
        and holding.since <= outcome.handled_at
        and row.accepted_at <= (holding.until or outcome.handled_at)
        for holding in sums.holdings.get(key_of(json.loads(row.data).get("email")), ())
    )
