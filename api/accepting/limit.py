"""The backlog's limit: how many accepted commands may wait to be handled."""

import time

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared.stores import outcomes

REST_FACTOR = 5
"""Times as long as the event store took to fail, before it is asked again."""


class Limit:
    """Knows the seq up to which commands are handled, as of the last look at the event store."""

    def __init__(self, log: Engine, max_backlog: int) -> None:
        self._log = log
        self._max = max_backlog
        self._handled: int | None = None
        self._known = False
        self._ask_again = 0.0

    def highest(self, seq: int) -> int:
        """The highest seq the inbox may give, where `seq` is the one that it would like to reach.

        Asks the event store only when the cached value is unknown or would refuse. If that fails from the beginning,
        the backlog is counted from `seq`.
        """
        waiting = seq - (self._handled or 0)
        if not self._known or not 0 <= waiting <= self._max:  # below 0 these are other stores
            self._look()
        if self._handled is None:
            self._handled = seq
        return self._handled + self._max

    def _look(self) -> None:
        """A log that hangs is asked again after a rest, since the inbox's transaction waits for the answer."""
        began = time.monotonic()
        if began < self._ask_again:
            return
        try:
            with self._log.connect() as connection:
                self._handled, self._known = outcomes.settled_seq(connection), True
        except DBAPIError:
            self._ask_again = time.monotonic() + REST_FACTOR * (time.monotonic() - began)
