"""The Celery app of the workers. A message names no work: a task looks for what there is to do."""

import logging
import time
from typing import Any

from celery.signals import setup_logging

from shared import bus, database
from shared.settings import Settings
from workers import alive, commands, projections

EVERY = 2.0
"""Seconds after which a lost message is made up for, and a failed try repeated."""

SOCKET_TIMEOUT = 5.0

settings = Settings()
app = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
app.conf.beat_schedule = {
    "handle commands": {"task": bus.HANDLE_COMMANDS, "schedule": EVERY},
    "catch up": {"task": bus.CATCH_UP, "schedule": EVERY},
}
if settings.alive_file:
    alive.show(app, settings.alive_file)

inbox = database.reader(settings.inbox)
event_log = database.reader(settings.event_store)
event_store = database.writer(settings.event_store)
read_model = database.writer(settings.read_model, durable=False)


class Pace:
    """Due once in `seconds` at most, the first time `seconds` after it was made."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._last + self._seconds:
            return False
        self._last = now
        return True


retrying = Pace(EVERY)  # not one for each message: while a worker is away, beat's pile up


@app.task(name=bus.HANDLE_COMMANDS)  # type: ignore[untyped-decorator]
def handle_commands() -> None:
    retried = commands.retry(inbox, event_store) if retrying.due() else 0
    handled = commands.handle(inbox, event_store)
    if retried or handled:
        wake(bus.CATCH_UP)
    if handled >= commands.CHUNK:
        wake(bus.HANDLE_COMMANDS)


@app.task(name=bus.CATCH_UP)  # type: ignore[untyped-decorator]
def catch_up() -> None:
    behind = [projections.try_to_catch_up(event_log, read_model, each) for each in projections.PROJECTIONS.values()]
    if any(behind):
        wake(bus.CATCH_UP)


def wake(task: str) -> None:
    try:
        bus.wake(app, task)
    except bus.BrokerDown as error:
        logging.getLogger(__name__).warning("%s waits for beat: %s", task, error)


@setup_logging.connect  # type: ignore[untyped-decorator]
def log_plainly(**_: Any) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
    logging.getLogger("celery").setLevel(logging.WARNING)
