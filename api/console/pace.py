"""How fast a number grows, as far as somebody looks: nothing is stored for it."""

import time
from collections import deque

KEPT_SECONDS = 60.0
"""How far back it is looked."""

BRIEFEST = 0.9
"""Seconds that two looks must be apart to tell a pace."""


class Pace:
    """The pace of a position that is seen again and again."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, position: int) -> float | None:
        """The pace, in events a second of the last minute; None if it was not looked at in it before."""
        now = time.monotonic()
        if self._seen and position < self._seen[-1][1]:
            self._seen.clear()  # another read model, or another log
        while self._seen and self._seen[0][0] < now - KEPT_SECONDS:
            self._seen.popleft()
        self._seen.append((now, position))
        began, first = self._seen[0]
        return (position - first) / (now - began) if now - began >= BRIEFEST else None
