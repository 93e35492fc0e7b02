"""A projection worker hangs or dies in the middle of a chunk: others go on, in its place or in other projections."""

import os
import signal
from collections.abc import Iterator

import pytest

from shared.settings import Settings
from tests.faults.test_poison import BUGS
from tests.support.service import Service, eventually, stores_of, up
from tests.support.stores import JOHN

pytestmark = pytest.mark.both_engines


@pytest.fixture
def running(settings: Settings) -> Iterator[Service]:
    with up(settings.data_dir, "--projection-workers", "2", **BUGS, **stores_of(settings)) as running:
        yield running


def held(running: Service, name: str) -> int:
    """Have a worker hang in the middle of a chunk of the users; returns its process."""
    link = running.data_dir / "held"
    link.unlink(missing_ok=True)
    for address in (f"a@{name}.example.com", f"holds@{name}.example.com", f"b@{name}.example.com"):
        assert running.http.post("/users/", json={**JOHN, "email": address}).status_code == 202
    eventually(link.is_symlink)
    return int(link.readlink().name)


def shown(running: Service) -> list[int]:
    return [user["user_id"] for user in running.http.get("/users/").json()]


def test_p6_a_worker_killed_in_a_chunk_is_followed_by_another_within_10_s_and_one_that_hangs_holds_up_no_other(
    running: Service,
) -> None:
    """Nor does it keep its worker from stopping."""
    os.kill(held(running, "killed"), signal.SIGKILL)
    eventually(lambda: shown(running) == [1, 2, 3], within=10)
    eventually(lambda: [day["users"] for day in running.http.get("/stats").json()] == [3])
    eventually(lambda: running.answers("/readyz"))
    held(running, "hangs")
    running.http.post("/users/", json={**JOHN, "email": "later@example.com"})
    eventually(lambda: running.http.get("/users/", params={"email": "LATER@example.com"}).json())
    eventually(lambda: [day["users"] for day in running.http.get("/stats").json()] == [7])
    assert running.http.get("/users/7").status_code == 404
    assert running.stop() == 0
    log = running.log.read_text()
    assert "does not end: left as it is projection=users" in log
    assert "did not stop" not in log
