"""A projection worker hangs or dies in the middle of a chunk: others go on, in its place or in other projections."""

import os
import signal
from collections.abc import Callable

import pytest

from shared.settings import Settings
from tests.operations.test_poison import BUGS
from tests.support.service import Service, eventually
from tests.support.stores import JOHN

Start = Callable[..., Service]

pytestmark = pytest.mark.both_engines


def held(running: Service) -> int:
    """Have a worker hang in the middle of a chunk of the users; returns its process."""
    for name in ("a", "holds", "b"):
        running.http.post("/users/", json={**JOHN, "email": f"{name}@example.com"})
    link = running.data_dir / "held"
    eventually(link.is_symlink)
    return int(link.readlink().name)


def urls(settings: Settings) -> dict[str, str]:
    names = ("inbox_url", "event_store_url", "read_model_url")
    return {f"CQRS_{name.upper()}": url for name in names if (url := getattr(settings, name))}


def test_p6_a_worker_killed_in_the_middle_of_a_chunk_is_followed_by_another_within_10_s(
    service: Start, settings: Settings
) -> None:
    running = service("--projection-workers", "2", **BUGS, **urls(settings)).ready()
    os.kill(held(running), signal.SIGKILL)
    eventually(lambda: [user["user_id"] for user in running.http.get("/users/").json()] == [1, 2, 3], within=10)
    eventually(lambda: [day["users"] for day in running.http.get("/stats").json()] == [3])
    assert running.answers("/readyz")


def test_a_projection_that_hangs_holds_up_no_other_and_does_not_keep_its_worker_from_stopping(
    service: Start, settings: Settings
) -> None:
    running = service(**BUGS, **urls(settings)).ready()
    held(running)
    running.http.post("/users/", json={**JOHN, "email": "later@example.com"})
    eventually(lambda: running.http.get("/users/", params={"email": "LATER@example.com"}).json())
    eventually(lambda: [day["users"] for day in running.http.get("/stats").json()] == [4])
    assert running.http.get("/users/4").status_code == 404
    assert running.stop() == 0
    log = running.log.read_text()
    assert "does not end: left as it is projection=users" in log
    assert "killed" not in log
