"""What waits, and for how long: commands to be handled, of which two stores know, and events to be projected."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection

from shared.clock import moment
from shared.stores import event_store, inbox, outcomes, set_aside

LATE = 10.0
"""Seconds after which what waits is a sign that something is wrong, whatever it is."""


class Handled(NamedTuple):
    """The seq up to which commands are handled; how many of those are set aside, and the first, if there is one."""

    seq: int
    aside: int
    first_aside: list[int]


class Backlog(NamedTuple):
    """How many were ever accepted, how many of them nobody has taken up yet, and the age (s) of the oldest that waits.

    One that is set aside waits, too.
    """

    accepted: int
    waiting: int
    oldest: float | None


def handled(log: Connection) -> Handled:
    first = [each.seq for each in set_aside.set_aside_after(log, 0, limit=1)]
    return Handled(outcomes.last_seq(log), set_aside.count_set_aside(log), first)


def waiting(inbox_: Connection, upto: Handled) -> Backlog:
    first = inbox.read(inbox_, upto.first_aside) + inbox.read_after(inbox_, upto.seq, limit=1)
    accepted = inbox.last_seq(inbox_)
    oldest = max((age(each.accepted_at) for each in first), default=None)
    return Backlog(accepted, accepted - upto.seq, oldest)


def behind(log: Connection, position: int) -> float:
    """Seconds since the first event past the position was recorded; 0 if there is none."""
    return next((age(each.recorded_at) for each in event_store.read_all(log, after=position, limit=1)), 0.0)


def overdue(waiting: Backlog, behind: Mapping[str, float | None]) -> str:
    """What waits for too long, "" if nothing does; `behind` is the seconds by projection that should go on."""
    if (waiting.oldest or 0) >= LATE:
        what = "the oldest command" if waiting.waiting else "a command that was set aside"
        return f"{what} has waited for {waiting.oldest:.0f} s"
    late = {name: seconds for name, seconds in behind.items() if (seconds or 0) >= LATE}
    return "; ".join(f"{name} is {seconds:.0f} s behind the log" for name, seconds in late.items())


def age(time: str) -> float:
    """In seconds."""
    return max(0.0, round((datetime.now(UTC) - moment(time)).total_seconds(), 3))
