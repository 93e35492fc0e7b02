"""Jobs: many failed commands that are handled again, with a result for each.

A job is the RetryCommands with its id as their correlation id, and nothing else: it is whole after any restart. Its id
says behind which seq of the inbox they begin, and how many were asked for.
"""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Self

from fastapi import Request
from pydantic_core import from_json

from api.console.commands import looking
from api.console.commands.looking import FARTHEST, PIECE, Row
from api.console.pages import service_of
from api.http.problems import Problem
from api.routes.submit import accept
from api.service import Service
from shared.operations.commands import RetryCommand
from shared.operations.record import CATEGORY, CommandRetried
from shared.stores import event_store, inbox, outcomes, searching
from shared.stores.inbox import Accepted, Submission
from shared.stores.outcomes import Outcome
from shared.stores.searching import Wanted

MOST = 1_000
"""Commands of one job."""

ID = re.compile(r"retry:(\d{1,18}):(\d{1,4}):([0-9a-f]{16})", re.ASCII)

NONCE = re.compile(r"[0-9a-f]{16}", re.ASCII)
"""What tells one sending of the form from another: the same one begins one job."""

RETRIES = 1_000
"""The last retries of all commands, among which jobs are looked for."""

LATEST = 10

STATES = ("waiting", "succeeded", "rejected", "failed again", "not retried")


class Job(NamedTuple):
    """A job: the seq behind which its deeds begin, and how many commands it was asked for."""

    id: str
    after: int
    asked: int

    @classmethod
    def named(cls, id: str) -> Self | None:
        """The job with this id; None if no job has such an id."""
        match = ID.fullmatch(id)
        return cls(id, int(match[1]), int(match[2])) if match else None


class Item(NamedTuple):
    """One command of a job: the deed, what became of it, and of the command since."""

    deed: Accepted
    done: Outcome | None
    row: Row | None

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.done and self.done.status != "succeeded":
            return "not retried"
        outcome = self.row and self.row.outcome
        if not self.done or not outcome:
            return "waiting"
        return "failed again" if outcome.status == "failed" else outcome.status

    @property
    def detail(self) -> str:
        """Why it did not succeed, so far."""
        if self.state == "not retried":
            return _detail(self.done)
        if self.row and self.row.aside and self.row.aside.tries:
            return f"{self.row.aside.tries} of 3 tries failed: {self.row.aside.error}"
        return _detail(self.row.outcome) if self.done and self.row else ""


class Begun(NamedTuple):
    """A job that was begun: when, by whom, and how many of its commands are known to have been retried."""

    job: Job
    at: str
    by: str | None
    retried: int


async def begin(request: Request, nonce: str, seqs: Sequence[int]) -> Job:
    """Begin a job, once for each nonce. Raises Problem, or a store's error, if none of it was accepted.

    If the inbox takes only some of it, the others stay among the failures.
    """
    service = service_of(request)
    commands = await service.inbox.read(inbox.read, seqs[:MOST])
    if not commands:
        raise Problem("command-not-found", 404, "There are no such commands.")
    after = await service.inbox.read(inbox.last_seq)
    id = f"retry:{after}:{len(commands)}:{nonce}"
    ask = partial(_ask, request, nonce)
    first = (await ask(id, commands[0])).command
    id = first.trail()["correlation_id"]  # of the same form, sent before
    await asyncio.gather(*(ask(id, each) for each in commands[1:]), return_exceptions=True)
    job = Job.named(id)
    assert job
    return job


async def items(service: Service, deeds: Sequence[Accepted]) -> list[Item]:
    """What became of each."""
    ids = [from_json(each.data)["command_id"] for each in deeds]
    done = await service.log.read(outcomes.find, [each.seq for each in deeds])
    commands = await service.inbox.read(inbox.find_all, ids)
    rows = {row.command.command_id: row for row in await looking.rows(service, list(commands.values()))}
    return [Item(deed, done.get(deed.seq), rows.get(id)) for deed, id in zip(deeds, ids, strict=True)]


async def deeds(service: Service, job: Job) -> list[Accepted]:
    """The deeds that a job is made of, as far as they are accepted."""
    found: list[Accepted] = []
    wanted = Wanted(type=RetryCommand.__name__, correlation_id=job.id)
    last = min(await service.inbox.read(inbox.last_seq), job.after + FARTHEST)
    for after in range(job.after, last, PIECE):
        if (limit := job.asked - len(found)) <= 0:
            break
        before = after + PIECE + 1
        found += await service.inbox.read(searching.first, wanted, after=after, before=before, limit=limit)
        await asyncio.sleep(0)
    return found


def counted(these: Sequence[Item]) -> dict[str, int]:
    """How many are in each state."""
    counts = Counter(each.state for each in these)
    return {state: counts[state] for state in STATES}


async def latest(service: Service) -> list[Begun]:
    """The jobs that were begun last."""
    events = await service.log.read(event_store.read_latest, types=[CommandRetried.__name__], limit=RETRIES)
    found: dict[str, Begun] = {}
    for event in reversed(events):
        metadata = event.metadata
        if job := Job.named(metadata.get("correlation_id") or ""):
            retried = found[job.id].retried + 1 if job.id in found else 1
            found[job.id] = Begun(job, event.recorded_at, metadata.get("principal"), retried)
    return list(found.values())[:LATEST]


def new_nonce() -> str:
    """One for a form."""
    return secrets.token_hex(8)


async def _ask(request: Request, nonce: str, job: str, command: Accepted) -> inbox.Acceptance:
    given = {"command_id": command.command_id}
    metadata = {**request.scope["metadata"], "correlation_id": job}
    submission = Submission(RetryCommand.__name__, CATEGORY, 1, given, metadata=metadata)
    return (await accept(request, submission, f"{nonce} {command.command_id}"))[0]


def _detail(outcome: Outcome | None) -> str:
    return outcome.problem["detail"] if outcome and outcome.problem else ""
