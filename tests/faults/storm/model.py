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
    """The log's sum: users, who held which key when, and where two held one."""

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


def fold(evidence: Evidence) -> Fold:
    """Times are those at which the commands were handled: what was rejected in the same transaction bears the same."""
    seqs = {row.command_id: row.seq for row in evidence.inbox}
    sums = Fold()
    for event in evidence.events:
        data = json.loads(event.data)
        day = sums.days.setdefault(event.recorded_at[:10], {"day": event.recorded_at[:10], "users": 0, "changes": 0})
        day["users" if event.type == "UserCreated" else "changes"] += 1
        outcome = evidence.outcomes.get(seqs.get(event.command_id, 0))
        when = outcome.handled_at if outcome else event.recorded_at
        before = sums.users.get(data["user_id"], {"user_id": data["user_id"]})
        change = {"email": data.pop("new_email")} if event.type == "UserEmailUpdated" else data
        change |= {"active": event.type != "UserDeactivated"}  # an inactive user has no other event but that it is back
        after = sums.users[data["user_id"]] = {**before, **change, "version": event.version}
        old, new = key_of(before.get("email")), key_of(after["email"])
        if old == new:
            continue
        if old and sums.holders.get(old) == event.stream:
            del sums.holders[old]
            sums.holdings[old][-1] = sums.holdings[old][-1]._replace(until=when)
        if new in sums.holders:
            sums.conflicts.append(event)
        sums.holders[new] = event.stream
        sums.holdings[new].append(Holding(event.stream, when, ""))
    return sums


def key_of(email: str | None) -> str:
    """Of the storm's addresses, whose domain is always the same one."""
    folded = unicodedata.normalize("NFD", email or "").casefold()
    return unicodedata.normalize("NFC", folded)


MARKS = {"DeactivateUser": "UserDeactivated", "ReactivateUser": "UserReactivated"}


def due(row: Row, version: int, email: str, active: bool) -> str | list[tuple[str, str, Any]]:
    """The rules once more: a rejection, or events; whether an address is free, is another question."""
    data = json.loads(row.data)
    if row.expected_version not in {None, version}:
        return "version-conflict"
    if row.type == "CreateUser":
        return [(row.stream, "UserCreated", data)]
    if not version:
        return "user-not-found"
    if row.type in MARKS:
        return [(row.stream, MARKS[row.type], data)] if active == (row.type == "DeactivateUser") else []
    if not active:
        return "user-deactivated"
    moved = row.stream, "UserEmailUpdated", {"user_id": data["user_id"], "new_email": data["email"]}
    return [] if data["email"] == email else [moved]


def held_by_another(sums: Fold, row: Row, outcome: Row) -> bool:
    """Whether another stream held the command's address at some time between its acceptance and its end."""
    return any(
        holding.stream != row.stream
        and holding.since <= outcome.handled_at
        and row.accepted_at <= (holding.until or outcome.handled_at)
        for holding in sums.holdings.get(key_of(json.loads(row.data).get("email")), ())
    )
