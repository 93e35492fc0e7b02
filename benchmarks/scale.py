"""How much is asked in a run: enough for figures to trust, or what two minutes allow."""

from typing import NamedTuple


class Scale(NamedTuple):
    rounds: int
    commands: int
    """Sent on 64 connections."""
    naive_commands: int
    singles: int
    """Sent one at a time."""
    reading: float
    steady: float
    idle: float
    """Seconds."""
    appends: int
    """One a transaction; twenty times as many, a hundred at a time."""
    events: int
    """To read, and to rebuild from."""
    library_events: int
    backlog: int


FULL = Scale(
    rounds=4,
    commands=24_000,
    naive_commands=800,
    singles=200,
    reading=4,
    steady=8,
    idle=8,
    appends=5_000,
    events=999_999,
    library_events=30_000,
    backlog=20_000,
)

QUICK = Scale(
    rounds=2,
    commands=4_500,
    naive_commands=200,
    singles=40,
    reading=1,
    steady=2,
    idle=2,
    appends=1_500,
    events=49_998,
    library_events=8_000,
    backlog=20_000,
)
