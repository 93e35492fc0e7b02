"""Signs of life, from the loop that also runs a worker's tasks: a file for health checks, and a metric."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps

from shared.broker import bus
from shared.telemetry import metrics

EVERY = 2.0
"""Seconds."""

ROLES = {bus.COMMANDS: "command-worker", bus.PROJECTIONS: "projection-worker"}
"""By the queue that they take from."""


def show_always(app: Celery, file: Path | None) -> None:
    """Have workers show that they are alive as long as they get round to their work. Beat does so by itself."""

    class Alive(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            once = partial(show, file, [ROLES.get(queue, queue) for queue in app.amqp.queues.consume_from])
            once()
            consumer.timer.call_repeatedly(EVERY, once)

    app.steps["consumer"].add(Alive)


def show(file: Path | None, roles: Iterable[str]) -> None:
    if file:
        file.touch()
    for role in roles:
        metrics.SEEN.labels(role).set_to_current_time()
