"""Telling of tasks, once somebody like Flower asks: Celery's workers either always do, or never can."""

from typing import Any

from celery import Celery, bootsteps
from kombu.common import ignore_errors


def tell_on_demand(app: Celery) -> None:
    class Telling(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)
        teller: Any = None

        def start(self, consumer: Any) -> None:
            if consumer.event_dispatcher:  # it was told on the command line to tell
                return
            self.teller = consumer.event_dispatcher = app.events.Dispatcher(
                consumer.connection_for_write(),  # which it makes when it first sends something
                hostname=consumer.hostname,
                groups=["worker"],  # of which nothing is ever sent; who asks adds "task"
                buffer_group=["task"],
                on_send_buffered=consumer.on_send_event_buffered,
            )
            consumer.update_strategies()  # they were made without

        def stop(self, consumer: Any) -> None:
            if self.teller:
                ignore_errors(consumer, self.teller.connection.close)
                self.teller = consumer.event_dispatcher = None

    app.steps["consumer"].add(Telling)
