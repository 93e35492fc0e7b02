"""`cqrs status`: who is alive, what waits, how far each projection is."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.status import view_of
from tests.support.command_line import cqrs, told
from tests.support.service import Service, clean_environment, eventually, free_port, up
from tests.support.stores import JOHN, Stores, accept, create

DOWN = {"CQRS_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.both_engines
def test_what_waits_is_counted_with_the_age_of_the_oldest(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(3)))
    status = told(stores.settings, "status", "--api", f"http://127.0.0.1:{free_port()}", code=1, **DOWN)
    assert (status["commands"]["accepted"], status["commands"]["waiting"]) == (3, 3)
    assert 0 < status["commands"]["oldest_seconds"] < 60
    assert status["roles"] == {"api": [], "command-worker": [], "projection-worker": []}
    stores.handler.handle()
    status = told(stores.settings, "status", "--api", f"http://127.0.0.1:{free_port()}", code=1, **DOWN)
    assert (status["commands"]["waiting"], status["commands"]["oldest_seconds"]) == (0, None)
    assert status["projections"]["users"]["lag"] == 3
    assert 0 < status["projections"]["users"]["seconds"] < 60


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with up(tmp_path_factory.mktemp("status") / "data", "--command-workers", "2") as service:
        yield service


@contextmanager
def frozen(running: Service, role: str) -> Iterator[None]:
    process = running.role(role)
    assert process
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def status(running: Service) -> Any:
    """Whatever its exit code."""
    return view_of(running.settings, running.url).look()


def test_roles_are_alive_as_long_as_they_answer(running: Service) -> None:
    running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"})
    eventually(lambda: status(running)["well"], within=30)
    roles = status(running)["roles"]
    assert roles["api"] == [running.url]
    assert [name.partition("@")[0] for name in roles["command-worker"]] == ["command-worker-1", "command-worker-2"]
    assert len(roles["projection-worker"]) == 1
    with frozen(running, "projection-worker"):
        said = cqrs(running.settings, "status", "--api", running.url, "--json", code=1)
        assert json.loads(said)["roles"]["projection-worker"] == []
        assert "none answers" in cqrs(running.settings, "status", "--api", running.url, code=1)
    eventually(lambda: status(running)["well"], within=30)


def test_watching_goes_on_until_it_is_interrupted(running: Service) -> None:
    command = [sys.executable, "-m", "cli", "status", "--api", running.url, "--watch", "--json"]
    environment = clean_environment() | {"CQRS_DATA_DIR": str(running.data_dir)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        seen = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    accepted = status(running)["commands"]["accepted"]
    assert [each["commands"]["accepted"] for each in seen] == [accepted] * 3
