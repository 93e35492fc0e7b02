"""A clock that is set back, or forth: promises hold by numbers, and waits by a clock that only goes on."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.support import keys
from tests.support.service import Service, eventually
from tests.support.stores import JOHN, Stores, accept, create
from tests.support.trouble import new_email

CLOCK = """
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
    int code = syscall(SYS_clock_gettime, clock, at);
    if (clock == CLOCK_REALTIME && !access(FLAG, F_OK)) at->tv_sec -= 3600;
    return code;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return at ? *at = now.tv_sec : now.tv_sec;
}
"""


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """While this file is there, it is an hour earlier for who has `clock.so` preloaded."""
    flag, source = tmp_path / "an-hour-earlier", tmp_path / "clock.c"
    source.write_text(CLOCK)
    if sys.platform != "linux" or not shutil.which("cc"):
        pytest.skip("the clock is set back with LD_PRELOAD and a C compiler")
    compile_ = ["cc", "-shared", "-fPIC", f'-DFLAG="{flag}"', "-o", str(tmp_path / "clock.so"), str(source)]
    subprocess.run(compile_, check=True)
    return flag


def is_visible(running: Service, user_id: int) -> bool:
    return running.http.get(f"/users/{user_id}").status_code == 200


def hours_behind(running: Service) -> int:
    """By the time at which a command was accepted, which is visible then."""
    command = running.http.post("/users/", json={**JOHN, "email": new_email()}).json()
    eventually(partial(is_visible, running, command["user_id"]))
    return round((datetime.now(UTC) - datetime.fromisoformat(command["accepted_at"])).total_seconds() / 3600)


def test_p1_the_clock_may_be_set_back_an_hour_and_forth(
    service: Callable[..., Service], stores: Stores, tmp_path: Path, flag: Path
) -> None:
    running = service(LD_PRELOAD=str(tmp_path / "clock.so")).ready()
    roles = running.pids()
    for set_clock, hours in ((flag.touch, 1), (flag.unlink, 0)):
        set_clock()
        assert hours_behind(running) == hours
        [command] = accept(stores, create(new_email()))  # of which no message tells: the worker looks by itself
        eventually(partial(is_visible, running, int(command.stream.removeprefix("user-"))))
    assert running.pids() == roles


def test_p10_a_clock_that_is_set_back_brings_no_revoked_key_back(
    service: Callable[..., Service], stores: Stores, tmp_path: Path, flag: Path
) -> None:
    """Expiry goes by the clock: it comes an hour later then, and at once when the clock is right again."""
    settings = stores.settings
    lasting, expiring, revoked = (keys.add(settings, "reader", seconds=each) for each in (None, 1, None))
    running = service(LD_PRELOAD=str(tmp_path / "clock.so"), CQRS_AUTH="on").ready()

    def statuses() -> list[int]:
        return [running.http.get("/", headers=keys.bearer(each)).status_code for each in (lasting, expiring, revoked)]

    keys.revoke(settings, revoked)
    eventually(lambda: statuses() == [200, 401, 401])
    flag.touch()
    eventually(lambda: statuses() == [200, 200, 401])
    flag.unlink()
    eventually(lambda: statuses() == [200, 401, 401])
