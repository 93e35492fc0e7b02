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


FULL = Scale(5, 24_000, 800, 200, 4, 8, 8, 5_000, 999_999, 30_000, 20_000)
QUICK = Scale(2, 5_000, 200, 40, 1.5, 3, 2, 1_500, 49_998, 6_000, 20_000)
