"""The service as processes: started, asked, killed, stopped."""

import contextlib
import ctypes
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
from typing import Any, TypeVar

import httpx
import psutil

from shared.settings import Settings

T = TypeVar("T")


class Service:
    """A running `cqrs up`."""

    def __init__(self, data_dir: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        own = {"CQRS_DATA_DIR": str(data_dir), "CQRS_API_PORT": str(self.port)}
        self.process = start(["cli", "up", *arguments], data_dir, own | environment)
        self.http = httpx.Client(base_url=self.url, timeout=35)

    @property
    def settings(self) -> Settings:
        """For commands beside the running service, unless its stores are elsewhere."""
        return Settings(data_dir=self.data_dir, api_port=self.port, _env_file=None)

    def ready(self) -> "Service":
        """Wait until a command would go all the way."""
        eventually(lambda: self.answers("/livez"), within=90)
        for name in ("command-worker", "projection-worker"):
            eventually(partial(self.role, name))
        eventually(lambda: self.answers("/readyz"), within=30)
        return self

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return answers(self.http, path)

    def role(self, name: str) -> psutil.Process | None:
        """The process of a role, found by the words of its command line."""
        word = {"api": "api$", "valkey": "valkey-server"}.get(name, name)
        for child in self.process.children():
            with contextlib.suppress(psutil.Error):
                if any(re.search(f"(^|/){word}", part) for part in child.cmdline()):
                    return child
        return None

    def pids(self, *names: str) -> list[int]:
        """Of these roles; of all but Redis, unless some are named."""
        roles = [self.role(name) for name in names or ("api", "command-worker", "projection-worker")]
        return [role.pid if role else 0 for role in roles]

    def kill(self, name: str) -> None:
        role = self.role(name)
        assert role, f"no {name} is running"
        role.kill()
        role.wait(30)

    def restart(self, name: str) -> None:
        """Kill a role and wait for the next one."""
        self.kill(name)
        eventually(partial(self.role, name))
        eventually(lambda: self.answers("/livez"), within=30)

    def stop(self, number: int = signal.SIGTERM, within: float = 30) -> int:
        self.http.close()
        children = self.process.children(recursive=True) if self.process.is_running() else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(within)
        _, left = psutil.wait_procs(children, timeout=0)
        assert not left, f"still running: {left}"
        return int(code)


@contextlib.contextmanager
def up(data_dir: Path, *arguments: str, **environment: str) -> Iterator[Service]:
    """A running `cqrs up`, ready for commands."""
    service = Service(data_dir, *arguments, port=None, **environment)
    try:
        yield service.ready()
    finally:
        service.stop()


@contextlib.contextmanager
def api(data_dir: Path, module: str = "api", **environment: str) -> Iterator[httpx.Client]:
    """One API process by hand, on a data dir that may have others."""
    port = free_port()
    own = {"CQRS_DATA_DIR": str(data_dir), "CQRS_API_PORT": str(port)} | environment
    process = start([module], data_dir, own)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=35) as http:
        try:
            eventually(lambda: answers(http, "/livez"), within=30)
            yield http
        finally:
            process.terminate()
            process.wait(30)


def start(module: list[str], data_dir: Path, environment: dict[str, str]) -> psutil.Popen:
    """`python -m …`, its output in a file beside the data dir."""
    with data_dir.with_suffix(".log").open("ab") as log:
        return psutil.Popen(
            [sys.executable, "-m", *module],
            cwd=data_dir.parent,
            env=clean_environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_the_child,
        )


def environment(settings: Settings) -> dict[str, Any]:
    """The variables that give a role those settings which aren't left to their defaults."""
    return settings.variables(exclude_unset=True)


def stores_of(settings: Settings) -> dict[str, str]:
    """Of these variables those without which a role that has the data dir wouldn't find the stores, or read them."""
    return {name: value for name, value in environment(settings).items() if name.endswith(("_URL", "_MASTER_KEY"))}


PR_SET_PDEATHSIG, PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 1, 24, 1
"""See prctl(2)."""

LIBC = ctypes.CDLL(None)


def in_the_child() -> None:
    """It ends with the tests, however they end; and a file that is read-only is read-only to root, too."""
    end_with_parent()
    if sys.platform == "linux":
        LIBC.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the system send this signal once the thread is gone that started this process."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, number)


def answers(http: httpx.Client, path: str) -> bool:
    """Whether a health check says that all is well."""
    try:
        answer = http.get(path)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["status"] in ("alive", "ready")


def eventually(condition: Callable[[], T | None], *, within: float = 30) -> T:
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
