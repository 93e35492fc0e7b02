"""Signs of life for health checks: a file that a worker touches from the loop that also runs its tasks."""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps

EVERY = 2.0
"""Seconds."""


def show(app: Celery, file: Path) -> None:
    """Have workers touch the file as long as they get round to their work. Beat touches it by itself."""

    class Alive(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            file.touch()
            consumer.timer.call_repeatedly(EVERY, file.touch)

    app.steps["consumer"].add(Alive)
