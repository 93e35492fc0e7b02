"""A service of its own for every test that needs one: real files, real processes, real Valkey."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import psutil
import pytest
from sqlalchemy import Engine

from cli.init import init
from shared import database
from shared.settings import Settings

T = TypeVar("T")


class Stores(NamedTuple):
    settings: Settings
    inbox: Engine
    events: Engine
    read_model: Engine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    init(settings)
    opened = Stores(
        settings,
        database.writer(settings.inbox),
        database.writer(settings.event_store),
        database.writer(settings.read_model, durable=False),
    )
    yield opened
    for engine in opened[1:]:
        engine.dispose()


class Service:
    """A running `cqrs up`."""

    def __init__(self, data_dir: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_suffix(".log")
        own = {"CQRS_DATA_DIR": str(data_dir), "CQRS_API_PORT": str(self.port)}
        self.environment = {**clean_environment(), **own, **environment}
        self.process = self.run("cli", "up", *arguments)
        self.http = httpx.Client(base_url=self.url, timeout=35)

    def run(self, *module: str) -> psutil.Popen:
        """Another process with the same settings, `python -m …`."""
        with self.log.open("ab") as log:
            return psutil.Popen(
                [sys.executable, "-m", *module],
                cwd=self.log.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> "Service":
        """Wait until a command would go all the way."""
        eventually(lambda: self.answers("/livez"), within=30)
        for name in ("command-worker", "projection-worker", "beat"):
            eventually(partial(self.role, name))
        eventually(lambda: self.answers("/readyz"), within=30)
        return self

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return answers(self.http, path)

    def role(self, name: str) -> psutil.Process | None:
        """The process of a role, found by the words of its command line."""
        word = {"api": "api.main:app", "valkey": "valkey-server"}.get(name, name)
        for child in self.process.children():
            with contextlib.suppress(psutil.Error):
                if any(re.search(f"(^|/){word}", part) for part in child.cmdline()):
                    return child
        return None

    def kill(self, name: str) -> None:
        role = self.role(name)
        assert role, f"no {name} is running"
        role.kill()
        role.wait(5)

    def stop(self, number: int = signal.SIGTERM, within: float = 20) -> int:
        self.http.close()
        children = self.process.children(recursive=True) if self.process.is_running() else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(within)
        _, left = psutil.wait_procs(children, timeout=0)
        assert not left, f"still running: {left}"
        return int(code)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services, and stops them at the end."""
    started: list[Service] = []

    def start(*arguments: str, port: int | None = None, **environment: str) -> Service:
        started.append(Service(tmp_path / "data", *arguments, port=port, **environment))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that only talk to it."""
    service = Service(tmp_path_factory.mktemp("service") / "data")
    try:
        yield service.ready()
    finally:
        service.stop()


def answers(http: httpx.Client, path: str) -> bool:
    """Whether a health check says that all is well."""
    try:
        answer = http.get(path)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["status"] in ("alive", "ready")


def eventually(condition: Callable[[], T | None], *, within: float = 10) -> T:
    """What the condition returns once it is true; fails when it isn't within so many seconds."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """The environment, without settings of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CQRS_")}
