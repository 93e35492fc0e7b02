"""Causes of failures: commands whose problems differ in numbers, ids and quoted texts alone failed by the same one."""

import asyncio
import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from pydantic_core import from_json

from api.service import Service
from shared.operations.record import CommandRetried
from shared.stores import event_store, outcomes

PIECE = 5_000
"""Failures that are read at once; between two pieces others have their turn."""

FARTHEST = 100_000
"""Failures looked at for one page."""

DIFFERS = re.compile(
    r"""“[^”]*”|"[^"]*"|`[^`]*`|(?<!\w)'[^']*'(?!\w)"""
    r"""|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b|\d+(?:[.:]\d+)*"""
)
"""What may differ in the details of problems that have one cause."""

RETRIES = 1_000
"""The last retries of all commands, among which those that failed again are looked for."""


class Cause(NamedTuple):
    """A problem's type, and its detail without what may differ; `digest` names it in addresses."""

    digest: str
    type: str
    detail: str


class Group(NamedTuple):
    """Commands that failed by one cause, by their seqs, the latest first. `detail`: of all of them, or the cause's."""

    cause: Cause
    detail: str
    seqs: list[int]


class Groups(NamedTuple):
    """Groups by the digests of their causes, the largest first, and the seq before which more failures may stand."""

    by_digest: dict[str, Group]
    looked_at: int
    before: int | None


@lru_cache(4096)
def cause_of(problem: str) -> Cause:
    """The cause of a failure, by its problem in JSON."""
    its = from_json(problem)
    type, detail = its["type"], DIFFERS.sub("…", its["detail"])
    return Cause(sha256(f"{type} {detail}".encode()).hexdigest()[:16], type, detail)


async def groups(service: Service, *, before: int | None) -> Groups:
    """The failures below a seq by their causes. Hold a turn of the log meanwhile."""
    seqs: dict[str, list[int]] = {}
    end, looked_at, more = before, 0, True
    while more and looked_at < FARTHEST:
        bound = {} if end is None else {"before": end}
        found = await service.log.read(outcomes.problems, limit=PIECE, **bound)
        for seq, problem in found:
            seqs.setdefault(problem, []).append(seq)
        looked_at, more = looked_at + len(found), len(found) == PIECE
        end = found[-1][0] if found else end
        await asyncio.sleep(0)
    return Groups(_grouped(seqs), looked_at, end if more else None)


async def retried(service: Service) -> set[str]:
    """The ids of the commands that were retried last."""
    events = await service.log.read(event_store.read_latest, types=[CommandRetried.__name__], limit=RETRIES)
    return {each.data["command_id"] for each in events}


def _grouped(seqs: dict[str, list[int]]) -> dict[str, Group]:
    problems: dict[Cause, list[str]] = {}
    for problem in seqs:
        problems.setdefault(cause_of(problem), []).append(problem)
    made = (Group(cause, _detail(cause, its), _sorted(seqs[each] for each in its)) for cause, its in problems.items())
    return {each.cause.digest: each for each in sorted(made, key=lambda each: len(each.seqs), reverse=True)}


def _detail(cause: Cause, problems: list[str]) -> str:
    """What all problems say, if they say the same."""
    detail: str = from_json(problems[0])["detail"]
    return detail if len(problems) == 1 else cause.detail


def _sorted(seqs: Iterable[list[int]]) -> list[int]:
    return sorted((seq for each in seqs for seq in each), reverse=True)
