"""The Celery app of the workers. A message names no work: a task looks for what there is to do."""

import time
from functools import cache
from socket import gethostname
from typing import Any

from celery.signals import beat_init, celeryd_init, setup_logging, worker_init, worker_ready, worker_shutdown
from sqlalchemy.exc import DBAPIError

from shared import tuning
from shared.broker import bus
from shared.database import engines
from shared.database.errors import Taken
from shared.domain.aggregates import EVENTS
from shared.errors import refusal
from shared.errors.reasons import reason_of
from shared.schemas import check
from shared.stores import event_store
from shared.stores.deciding import note_of
from shared.telemetry import logs, tracing
from workers import bootsteps, reporting
from workers.handling.handler import TAKEN_REST_SECONDS, CommandHandler
from workers.poison.watch import Watch
from workers.projecting.runner import ProjectionThreads

WAKE_EVERY = 2.0
"""Seconds after which a lost message is made up for, and commands set aside are tried again."""

SOCKET_TIMEOUT = 3.0
"""Seconds that Redis has to answer."""

settings = refusal.settings()
app = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
app.conf.beat_scheduler = "workers.beat:Beat"
app.conf.role = f"beat@{gethostname()}"  # unless it is a worker
bootsteps.add_to(app, settings.alive_file)

projections = ProjectionThreads(settings)

wake = bus.Waker(app).wake

log = logs.logger()


@cache
def handler() -> CommandHandler:
    """The command handler of this process, made when the first message comes."""
    return CommandHandler(
        engines.reader(settings.inbox),
        engines.writer(settings.event_store, lock=event_store.LOCK, waits=False),
        Watch(note_of(settings.event_store)),
    )


class Pace:
    """Due once in `seconds` at most, the first time `seconds` after it was made."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time; if so, the next time is `seconds` from now."""
        now = time.monotonic()
        if now < self._last + self._seconds:
            return False
        self._last = now
        return True


retrying = Pace(WAKE_EVERY)  # beat's messages are not the only ones


@app.task(name=bus.HANDLE_COMMANDS)  # type: ignore[untyped-decorator]
def handle_commands() -> None:
    """Handle a chunk of commands, and wake for what is left."""
    # Whoever has the log looks again after its turn, so that one who comes meanwhile need not wait: workers in a queue
    # for the log would handle what comes in smaller pieces, of which each costs the same, and all would be slower.
    try:
        if handler().handle():
            wake(bus.CATCH_UP)
        if retrying.due() and handler().retry():
            wake(bus.CATCH_UP)
        if handler().is_behind():
            wake(bus.HANDLE_COMMANDS)
    except Taken:
        time.sleep(TAKEN_REST_SECONDS)
    except (DBAPIError, OSError) as error:
        log.warning("commands wait for the next beat", error=reason_of(error))
    except Exception:  # Celery's own lines would have its message
        log.exception("commands wait for the next beat")


@app.task(name=bus.CATCH_UP)  # type: ignore[untyped-decorator]
def catch_up() -> None:
    """Have every projection look for new events."""
    projections.wake()


@worker_init.connect  # type: ignore[untyped-decorator]
def check_schema(**_: Any) -> None:
    check.check(settings, EVENTS)
    tracing.set_up(app.conf.role)


@beat_init.connect  # type: ignore[untyped-decorator]
@worker_init.connect  # type: ignore[untyped-decorator]
def serve_metrics(**_: Any) -> None:
    reporting.serve_metrics(settings)


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: Any) -> None:
    tuning.collect_less()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop(**_: Any) -> None:
    projections.stop()
    tracing.stop()


@celeryd_init.connect  # type: ignore[untyped-decorator]
def take_name(sender: str, **_: Any) -> None:
    app.conf.role = sender


@setup_logging.connect  # type: ignore[untyped-decorator]
def log_in_one_format(**_: Any) -> None:
    logs.set_up(app.conf.role, settings)
