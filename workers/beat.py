"""Celery beat without a calendar: it wakes the workers at a steady pace, also when the clock is set back."""

from contextlib import suppress
from random import uniform
from typing import Any

from celery.beat import Scheduler

from shared.broker import bus
from workers import bootsteps
from workers.app import WAKE_EVERY, app, settings, wake


class Beat(Scheduler):  # type: ignore[misc]
    """Celery's own goes by the time of day, and stands still for the hour by which that is set back."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Returns the seconds to the next."""
        for task in bus.QUEUES:
            wake(task)
        with suppress(*bus.BrokerDown):
            bus.show_beat(app, lasts=3 * WAKE_EVERY)
        bootsteps.show_alive(settings.alive_file, [bus.BEAT])
        # Redis gives a message to who has waited longest, and workers ask anew each second: at a steady pace it would
        # always be the same one, and one that can't do what is to be done would keep it from one that can.
        return WAKE_EVERY + uniform(0, 0.5)  # noqa: S311 nobody is to be kept from guessing it
