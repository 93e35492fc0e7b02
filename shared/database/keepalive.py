"""Signs of life to a server that ends the transaction of a process that seems to be frozen."""

import time

from sqlalchemy import Connection, select

from shared.database.statements import fetch

EVERY = 1.0
"""Seconds."""


class Life:
    def __init__(self) -> None:
        self._shown = time.monotonic()

    def show(self, connection: Connection) -> None:
        """To be called whenever work without a statement may have gone on for a while."""
        if time.monotonic() > self._shown + EVERY:
            fetch(connection, _nothing)
            self._shown = time.monotonic()


_nothing = select(1)
