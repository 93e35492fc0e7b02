"""The backlog: commands that wait to be handled, which two stores know of, and events that wait to be projected."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from shared.clock import moment
from shared.stores import event_store, inbox, outcomes, set_aside
from shared.stores.checkpoints import Progress

OVERDUE_AFTER = 10.0
"""Seconds after which a waiting command, or an event not yet projected, is a sign that something is wrong."""


class Handled(NamedTuple):
    """Commands are handled up to `seq`, but for `aside` commands set aside. `first_aside` lists the first, if any."""

    seq: int
    aside: int
    first_aside: list[int]


class Backlog(NamedTuple):
    """How many commands were accepted, how many no worker has taken up, and the age (s) of the oldest that waits.

    Commands set aside aren't in `waiting`, but `oldest` may be the age of one.
    """

    accepted: int
    waiting: int
    oldest: float | None


class Lag(NamedTuple):
    """A projection's progress, how many events of the log it lacks, and the age (s) of the first of those."""

    progress: Progress
    events: int
    seconds: float

    def shown(self) -> dict[str, Any]:
        """The lag as the API and the command show it."""
        position, paused, stopped = self.progress
        return {"position": position, "lag": self.events, "paused": paused, "stopped": stopped and stopped._asdict()}


class Lags(NamedTuple):
    """The last position of the log, and the lag of each projection by its name."""

    last: int
    by_name: dict[str, Lag]


def handled(log: Connection) -> Handled:
    """How far commands are handled, according to the event store."""
    first = [each.seq for each in set_aside.after(log, 0, limit=1)]
    return Handled(outcomes.settled_seq(log), set_aside.count(log), first)


def waiting(inbox_: Connection, handled: Handled) -> Backlog:
    """The backlog, from the inbox. Call it after `handled`, so that the inbox has every command counted as handled."""
    first = inbox.read(inbox_, handled.first_aside) + inbox.read_after(inbox_, handled.seq, limit=1)
    accepted = inbox.last_seq(inbox_)
    oldest = max((_age(each.accepted_at) for each in first), default=None)
    return Backlog(accepted, accepted - handled.seq, oldest)


def lags(log: Connection, progress: Mapping[str, Progress]) -> Lags:
    """How far projections are behind the log. Read `progress` before, so that no projection seems ahead of the log."""
    last = event_store.last_position(log)
    return Lags(last, {name: _lag(log, last, each) for name, each in progress.items()})


def overdue(waiting: Backlog, lags: Mapping[str, Lag]) -> str:
    """What has waited too long: a command, or events for projections that are not held up; "" if nothing has."""
    if (waiting.oldest or 0) >= OVERDUE_AFTER:
        what = "the oldest command" if waiting.waiting else "a command that was set aside"
        return f"{what} has waited for {waiting.oldest:.0f} s"
    late = {name: lag for name, lag in lags.items() if lag.seconds >= OVERDUE_AFTER and not lag.progress.stands_still}
    return "; ".join(f"{name} is {lag.seconds:.0f} s behind the log" for name, lag in late.items())


def _lag(log: Connection, last: int, progress: Progress) -> Lag:
    missing = event_store.read_all(log, after=progress.position, limit=1) if progress.position < last else []
    return Lag(progress, last - progress.position, max((_age(each.recorded_at) for each in missing), default=0.0))


def _age(time: str) -> float:
    """The seconds since a stored time."""
    return max(0.0, round((datetime.now(UTC) - moment(time)).total_seconds(), 3))
