"""Retention: takes away the data and idempotency keys of old, handled commands, in small batches."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from sqlalchemy import Connection, Engine

from shared.clock import moment, now, written
from shared.database.errors import Taken
from shared.stores import inbox, outcomes
from workers import reporting

EVERY = 60.0
"""Seconds between two looks for old commands."""

AGAIN = 2.0
"""Seconds until the next look if there may be more to do."""

BATCH = 250
"""Commands in one transaction: API processes wait for it, and each command changes a page of an index."""

BATCHES = 4
"""Batches in one look, which this worker's handling waits for."""

PACE = 24
"""How many times faster than real time a CautiousClock may run: it covers a day in an hour."""


class CautiousClock:
    """A clock that doesn't follow the machine's at once, since one that is set far ahead would make all commands old.

    It begins at the newest command's time and runs PACE times as fast as real time until it meets the machine's.
    """

    def __init__(self, newest: str) -> None:
        self._time = moment(newest)
        self._looked = time.monotonic()

    def time(self) -> datetime:
        """The present time, or an earlier one."""
        passed = time.monotonic() - self._looked
        self._looked += passed
        self._time = min(datetime.now(UTC), self._time + timedelta(seconds=passed * PACE))
        return self._time


class Retention:
    """Empties commands older than `keep`, in order of seq, up to the first that is not handled yet.

    To empty a command is to take away its data, idempotency key and fingerprint. Several workers may do it at once:
    each command is emptied by one of them.
    """

    def __init__(self, reading: Engine, writing: Engine, store: Engine, keep: timedelta) -> None:
        """`reading` and `writing` reach the inbox, `store` the event store. The last two raise Taken, not wait.

        `keep`: how long commands keep their data; 0 is for ever.
        """
        self._reading = reading
        self._writing = writing
        self._store = store
        self._keep = keep
        self._clock: CautiousClock | None = None
        self._next = 0.0

    def look(self) -> None:
        """Empty up to BATCHES batches if it is time and the locks are free. Raises DBAPIError."""
        if not self._keep or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        with suppress(Taken):
            if not all(self.empty() for _ in range(BATCHES)):
                return
        self._next = time.monotonic() + AGAIN

    def empty(self) -> int:
        """Empty the next batch of old commands; returns how many commands that were. Raises Taken."""
        with self._reading.connect() as reading:
            after = inbox.emptied_seq(reading)
            old = self._old(reading, after)
        if old == after:
            return 0
        # A command that failed may be set aside again, by whoever sees under the event store's lock that it has data.
        with self._store.begin() as log:
            upto = min(old, outcomes.ended_seq(log))
            if upto <= after:
                return 0
            with self._writing.begin() as writing:
                count = inbox.empty(writing, after=after, upto=upto)
        reporting.emptied(count, upto=upto)
        return count

    def _old(self, reading: Connection, after: int) -> int:
        """The seq of the last command of the next batch that is old; `after` if there is none.

        A command whose time is still to come was accepted while a clock was ahead: it is as old as the next command
        whose time has passed.
        """
        newest = inbox.read(reading, [inbox.last_seq(reading)])
        if not newest:
            return after
        self._clock = self._clock or CautiousClock(newest[0].accepted_at)
        end = written(self._clock.time() - self._keep)
        ages = inbox.ages(reading, after=after, by=now(), limit=BATCH)
        old = [each.seq for each in takewhile(lambda each: each.accepted_at < end, ages)]
        return min(old[-1], after + BATCH) if old else after
