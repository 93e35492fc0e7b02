"""Keepalive for PostgreSQL, which ends a transaction in which nothing happens, in case its process is frozen."""

import time

from sqlalchemy import Connection, select

from shared.database.statements import fetch

SIGN_EVERY = 1.0
"""Seconds between two signs of life."""


class Life:
    """Shows a server that its client is alive."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def show(self, connection: Connection) -> None:
        """Run a statement if none is known to have run lately. To be called during work that needs none."""
        if time.monotonic() > self._shown + SIGN_EVERY:
            fetch(connection, _nothing)
            self._shown = time.monotonic()


_nothing = select(1)
