"""Steps that Celery runs when a worker's consumer starts: looks for work, and task events on demand."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from celery import Celery, Task, bootsteps
from celery.worker import state, strategy
from celery.worker.strategy import logger
from kombu.common import ignore_errors

from shared.broker import bus
from shared.telemetry import metrics

LOOK_EVERY = 2.0
"""Seconds after which a worker looks for work by itself: a message that gets lost costs so much time at most."""

ROLES = {bus.COMMANDS: "command-worker", bus.PROJECTIONS: "projection-worker"}
"""The role of a worker, by the queue that it takes messages from."""


class AfterTasks(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step that runs once the consumer takes messages."""

    requires = ("celery.worker.consumer.tasks:Tasks",)


def add_to(
    app: Celery, connected: Callable[[], object], look: Callable[[], object], lost: Callable[[], object]
) -> None:
    """Add the steps to the consumers of an app's workers.

    They call `connected`, then `look` again and again, and `lost` whenever the consumer has to start anew.
    """

    class Look(AfterTasks):
        """Looks for work, from the loop that runs a worker's tasks."""

        def start(self, consumer: Any) -> None:
            connected()
            consumer.timer.call_repeatedly(LOOK_EVERY, look)

        def stop(self, consumer: Any) -> None:
            # Also if it never came to `start`: a broker that is full or read-only lets itself be connected to, and then
            # refuses what the consumer needs. It starts anew several times a second, with no look but this one.
            if consumer.blueprint.state == bootsteps.RUN:
                lost()

    class EventsOnDemand(AfterTasks):
        """Sends task events once somebody like Flower asks for them: Celery's own workers always do, or never can."""

        dispatcher: Any = None

        def start(self, consumer: Any) -> None:
            if consumer.event_dispatcher:  # the command line asked for them
                return
            self.dispatcher = consumer.event_dispatcher = app.events.Dispatcher(
                consumer.connection_for_write(),  # which it makes when it first sends something
                hostname=consumer.hostname,
                groups=["worker"],  # nothing of it is ever sent; whoever asks adds "task"
                buffer_group=["task"],
                on_send_buffered=consumer.on_send_event_buffered,
            )
            consumer.update_strategies()  # they were made without

        def stop(self, consumer: Any) -> None:
            if self.dispatcher:
                ignore_errors(consumer, self.dispatcher.connection.close)
                self.dispatcher = consumer.event_dispatcher = None

    app.steps["consumer"].update({Look, EventsOnDemand})


def at_once(task: Task, app: Celery, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's strategy for a task whose message names no work: run it, and keep nothing of the message.

    Where somebody watches tasks, as Flower does, it is Celery's own.
    """
    usual = strategy.default(task, app, consumer, **options)

    def receive(message: Any, body: Any, ack: Callable[..., object], *more: Any) -> None:
        events = consumer.event_dispatcher
        if events and (not events.groups or "task" in events.groups):
            usual(message, body, ack, *more)
            return
        ack(logger, consumer.connection_errors)
        state.total_count.update({task.name: 1})
        task.run()

    return receive


def show_alive(file: Path | None, queues: Iterable[str]) -> None:
    """Touch the file, if there is one, and set the metric of the worker's roles to the present time."""
    if file:
        file.touch()
    for queue in queues:
        metrics.SEEN.labels(ROLES.get(queue, queue)).set_to_current_time()
