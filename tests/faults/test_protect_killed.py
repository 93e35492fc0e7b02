"""`cqrs protect` is killed between its steps and within them: the log is whole, and the next run finishes it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.stores import protect
from shared.settings import Settings
from tests.support.command_line import told
from tests.support.older import EMIL, as_stored, fill, found, take
from tests.support.service import clean_environment, environment, eventually
from tests.support.stores import erase, update

STEPS = {
    "rewriting.seal_commands": 1,
    "rewriting.seal_events": 1,
    "rewriting._write": 3,
    "protect._scrub": 1,
    "scrubbing._empty_log": 2,
}
"""Functions before whose call it is killed, and at the how manieth."""

KILLED = """
import os, signal, sys
from cli.main import app
from cli.stores import protect, rewriting
from shared.database import scrubbing
from shared.stores import event_store

room, _, name = sys.argv[1].rpartition(".")
left, do = int(sys.argv[2]), getattr(eval(room), name)

def die(*given):
    global left
    left -= 1
    return do(*given) if left else os.kill(os.getpid(), signal.SIGKILL)

setattr(eval(room), name, die)
event_store.PAGE_SIZE = 1
app(["protect"])
"""


def kill(settings: Settings, step: str) -> None:
    command = [sys.executable, "-c", KILLED, step, str(STEPS[step])]
    env = clean_environment() | environment(settings)
    done = subprocess.run(command, check=False, env=env, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    eventually(lambda: not protect._used(settings.event_store))


@pytest.mark.both_engines
def test_killed_at_any_step_it_leaves_a_log_that_is_whole_and_the_next_run_finishes(
    made: Callable[[Path], Settings], tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    old = made(tmp_path / "data")
    fill(old)
    for n, step in enumerate(STEPS):
        if engine == "postgresql" and "scrubbing" in step:
            continue
        before = as_stored(old)
        kill(old, step)
        if "rewriting" in step:
            assert as_stored(old) == before
            assert protect.is_due(old)
            take(old, update(1, f"{n}@example.org"), erase(1))  # that is refused
        assert told(old, "verify")["well"]
    done = told(old, "protect")
    assert (done["events"], done["commands"]) == (0, 0)
    assert len([each for each in told(old, "audit") if each["type"] == "LogProtected"]) == 1
    assert found(old, request) == set()
    assert EMIL in told(old, "events", "show", "3")["data"].values()
