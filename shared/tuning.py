"""Garbage collection in a process that serves."""

import gc

GC_THRESHOLD = 10_000
"""Objects made and not freed, after which Python looks for cycles (by default after far fewer)."""


def collect_less() -> None:
    """Collect garbage less often, and never what is loaded by now. Call it when a process has loaded its modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
