"""The announcer: wakes the workers once commands are committed, and never holds up whoever sent them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

from shared.broker import bus
from shared.telemetry import logs

log = logs.logger()


class Announcer:
    """Wakes the workers: one message in flight, the next stands for all that was accepted meanwhile.

    What can't be sent is dropped: workers look by themselves every few seconds.
    """

    def __init__(self, app: Celery) -> None:
        self._waker = bus.Waker(app)
        self._thread = ThreadPoolExecutor(1, "announcer")
        self._due = False

    def announce(self) -> None:
        """Say that there are new commands; returns at once."""
        if not self._due:
            self._due = True
            self._thread.submit(self._send)

    async def close(self) -> None:
        """Wait until the last message is sent."""
        await asyncio.to_thread(self._thread.shutdown)

    def _send(self) -> None:
        self._due = False  # before it is sent: what comes from here on may be too late for it
        try:
            self._waker.wake(bus.HANDLE_COMMANDS)
        except Exception:
            log.exception("a message was not sent")
