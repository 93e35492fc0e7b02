"""Stopping: the app is told at once when the process is, so that answers which stay open can end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def calling_on_stop(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` in the event loop on SIGINT or SIGTERM: the server tells the app only once all answers have ended."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(end)
        if callable(handler := before[signal.Signals(number)]):
            handler(number, frame)

    if threading.current_thread() is not threading.main_thread():  # who runs the app there stops it otherwise
        yield
        return
    for number in before:
        signal.signal(number, handle)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
