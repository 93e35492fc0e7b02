"""The last hour by minutes, read from the commands themselves: nothing is written for it, so no restart loses it.

A minute is a range of seqs. Up to `SAMPLES` commands of each are read, evenly spaced; a minute that is over and settled
is read once.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from api.reading.store import Store
from api.watching.boundaries import last_by, last_by_near
from shared.clock import moment, written
from shared.projection import Projection
from shared.stores import advances, inbox, outcomes

MINUTES = 60

MINUTE = timedelta(minutes=1)

SAMPLES = 300
"""Commands of a minute that are read, at most."""

SETTLED_AFTER = timedelta(seconds=10)
"""Time after a minute in which its last commands mostly become visible."""

GIVEN_UP_AFTER = timedelta(minutes=3)
"""Time after a minute after which it isn't waited for what nobody recorded."""

WAITING = "waiting"
"""What stands in the place of the status of a command that has no outcome."""


class Latency(NamedTuple):
    """Seconds within which half, 95 % and 99 % of what was sampled was done."""

    p50: float
    p95: float
    p99: float


class Minute(NamedTuple):
    """What was accepted in a minute, or so far, and what became of it. `counts` are of the sampled commands."""

    begins: datetime
    seconds: float
    accepted: int
    counts: Mapping[str, int]
    handling: Latency | None
    """From accepted to handled."""
    showing: Latency | None
    """From handled to visible."""
    whole: Latency | None
    """From accepted to visible."""
    backlog: int
    """Commands that waited at its end."""
    settled: bool

    @property
    def sampled(self) -> int:
        """How many commands were read."""
        return sum(self.counts.values())

    def rate(self, status: str) -> float:
        """Commands a second that came to this."""
        return self.accepted / self.seconds * self.counts.get(status, 0) / (self.sampled or 1)


class LastHour:
    """Reads the last hour; what doesn't change any more is kept."""

    def __init__(
        self, inbox: Store, log: Store, read_models: Mapping[str, Store], projections: Iterable[Projection]
    ) -> None:
        self._inbox = inbox
        self._log = log
        waited_for = [each.name for each in projections if not each.gathers] or list(read_models)
        self._read_models = {name: read_models[name] for name in waited_for}
        self._turn = 0
        self._kept: dict[datetime, Minute] = {}
        self._ends: dict[str, int] = {}
        self._handled: dict[str, int] = {}

    async def look(self) -> list[Minute]:
        """The minutes, the oldest first; the last is the one that goes on."""
        now = datetime.now(UTC)
        begins = [now.replace(second=0, microsecond=0) - n * MINUTE for n in reversed(range(MINUTES))]
        await self._find_boundaries([written(each) for each in begins])
        last, handled = await self._inbox.read(inbox.last_seq), await self._log.read(outcomes.settled_seq)
        again = self._unsettled(begins)
        for each, ends in zip(begins, [*begins[1:], now], strict=True):
            if each not in self._kept or each in again:
                upto = last if ends is now else self._ends[written(ends)]
                waiting = last - handled if ends is now else upto - self._handled[written(ends)]
                self._kept[each] = await self._read(each, ends, upto, max(0, waiting), now)
                await asyncio.sleep(0)
        self._kept = {each: self._kept[each] for each in begins}
        return list(self._kept.values())

    @property
    def began_after(self) -> int:
        """The seq past which commands were accepted in the hour that was looked at last."""
        return min(self._ends.values(), default=0)

    def _unsettled(self, begins: list[datetime]) -> set[datetime]:
        """The minutes to be read again: the latest, and those before by turns."""
        found = [each for each in self._kept if not self._kept[each].settled and each in begins]
        older = [each for each in found if each < begins[-2]]
        self._turn += 1
        return {each for each in found if each >= begins[-2] or each == older[self._turn % len(older)]}

    async def _find_boundaries(self, moments: list[str]) -> None:
        self._ends = {each: seq for each, seq in self._ends.items() if each in moments}
        self._handled = {each: seq for each, seq in self._handled.items() if each in moments}
        if missing := [each for each in moments if each not in self._ends]:
            last = await self._inbox.read(inbox.last_seq)
            accepted = await last_by(missing, lambda seqs: self._inbox.read(inbox.accepted_at, seqs), last)
            self._handled |= await last_by_near(accepted, lambda seqs: self._log.read(_handled_at, seqs))
            self._ends |= accepted

    async def _read(self, begins: datetime, ends: datetime, upto: int, waiting: int, now: datetime) -> Minute:
        after = self._ends[written(begins)]
        seqs = spread(after + 1, upto, SAMPLES)
        accepted = await self._inbox.read(inbox.accepted_at, seqs)
        ended = await self._log.read(outcomes.endings, seqs)
        await asyncio.sleep(0)
        counts = Counter[str](each.status for each in ended)
        if missing := len(seqs) - len(ended):
            counts[WAITING] = missing
        seen = await self._visible_at(each.position for each in ended if each.position)
        shown = [(each, seen[each.position]) for each in ended if each.position and each.position in seen]
        all_seen = len(shown) == sum(bool(each.position) for each in ended)
        return Minute(
            begins,
            max(1.0, (ends - begins).total_seconds()),
            upto - after,
            counts,
            _latency((accepted.get(each.seq, each.handled_at), each.handled_at) for each in ended),
            _latency((each.handled_at, at) for each, at in shown),
            _latency((accepted.get(each.seq, at), at) for each, at in shown),
            waiting,
            settled=now > ends + SETTLED_AFTER and not missing and (all_seen or now > ends + GIVEN_UP_AFTER),
        )

    async def _visible_at(self, positions: Iterable[int]) -> dict[int, str]:
        """When each position was visible wherever clients wait for it."""
        asked = list(positions)
        found: dict[int, str] = {}
        for n, (name, store) in enumerate(self._read_models.items()):
            its = await store.read(advances.visible_at, name, asked)
            found = {each: max(at, found[each]) for each, at in its.items() if each in found} if n else its
        return found


def spread(first: int, last: int, at_most: int) -> list[int]:
    """So many of the numbers from the first to the last, evenly spaced; all, if there are fewer."""
    count = last - first + 1
    if count <= at_most:
        return list(range(first, last + 1))
    return [first + n * (count - 1) // (at_most - 1) for n in range(at_most)]


def _handled_at(connection: Connection, seqs: list[int]) -> dict[int, str]:
    return {each.seq: each.handled_at for each in outcomes.endings(connection, seqs)}


def _latency(pairs: Iterable[tuple[str, str]]) -> Latency | None:
    took = sorted(max(0.0, (moment(end) - moment(begin)).total_seconds()) for begin, end in pairs)
    if not took:
        return None
    return Latency(*(took[min(len(took) - 1, int(len(took) * part))] for part in (0.5, 0.95, 0.99)))
