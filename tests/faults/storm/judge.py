"""The verdict: what clients saw held against what the stores hold."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from tests.faults.storm import checks
from tests.faults.storm.case import WORDS, Case, Finding
from tests.faults.storm.evidence import Evidence, Row
from tests.faults.storm.ledger import Ledger, Request


def judge(ledger: Ledger, stores: Evidence) -> list[Finding]:
    case = Case(ledger, stores)
    every = (_answers, _inbox, _in_real_time, *checks.OF_STORES)
    return [Finding(*each) for each in ledger.out_of_place] + list(chain.from_iterable(check(case) for check in every))


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
        and request.path in {"/users/", f"/users/{number}", f"/users/{number}/deactivation"}
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


def _in_real_time(case: Case) -> Iterator[Finding]:
    """Within a stream, what was acknowledged before another was first sent comes before it."""
    streams: dict[str, list[tuple[Request, int]]] = defaultdict(list)
    for request in case.ledger.acknowledged:
        if row := case.row_of.get(request.key):
            streams[row.stream].append((request, row.seq))
    for requests in streams.values():
        yield from _in_turn(requests)


def _in_turn(requests: list[tuple[Request, int]]) -> Iterator[Finding]:
    """The requests of one stream, each with its seq."""
    ends = sorted((request.acknowledged or 0.0, seq) for request, seq in requests)
    highest = passed = 0
    for request, seq in sorted(requests, key=lambda each: each[0].sent):
        while ends[passed][0] < request.sent:
            highest, passed = max(highest, ends[passed][1]), passed + 1
        if seq < highest:
            yield Finding("reordered", f"{request}, number {seq}, was sent after {highest} was answered", request.key)
