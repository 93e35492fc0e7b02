"""Steps that Celery runs when a worker's consumer starts: signs of life, and task events for who asks for them."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from kombu.common import ignore_errors

from shared.broker import bus
from shared.telemetry import metrics

SHOW_EVERY = 2.0
"""Seconds between two signs of life."""

ROLES = {bus.COMMANDS: "command-worker", bus.PROJECTIONS: "projection-worker"}
"""The role of a worker, by the queue that it takes messages from."""


class AfterTasks(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step that runs once the consumer takes messages."""

    requires = ("celery.worker.consumer.tasks:Tasks",)


def add_to(app: Celery, alive_file: Path | None) -> None:
    """Add the steps to the consumers of an app's workers."""

    class Alive(AfterTasks):
        """Shows from the loop that runs a worker's tasks that it is alive: when they hang, so does this."""

        def start(self, consumer: Any) -> None:
            once = partial(show_alive, alive_file, [ROLES.get(queue, queue) for queue in app.amqp.queues.consume_from])
            once()
            consumer.timer.call_repeatedly(SHOW_EVERY, once)

    class EventsOnDemand(AfterTasks):
        """Sends task events once somebody like Flower asks for them: Celery's own workers always do, or never can."""

        dispatcher: Any = None

        def start(self, consumer: Any) -> None:
            if consumer.event_dispatcher:  # the command line asked for them
                return
            self.dispatcher = consumer.event_dispatcher = app.events.Dispatcher(
                consumer.connection_for_write(),  # which it makes when it first sends something
                hostname=consumer.hostname,
                groups=["worker"],  # of which nothing is ever sent; who asks adds "task"
                buffer_group=["task"],
                on_send_buffered=consumer.on_send_event_buffered,
            )
            consumer.update_strategies()  # they were made without

        def stop(self, consumer: Any) -> None:
            if self.dispatcher:
                ignore_errors(consumer, self.dispatcher.connection.close)
                self.dispatcher = consumer.event_dispatcher = None

    app.steps["consumer"].update({Alive, EventsOnDemand})


def show_alive(file: Path | None, roles: Iterable[str]) -> None:
    """Touch the file, if there is one, and set the metric of each role to the present time."""
    if file:
        file.touch()
    for role in roles:
        metrics.SEEN.labels(role).set_to_current_time()
