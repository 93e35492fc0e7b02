"""Looking for commands: by an index where there is one, else backwards through a bounded number of them."""

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fastapi import Request

from api.console.pages import principal_of
from api.http.access import may
from api.service import Service
from shared.clock import moment
from shared.stores import event_store, inbox, outcomes, searching, set_aside
from shared.stores.inbox import Accepted
from shared.stores.outcomes import Outcome
from shared.stores.searching import Wanted
from shared.stores.set_aside import SetAside

PAGE = 50

PIECE = 2_000
"""Commands looked at in one query; between two of them others have their turn."""

SPARSE = 1_000
"""The same, where an index finds them: they stand far apart."""

FARTHEST = 50_000
"""Commands looked at for one page."""

SEQS = re.compile(r"\d{1,18}(\.\d{1,18})*", re.ASCII)

INDEXED = {"failed", "set aside"}
"""Statuses whose commands are found without a look at others."""

STATUSES = ("waiting", "set aside", "succeeded", "rejected", "failed")


class Row(NamedTuple):
    """A command, and what became of it so far."""

    command: Accepted
    outcome: Outcome | None
    aside: SetAside | None

    @property
    def status(self) -> str:
        """One of STATUSES."""
        if self.outcome:
            return self.outcome.status
        return "set aside" if self.aside else "waiting"

    @property
    def took(self) -> float | None:
        """Seconds from being accepted to its outcome."""
        return seconds_between(self.command.accepted_at, self.outcome.handled_at) if self.outcome else None


class Asked(NamedTuple):
    """What is looked for, with `after < seq < before`; `status` is one of STATUSES, or "" for any."""

    wanted: Wanted
    status: str
    after: int
    before: int


class Found(NamedTuple):
    """Commands of a page, the latest first, and the seq before which there may be more; None if there are none."""

    commands: list[Accepted]
    before: int | None
    looked_at: int
    """How many were looked at: it ended there if there are less commands than a page has."""

    @property
    def is_cut(self) -> bool:
        """Whether the look ended since it had gone far enough."""
        return self.before is not None and len(self.commands) < PAGE


def only(request: Request) -> str:
    """The principal whose commands alone may be seen; "" for whoever may see all."""
    return "" if may(request, "auditor") else principal_of(request).name


def seqs_in(text: str) -> list[int]:
    """The seqs in a text as pages have it, `1.2.3`; none if it is no such text."""
    return [int(each) for each in text.split(".")] if SEQS.fullmatch(text) else []


def seconds_between(one: str, other: str) -> float:
    """Seconds from one stored time to another; none if a clock was set back in between."""
    return max(0.0, (moment(other) - moment(one)).total_seconds())


async def look(service: Service, asked: Asked) -> Found:
    """A page of commands. Hold a turn of the inbox meanwhile."""
    wanted, status, after, end = asked
    if status == "waiting":
        after = max(after, await service.log.read(outcomes.settled_seq))
    found: list[Accepted] = []
    looked_at = 0
    while end > after + 1 and looked_at < FARTHEST and len(found) <= PAGE:
        among, begin = await _piece(service, status, after, end)
        looked_at += len(among or ()) if status in INDEXED else end - begin - 1
        limit = PAGE + 1 - len(found)
        if among is None or among:
            found += await service.inbox.read(
                searching.latest, wanted, after=begin, before=end, among=among, limit=limit
            )
        end = begin + 1
        await asyncio.sleep(0)
    if len(found) > PAGE:
        return Found(found[:PAGE], found[PAGE - 1].seq, looked_at)
    return Found(found, end if end > after + 1 else None, looked_at)


async def _piece(service: Service, status: str, after: int, before: int) -> tuple[Collection[int] | None, int]:
    """The next seqs below `before` that have the status, None for all, and the seq behind which they begin."""
    begin = max(after, before - 1 - PIECE)
    match status:
        case "succeeded" | "rejected":
            return await service.log.read(outcomes.with_status, status, after=begin, before=before), begin
        case "failed":
            seqs = await service.log.read(outcomes.failed, before=before, limit=SPARSE)
        case "set aside":
            seqs = [each.seq for each in await service.log.read(set_aside.before, before, limit=SPARSE)]
        case _:
            return None, begin
    return [seq for seq in seqs if seq > after], max(after, seqs[-1] - 1) if len(seqs) == SPARSE else after


async def by_events(service: Service, wanted: Wanted, *, before: int) -> list[Accepted]:
    """The last commands below a seq that changed the wanted stream: its events name them."""
    events = await service.log.read(event_store.read_latest, stream=wanted.stream, limit=4 * PAGE)
    ids = {id for each in events if (id := each.metadata.get("command_id"))}
    found = await service.inbox.read(inbox.find_all, ids)
    fitting = [each for each in found.values() if each.seq < before and _fits(each, wanted)]
    return sorted(fitting, key=lambda each: each.seq, reverse=True)[:PAGE]


def _fits(command: Accepted, wanted: Wanted) -> bool:
    trail = command.trail()
    return all(not value or trail.get(name) == value for name, value in wanted._asdict().items())


async def rows(service: Service, commands: Sequence[Accepted]) -> list[Row]:
    """What became of each."""
    seqs = [each.seq for each in commands]
    ended = await service.log.read(outcomes.find, seqs)
    open_ = [seq for seq in seqs if seq not in ended]
    aside = {each.seq: each for each in await service.log.read(set_aside.find, open_)} if open_ else {}
    return [Row(each, ended.get(each.seq), aside.get(each.seq)) for each in commands]
