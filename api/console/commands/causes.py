"""Causes of failures: commands whose problems differ in numbers, ids and quoted texts alone failed by the same one."""

import asyncio
import re
import sys
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from pydantic_core import from_json

from api.service import Service
from shared.operations.record import CommandRetried
from shared.stores import event_store, outcomes

PIECE = 1_000
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
    """A problem's type, and its detail without what may differ."""

    type: str
    detail: str

    @property
    def digest(self) -> str:
        """Names the cause in addresses."""
        return sha256(f"{self.type} {self.detail}".encode()).hexdigest()[:16]


class Group(NamedTuple):
    """Commands that failed by one cause: their seqs, the latest first, and the problem of the latest, in JSON."""

    cause: Cause
    seqs: list[int]
    latest: str

    @property
    def example(self) -> str:
        """What the latest one's problem says."""
        detail: str = from_json(self.latest)["detail"]
        return detail


class Groups(NamedTuple):
    """Groups by the digests of their causes, the largest first, and the seq before which more failures may stand."""

    by_digest: dict[str, Group]
    looked_at: int
    before: int | None


@lru_cache(4096)
def cause_of(problem: str) -> Cause:
    """The cause of a failure, by its problem in JSON."""
    its = from_json(problem)
    return Cause(its["type"], DIFFERS.sub("…", its["detail"]))


async def groups(service: Service, *, before: int | None) -> Groups:
    """The failures below a seq by their causes. Hold a turn of the log meanwhile."""
    found: dict[Cause, Group] = {}
    end, looked_at, more = before or sys.maxsize, 0, True
    while more and looked_at < FARTHEST:
        piece = await service.log.read(outcomes.problems, before=end, limit=PIECE)
        for seq, problem in piece:
            cause = cause_of(problem)
            if cause not in found:
                found[cause] = Group(cause, [], problem)
            found[cause].seqs.append(seq)
        looked_at, more = looked_at + len(piece), len(piece) == PIECE
        end = piece[-1][0] if piece else end
        await asyncio.sleep(0)
    largest = sorted(found.values(), key=lambda each: len(each.seqs), reverse=True)
    return Groups({each.cause.digest: each for each in largest}, looked_at, end if more else None)


async def retried(service: Service) -> set[str]:
    """The ids of the commands that were retried last."""
    events = await service.log.read(event_store.read_latest, types=[CommandRetried.__name__], limit=RETRIES)
    return {each.data["command_id"] for each in events}
