"""What `cqrs up` says. Who reads it may be slow, stand still, or be gone, and its disk full: no role waits for that."""

import os
import queue
import sys
from contextlib import suppress
from threading import Thread

from click import unstyle

KEPT = 10_000
"""Lines that wait to be written; those that come beyond are lost."""

END_WITHIN = 1.0
"""Seconds that the last lines have."""


class Screen:
    """Written to by a thread of its own, and not through `sys.stdout`, which would wait for it in the end."""

    def __init__(self) -> None:
        self._lines = queue.Queue[str | None](KEPT)
        self._thread = Thread(target=self._write, name="screen", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Returns at once."""
        with suppress(queue.Full):
            self._lines.put_nowait(text if sys.stdout.isatty() else unstyle(text))

    def close(self) -> None:
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(END_WITHIN)

    def _write(self) -> None:
        while (text := self._lines.get()) is not None:
            rest = f"{text}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace")
            with suppress(OSError):
                while rest:
                    rest = rest[os.write(sys.stdout.fileno(), rest) :]
