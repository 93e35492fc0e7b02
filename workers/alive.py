"""Signs of life for health checks: a file that each process touches as long as it gets round to its work."""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.signals import after_task_publish, beat_init

EVERY = 2.0
"""Seconds."""


def show(app: Celery, file: Path) -> None:
    """Workers touch the file from the loop that also runs their tasks, beat when it has sent a message."""

    def touch(**_: Any) -> None:
        file.touch()

    def touch_when_sent(**_: Any) -> None:
        after_task_publish.connect(touch, weak=False)

    class Alive(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            touch()
            consumer.timer.call_repeatedly(EVERY, touch)

    app.steps["consumer"].add(Alive)
    beat_init.connect(touch_when_sent, weak=False)
