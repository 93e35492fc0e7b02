"""Garbage collection in a process that serves."""

import gc

GC_THRESHOLD = 10_000
"""Objects that were made and not freed, after which Python looks for cycles; far fewer by default."""


def collect_less() -> None:
    """Collect less often. To be called once all is loaded: that stays; commands and requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
