"""What Flower lives on: workers that tell of their tasks once they are asked to, and say nothing before."""

from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest
from celery import Celery

from shared.broker import bus
from shared.settings import Settings
from tests.support.service import Service
from tests.support.stores import JOHN
from tests.support.trouble import new_email

LISTENS = 3.0
"""Seconds. A command is sent in the first of them."""


@pytest.fixture
def app(shared_service: Service) -> Iterator[Celery]:
    app = bus.celery(Settings(data_dir=shared_service.data_dir, _env_file=None), socket_timeout=5)
    yield app
    app.control.disable_events()


def heard(app: Celery, running: Service) -> set[tuple[str, str]]:
    """Which worker told of which task, while a command goes all the way."""
    told: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": told.append})
        Timer(1, running.http.post, ("/users/",), {"json": {**JOHN, "email": new_email()}}).start()
        Timer(LISTENS, setattr, (receiver, "should_stop", True)).start()
        receiver.capture(wakeup=False)
    names = {each["uuid"]: each["name"] for each in told if each["type"] == "task-received"}
    return {(each["hostname"].partition("@")[0], names[each["uuid"]]) for each in told if each.get("uuid") in names}


@pytest.mark.long
def test_workers_tell_of_their_tasks_once_they_are_asked_to(app: Celery, shared_service: Service) -> None:
    assert heard(app, shared_service) == set()
    counted = app.control.inspect(timeout=5).stats().values()
    assert {name for each in counted for name in each["total"]} == {"handle_commands", "catch_up"}
    app.control.enable_events()
    assert heard(app, shared_service) == {("command-worker-1", "handle_commands"), ("projection-worker-1", "catch_up")}
