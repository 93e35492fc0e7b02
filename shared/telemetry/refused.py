"""Requests that are refused: each is counted, and a log line now and then says how many there were, and whose."""

import asyncio
from collections import Counter
from contextvars import Context

from shared.telemetry import logs, metrics

TELL_EVERY = 10.0
"""Seconds between two log lines at least."""

MAX_CLIENTS, SHOWN_CLIENTS = 1000, 10
"""Clients that are counted between two lines at most, and those of them that a line shows: the most refused."""

log = logs.logger()


class Refused:
    """Counts refused requests. The first one has a log line at once, further ones have one together every 10 s."""

    def __init__(self, every: float = TELL_EVERY) -> None:
        self._every = every
        self._types: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()
        self._waits = False

    def count(self, type: str, client: str) -> None:
        """Count a request by its problem, as in `missing-role`, and by its client: an address, or a principal's name.

        Call it in the event loop. A client's name is logged, so it must not be a secret.
        """
        metrics.REFUSED.labels(type).inc()
        self._types[type] += 1
        if client in self._clients or len(self._clients) < MAX_CLIENTS:
            self._clients[client] += 1
        if not self._waits:
            self._tell()

    def _tell(self) -> None:
        self._waits = bool(self._types)
        if self._waits:
            log.info("requests refused", **self._types, clients=dict(self._clients.most_common(SHOWN_CLIENTS)))
            self._types.clear()
            self._clients.clear()
            loop = asyncio.get_running_loop()
            loop.call_later(self._every, self._tell, context=Context())  # else later lines had this request's ids
