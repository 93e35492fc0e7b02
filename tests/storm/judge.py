"""The verdict: what clients saw held against what the stores hold."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from tests.storm.clients import Ledger, Request
from tests.storm.evidence import Evidence, Fold, Row, fold, key_of

WORDS = ("lost", "duplicated", "reordered", "torn", "skipped", "unexpected")


class Finding(NamedTuple):
    """`key` is the Idempotency-Key of the command that it is about, if it is about one."""

    word: str
    what: str
    key: str | None = None


@dataclass
class Case:
    """All there is to judge by, and the ways through it."""

    ledger: Ledger
    stores: Evidence
    sums: Fold = field(init=False)
    row_of: dict[str, Row] = field(init=False)
    command: dict[str, Row] = field(init=False)
    events_of: dict[str, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = fold(self.stores)
        self.row_of = {row.idempotency_key: row for row in self.stores.inbox}
        self.command = {row.command_id: row for row in self.stores.inbox}
        self.events_of = defaultdict(list)
        for event in self.stores.events:
            self.events_of[event.command_id].append(event)

    def seq(self, event: Row) -> int:
        """0 if nobody gave the command."""
        return self.command[event.command_id].seq if event.command_id in self.command else 0


def judge(ledger: Ledger, stores: Evidence) -> list[Finding]:
    case = Case(ledger, stores)
    checks = (_answers, _inbox, _once, _in_order, _whole, _keys, _projected, _decisions)
    return [Finding(*each) for each in ledger.out_of_place] + list(chain.from_iterable(check(case) for check in checks))


def count(ledger: Ledger, findings: list[Finding]) -> dict[str, int]:
    """The verdict's words but recovery time, each with its number."""
    blamed = {finding.key for finding in findings}
    good = sum(request.key not in blamed for request in ledger.acknowledged)
    counts = Counter(finding.word for finding in findings)
    return {"acknowledged": len(ledger.acknowledged), "ok": good} | {word: counts[word] for word in WORDS}


def _answers(case: Case) -> Iterator[Finding]:
    """Each acknowledged command is in the inbox, has its outcome, and is as its client was told."""
    for request in case.ledger.acknowledged:
        if not (row := case.row_of.get(request.key)):
            yield Finding("lost", f"{request} is not in the inbox", request.key)
            continue
        if request.command_id not in {None, row.command_id}:
            yield Finding("duplicated", f"{request} is {row.command_id} in the inbox", request.key)
        if not _same(request, row):
            yield Finding("unexpected", f"{request} is another in the inbox: {row}", request.key)
        if not (outcome := case.stores.outcomes.get(row.seq)):
            yield Finding("lost", f"{row} has no outcome", request.key)
            continue
        if outcome.status == "failed":
            yield Finding("unexpected", f"{row} failed", request.key)
        if request.status in {200, 201} and (outcome.version or 1e9) > (request.version or 0):
            yield Finding("unexpected", f"{request} saw an older user than {outcome}", request.key)
        if request.problem and request.problem != outcome.problem:
            yield Finding("unexpected", f"{request} was told another end than {outcome}", request.key)
        if request.command_id in case.ledger.shown:
            yield from _shown(request, case.ledger.shown[request.command_id], outcome)


def _same(request: Request, row: Row) -> bool:
    number = int(row.stream.removeprefix("user-"))
    return (
        json.loads(row.data) == {**request.body, "user_id": number}
        and row.expected_version == request.if_match
        and request.path in {"/users/", f"/users/{number}"}
        and request.user_id in {None, number}
    )


def _shown(request: Request, shown: Mapping[str, Any] | None, outcome: Row) -> Iterator[Finding]:
    if shown is None:
        yield Finding("lost", f"GET /commands/{request.command_id} is answered 404", request.key)
    elif any(shown.get(name) != getattr(outcome, name) for name in ("status", "version", "position")):
        yield Finding("unexpected", f"{shown} is shown of {outcome}", request.key)


def _inbox(case: Case) -> Iterator[Finding]:
    """Every command in it was sent, with a key of its own, and none has gone from it."""
    keys = Counter(row.idempotency_key for row in case.stores.inbox)
    sent = {request.key for request in case.ledger.requests}
    for key, times in keys.items():
        if key not in sent or times > 1:
            yield Finding("duplicated", f"{times} in the inbox with the key {key}, which was sent {key in sent}", key)
    if (last := max((row.seq for row in case.stores.inbox), default=0)) != len(case.stores.inbox):
        yield Finding("lost", f"{len(case.stores.inbox)} commands in the inbox, the last is number {last}")


def _once(case: Case) -> Iterator[Finding]:
    """No command of this traffic has more than one event."""
    for command_id, events in case.events_of.items():
        if len(events) > 1 and command_id in case.command:
            yield Finding("duplicated", f"{command_id} has {events}", case.command[command_id].idempotency_key)


def _in_order(case: Case) -> Iterator[Finding]:
    """Within a stream: events in order of acceptance, acceptance in the order that a client could tell."""
    highest: dict[str, int] = defaultdict(int)
    for event in case.stores.events:
        if (seq := case.seq(event)) < highest[event.stream]:
            yield Finding("reordered", f"{event} stands behind one of {highest[event.stream]}")
        highest[event.stream] = max(highest[event.stream], seq)
    streams: dict[str, list[tuple[Request, int]]] = defaultdict(list)
    for request in case.ledger.acknowledged:
        if row := case.row_of.get(request.key):
            streams[row.stream].append((request, row.seq))
    for requests in streams.values():
        yield from _in_real_time(requests)


def _in_real_time(requests: list[tuple[Request, int]]) -> Iterator[Finding]:
    """What was acknowledged before another was first sent comes before it."""
    ends = sorted((request.acknowledged or 0.0, seq) for request, seq in requests)
    highest = passed = 0
    for request, seq in sorted(requests, key=lambda each: each[0].sent):
        while ends[passed][0] < request.sent:
            highest, passed = max(highest, ends[passed][1]), passed + 1
        if seq < highest:
            yield Finding("reordered", f"{request}, number {seq}, was sent after {highest} was answered", request.key)


def _whole(case: Case) -> Iterator[Finding]:
    """Events, outcomes and heads of streams tell the same."""
    heads: dict[str, int] = {}
    for position, event in enumerate(case.stores.events, 1):
        outcome = case.stores.outcomes.get(case.seq(event))
        if not outcome or outcome.status != "succeeded":
            yield Finding("torn", f"{event} belongs to {outcome}")
        elif (outcome.version, outcome.position) != (event.version, event.position):
            yield Finding("torn", f"{event} ends in {outcome}")
        if (event.position, event.version) != (position, heads.get(event.stream, 0) + 1):
            yield Finding("torn", f"{event} should be at {position} and {heads.get(event.stream, 0) + 1}")
        heads[event.stream] = event.version
    yield from _different("torn", "the head of stream", case.stores.streams, heads)
    for seq in case.stores.outcomes.keys() - {row.seq for row in case.stores.inbox}:
        yield Finding("torn", f"{case.stores.outcomes[seq]} belongs to no command")
    for seq in case.stores.outcomes.keys() & case.stores.aside:
        yield Finding("torn", f"{case.stores.outcomes[seq]} is set aside as well")


def _keys(case: Case) -> Iterator[Finding]:
    for event in case.sums.conflicts:
        yield Finding("unexpected", f"{event} takes an address that another held")
    yield from _different("torn", "the holder of", case.stores.keys, case.sums.holders)


def _projected(case: Case) -> Iterator[Finding]:
    yield from _different("skipped", "user", case.stores.users, case.sums.users)
    last = case.stores.events[-1].position if case.stores.events else 0
    if case.stores.checkpoint != last:
        yield Finding("skipped", f"the checkpoint is {case.stores.checkpoint}, the log ends at {last}")


def _different(word: str, what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> Iterator[Finding]:
    for key in found.keys() | expected.keys():
        if found.get(key) != expected.get(key):
            yield Finding(word, f"{what} {key} is {found.get(key)}, by the log it is {expected.get(key)}")


def _decisions(case: Case) -> Iterator[Finding]:
    """Each stream by itself: from the state that its earlier commands left, each came to the end that the rules say."""
    states: dict[str, tuple[int, str]] = defaultdict(lambda: (0, ""))
    for row in case.stores.inbox:
        if not (outcome := case.stores.outcomes.get(row.seq)):
            continue
        events = case.events_of.get(row.command_id, [])
        due = _due(row, *states[row.stream])
        found = outcome.problem or [(event.stream, event.type, json.loads(event.data)) for event in events]
        if outcome.problem == "email-taken" and due and isinstance(due, list):
            if not _held_by_another(case, row, outcome):
                yield Finding("unexpected", f"{row} was rejected, but nobody held the address", row.idempotency_key)
        elif found != due:
            word = "lost" if isinstance(due, list) and not found else "unexpected"
            yield Finding(word, f"{row} should come to {due}, its end is {outcome}, {events}", row.idempotency_key)
        for event in events:
            data = json.loads(event.data)
            states[row.stream] = event.version, data.get("new_email", data.get("email"))


def _due(row: Row, version: int, email: str) -> str | list[tuple[str, str, Any]]:
    """The rules once more: a rejection, or events; whether an address is free, is another question."""
    data = json.loads(row.data)
    if row.expected_version not in {None, version}:
        return "version-conflict"
    if row.type == "CreateUser":
        return [(row.stream, "UserCreated", data)]
    if not version:
        return "user-not-found"
    if data["email"] == email:
        return []
    return [(row.stream, "UserEmailUpdated", {"user_id": data["user_id"], "new_email": data["email"]})]


def _held_by_another(case: Case, row: Row, outcome: Row) -> bool:
    """At some time between acceptance and the end."""
    return any(
        holding.stream != row.stream
        and holding.since <= outcome.handled_at
        and row.accepted_at <= (holding.until or outcome.handled_at)
        for holding in case.sums.holdings.get(key_of(json.loads(row.data)["email"]), ())
    )
