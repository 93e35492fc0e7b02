"""The output of `cqrs up`. Its reader may be slow, stuck or gone, and its disk full: no role waits for that."""

import os
import queue
import sys
from contextlib import suppress
from threading import Thread

from click import unstyle

KEPT = 10_000
"""Lines that may wait to be written; more are lost."""

CLOSE_TIMEOUT = 1.0
"""Seconds to write the last lines."""


class Screen:
    """Writes lines in a thread of its own, and not through `sys.stdout`, which would wait for the reader at the end."""

    def __init__(self) -> None:
        self._lines = queue.Queue[str | None](KEPT)
        self._thread = Thread(target=self._write, name="screen", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Have a line written. Returns at once."""
        with suppress(queue.Full):
            self._lines.put_nowait(text if sys.stdout.isatty() else unstyle(text))

    def close(self) -> None:
        """Wait for the last lines, for a second at most."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _write(self) -> None:
        while (text := self._lines.get()) is not None:
            rest = f"{text}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace")
            with suppress(OSError):
                while rest:
                    rest = rest[os.write(sys.stdout.fileno(), rest) :]
