"""Garbage collection of a process that serves."""

import gc

THRESHOLD = 10_000
"""Objects more than were freed, before Python looks for cycles among them; by default far fewer."""


def collect_less() -> None:
    """Once all is loaded: that stays, and what commands and requests leave is freed by its reference count."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
