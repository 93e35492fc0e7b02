"""Keepalive for transactions in PostgreSQL, which ends one when its client has run no statement for long."""

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
        """Run a statement unless `show` ran one within SIGN_EVERY. Call it during work that runs no statements."""
        if time.monotonic() > self._shown + SIGN_EVERY:
            fetch(connection, _nothing)
            self._shown = time.monotonic()


_nothing = select(1)
