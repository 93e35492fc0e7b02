"""The Celery app of the workers. A message names no work: a task looks for what there is to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any

from celery.signals import celeryd_init, setup_logging, worker_init, worker_ready, worker_shutdown
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared import tuning
from shared.broker import bus
from shared.database import engines
from shared.database.errors import Taken
from shared.errors import refusal
from shared.errors.reasons import reason_of
from shared.schemas import check
from shared.schemas.known import EVENTS
from shared.stores import event_store, inbox
from shared.stores.deciding import note_of
from shared.stores.subjects import Subjects, heed
from shared.telemetry import logs, tracing
from workers import bootsteps, metrics_port
from workers.handling.handler import RESTS, TAKEN_REST_SECONDS, CommandHandler
from workers.poison.watch import Watch
from workers.projecting.runner import ProjectionThreads
from workers.upkeep.retention import Retention

RETRY_EVERY = 2.0
"""Seconds after which commands set aside are tried again."""

WITHOUT_BROKER_SECONDS = 1.0
"""How long a worker works at a time while no message can be sent, before it does what else there is to do."""

SOCKET_TIMEOUT = 3.0
"""Seconds that Redis has to answer."""

AT_ONCE = "workers.bootsteps:at_once"

settings = refusal.settings()
app = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
app.conf.role = "celery"  # a worker takes its own name

projections = ProjectionThreads(settings)

waker = bus.Waker(app)

log = logs.logger()


@cache
def subjects() -> Subjects:
    """The people whose data the stores hold."""
    return Subjects.of(settings, looks=False)


@cache
def accepted() -> Engine:
    """The inbox, to read it."""
    return heed(engines.reader(settings.inbox), subjects())


@cache
def recorded() -> Engine:
    """The event store, to write it. A transaction raises Taken while another worker has one."""
    return heed(engines.writer(settings.event_store, lock=event_store.LOCK, waits=False), subjects())


@cache
def handler() -> CommandHandler:
    """The command handler of this process, made when it first looks for commands."""
    return CommandHandler(accepted(), recorded(), Watch(note_of(settings.event_store)), rests=RESTS)


@cache
def retention() -> Retention:
    """The retention of this process, made when it first looks for old commands."""
    writing = engines.writer(settings.inbox, lock=inbox.LOCK, waits=False)
    return Retention(accepted(), writing, recorded(), timedelta(days=settings.keep_commands))


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


retrying = Pace(RETRY_EVERY)


@contextmanager
def going_on(warning: str) -> Iterator[None]:
    """Log the warning, with the error, when the block raises: what it leaves waits for the next look."""
    try:
        yield
    except (DBAPIError, OSError) as error:
        log.warning(warning, error=reason_of(error))
    except Exception:  # Celery's own lines would have its message
        log.exception(warning)


def handle(wake: Callable[[str], None]) -> bool:
    """Handle a chunk of commands, and wake the workers for what follows; returns whether more commands wait."""
    # A worker that had the log looks again after its turn, so another that finds the log taken need not wait: workers
    # in a queue for it would handle smaller chunks, each of which costs the same, and all would be slower.
    catch_up = partial(wake, bus.CATCH_UP)
    with going_on("commands wait for the next look"):
        try:
            handler().handle(catch_up)
            if retrying.due():
                handler().retry(catch_up)
            if handler().is_behind():
                wake(bus.HANDLE_COMMANDS)
                return True
        except Taken:
            time.sleep(TAKEN_REST_SECONDS)
    return False


def keep_up() -> None:
    """Take away what is kept no longer, and what is left of the keys of erased people."""
    with going_on("old commands stay until the next look"):
        retention().look()
    with going_on("destroyed keys are overwritten at the next look"):
        subjects().scrub()


@app.task(name=bus.HANDLE_COMMANDS, Strategy=AT_ONCE)  # type: ignore[untyped-decorator]
def handle_commands() -> None:
    """Handle a chunk of commands."""
    handle(waker.wake)


@app.task(name=bus.CATCH_UP, Strategy=AT_ONCE)  # type: ignore[untyped-decorator]
def catch_up() -> None:
    """Have every projection look for new events."""
    with going_on("projections wait for the next look"):
        projections.wake()


def wake_if_possible(task: str) -> None:
    """Wake, unless the broker was away when it was last tried: where Redis hangs, each try takes seconds."""
    if not waker.down:
        waker.wake(task)


def work() -> bool:
    """Show that this worker is alive, and do what a message would have it do; returns whether there is more."""
    queues = app.amqp.queues.consume_from
    bootsteps.show_alive(settings.alive_file, queues)
    if bus.PROJECTIONS in queues:
        projections.wake()
    if bus.COMMANDS not in queues:
        return False
    keep_up()
    return handle(wake_if_possible)


def look() -> None:
    """Look for work; where no message can be sent for the rest, work on for a while."""
    until = time.monotonic() + WITHOUT_BROKER_SECONDS
    while work() and waker.down and time.monotonic() < until:
        pass


def look_with_broker() -> None:
    """Look once the broker can be reached, for the first time or again."""
    waker.down = False
    look()


def look_without_broker() -> None:
    """Look while no message can come or go."""
    waker.down = True
    look()


@worker_init.connect  # type: ignore[untyped-decorator]
def start(**_: Any) -> None:
    """Check the stores, and begin tracing, metrics and looks."""
    check.check(settings, EVENTS)
    tracing.set_up(app.conf.role)
    metrics_port.serve(settings)
    bus.work_between_tries(look_without_broker)


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: Any) -> None:
    """Tune the garbage collector once all is loaded."""
    tuning.collect_less()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def stop(**_: Any) -> None:
    """Stop the projections and tracing."""
    projections.stop()
    tracing.stop()


@celeryd_init.connect  # type: ignore[untyped-decorator]
def take_name(sender: str, **_: Any) -> None:
    """Log under the worker's name."""
    app.conf.role = sender


@setup_logging.connect  # type: ignore[untyped-decorator]
def log_in_one_format(**_: Any) -> None:
    """Have Celery log as everything here does."""
    logs.set_up(app.conf.role, settings)


bootsteps.add_to(app, look_with_broker, look, look_without_broker)
