"""A rebuild that an operator asked for, whose worker is killed in the middle: the next worker does it."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.settings import Settings
from tests.faults.test_poison import BUGS
from tests.support.service import Service, eventually, stores_of, up
from tests.support.stores import JOHN

pytestmark = pytest.mark.both_engines

WAIT = {"Prefer": "wait=20"}


@pytest.fixture
def running(settings: Settings) -> Iterator[Service]:
    with up(settings.data_dir, **BUGS, **stores_of(settings)) as running:
        yield running


def test_p6_a_rebuild_whose_worker_is_killed_is_done_by_the_next_and_answers_stay_right(running: Service) -> None:
    http, held = running.http, running.data_dir / "held"
    held.symlink_to("nobody")  # what would hang goes by while it is there

    def told() -> Any:
        return http.get("/projections/users/rebuild").json()

    def create(address: str) -> httpx.Response:
        return http.post("/users/", json={**JOHN, "email": address}, headers=WAIT)

    assert [create(f"{name}@example.com").status_code for name in ("a", "holds", "b")] == [201] * 3
    held.unlink()
    asked = http.post("/projections/users/rebuild", headers=WAIT)
    assert (asked.status_code, asked.json()["status"]) == (202, "succeeded")
    assert eventually(lambda: held.is_symlink() and told())["stage"] == "filling"
    again = http.post("/projections/users/rebuild", headers=WAIT)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/rebuild-under-way")
    assert create("meanwhile@example.com").json()["user_id"] == 4

    os.kill(int(held.readlink().name), signal.SIGKILL)
    assert create("later@example.com").json()["user_id"] == 5
    done = eventually(lambda: found if (found := told())["stage"] == "done" else None, within=30)
    assert (done["by"], done["differences"]) == ("local", {"users": {"rows": 0, "columns": []}})
    assert [user["email"].partition("@")[0] for user in http.get("/users/").json()] == [
        "a",
        "holds",
        "b",
        "meanwhile",
        "later",
    ]
    assert create("after@example.com").status_code == 201
    assert http.get("/projections/").json()["users"]["lag"] == 0
