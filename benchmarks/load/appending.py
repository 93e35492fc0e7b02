"""Appending to a store: so many items at a time, by so many threads."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = {50: 4}
"""How many threads append, by the items of a transaction; else one does."""


def rate(items: Sequence[Any], put: Callable[[Sequence[Any]], object], together: int) -> float:
    """Items a second that `put` takes, `together` of them at a time."""
    pages = [items[start : start + together] for start in range(0, len(items), together)]
    began = time.perf_counter()
    if threads := THREADS.get(together):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(put, pages))
    else:
        for page in pages:
            put(page)
    return len(items) / (time.perf_counter() - began)
