"""The Celery app of the workers: its tasks, and what beat sends to whom."""

import logging
from typing import Any

from celery.signals import setup_logging

from shared import bus, database
from shared.settings import Settings
from workers import alive, commands, projections, upkeep

EVERY = 2.0
"""Seconds between two sweeps, and between two nudges to each projection."""

SOCKET_TIMEOUT = 5.0

settings = Settings()
app = bus.celery(settings, socket_timeout=SOCKET_TIMEOUT)
app.conf.beat_schedule = {
    "sweep": {"task": bus.SWEEP, "schedule": EVERY},
    **{f"tick {name}": {"task": bus.CATCH_UP, "schedule": EVERY, "args": [name]} for name in projections.PROJECTIONS},
}

if settings.alive_file:
    alive.show(app, settings.alive_file)

inbox = database.reader(settings.inbox)
log = database.reader(settings.event_store)
store = database.writer(settings.event_store)
read_model = database.writer(settings.read_model, durable=False)


@app.task(name=bus.HANDLE_COMMANDS)  # type: ignore[untyped-decorator]
def handle_commands(upto: dict[str, int]) -> None:
    """Streams, and the seq up to which each has commands."""
    if commands.handle(inbox, store, upto):
        nudge()


@app.task(name=bus.SWEEP)  # type: ignore[untyped-decorator]
def sweep() -> None:
    if upkeep.sweep(inbox, log, store):
        nudge()


@app.task(name=bus.CATCH_UP)  # type: ignore[untyped-decorator]
def catch_up(projection: str) -> None:
    projections.catch_up(log, read_model, projections.PROJECTIONS[projection])


def nudge() -> None:
    """Tell every projection that there is news. A nudge that gets lost only delays until beat's next."""
    try:
        for name in projections.PROJECTIONS:
            bus.send(app, bus.CATCH_UP, name)
    except bus.BrokerDown as error:
        logging.getLogger(__name__).warning("no nudge: %s", error)


@setup_logging.connect  # type: ignore[untyped-decorator]
def log_plainly(**_: Any) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
    logging.getLogger("celery").setLevel(logging.WARNING)
