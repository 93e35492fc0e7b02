"""Requests that are refused: counts each, and logs every 10 s at most how many there were, and from which clients."""

import asyncio
from collections import Counter
from contextvars import Context

from shared.telemetry import logs, metrics

TELL_EVERY = 10.0
"""The least seconds between two log lines."""

MAX_CLIENTS, SHOWN_CLIENTS = 1000, 10
"""How many clients are counted between two lines, and how many a line shows: those with the most refusals."""

log = logs.logger()


class Refused:
    """Counts refused requests. The first is logged at once, those that follow together, every 10 s."""

    def __init__(self, every: float = TELL_EVERY) -> None:
        self._every = every
        self._types: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()
        self._waits = False

    def count(self, type: str, client: str) -> None:
        """Count a request by its problem's type, such as `missing-role`, and by its client: address or principal.

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
