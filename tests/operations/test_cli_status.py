"""`cqrs status`: who is alive, what waits, how far each projection is."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.command_line import told
from tests.support.service import Service, clean_environment, eventually, free_port
from tests.support.stores import JOHN, Stores, accept, create

DOWN = {"CQRS_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.both_engines
def test_what_waits_is_counted_with_the_age_of_the_oldest(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(3)))
    status = told(stores.settings, "status", "--api", f"http://127.0.0.1:{free_port()}", code=1, **DOWN)
    assert (status["commands"]["accepted"], status["commands"]["waiting"]) == (3, 3)
    assert 0 < status["commands"]["oldest_seconds"] < 60
    assert status["roles"] == {"api": [], "command-worker": [], "projection-worker": [], "beat": []}
    stores.handler.handle()
    status = told(stores.settings, "status", "--api", f"http://127.0.0.1:{free_port()}", code=1, **DOWN)
    assert (status["commands"]["waiting"], status["commands"]["oldest_seconds"]) == (0, None)
    assert status["projections"]["users"]["lag"] == 3
    assert 0 < status["projections"]["users"]["seconds"] < 60


def test_roles_are_alive_as_long_as_they_answer(service: Callable[..., Service]) -> None:
    running = service("--command-workers", "2").ready()
    running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"})

    def well() -> bool:
        return bool(json.loads(status(running))["well"])

    eventually(well, within=30)
    roles = json.loads(status(running))["roles"]
    assert roles["api"] == [running.url]
    assert [name.partition("@")[0] for name in roles["command-worker"]] == ["command-worker-1", "command-worker-2"]
    assert (len(roles["projection-worker"]), len(roles["beat"])) == (1, 1)
    frozen = running.role("projection-worker")
    assert frozen
    frozen.send_signal(signal.SIGSTOP)
    try:
        assert (
            json.loads(running.cqrs("status", "--api", running.url, "--json", code=1))["roles"]["projection-worker"]
            == []
        )
        assert "none answers" in running.cqrs("status", "--api", running.url, code=1)
    finally:
        frozen.send_signal(signal.SIGCONT)
    eventually(well, within=30)


def test_beat_that_is_gone_is_missed_within_seconds(service: Callable[..., Service]) -> None:
    running = service().ready()
    frozen = running.role("beat")
    assert frozen
    eventually(lambda: json.loads(status(running))["roles"]["beat"], within=30)
    frozen.send_signal(signal.SIGSTOP)
    eventually(lambda: not json.loads(status(running))["roles"]["beat"], within=30)
    frozen.send_signal(signal.SIGCONT)


def test_watching_goes_on_until_it_is_interrupted(service: Callable[..., Service]) -> None:
    running = service().ready()
    command = [sys.executable, "-m", "cli", "status", "--api", running.url, "--watch", "--json"]
    environment = clean_environment() | {"CQRS_DATA_DIR": str(running.data_dir)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        seen = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    assert [each["commands"]["accepted"] for each in seen] == [0, 0, 0]


def status(running: Service) -> str:
    """Whatever its exit code."""
    command = [sys.executable, "-m", "cli", "status", "--api", running.url, "--json"]
    environment = clean_environment() | {"CQRS_DATA_DIR": str(running.data_dir)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False).stdout
