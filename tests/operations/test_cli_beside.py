"""`cqrs` beside a service that runs: a backup under load, a restore that is refused, the log followed."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from cli.status import status
from shared.settings import Settings
from tests.support.command_line import cqrs, told
from tests.support.service import Service, clean_environment, eventually, up
from tests.support.stores import JOHN, Stores, accept, create, elsewhere
from tests.support.trouble import new_email

WAIT = {"Prefer": "wait=10"}


def at(folder: Path) -> Settings:
    return Settings(data_dir=folder, _env_file=None)


def position(running: Service) -> int:
    shown: int = running.http.get("/readyz").json()["projections"]["users"]["position"]
    return shown


def accepted(settings: Settings) -> int:
    number: int = status(settings)["commands"]["accepted"]
    return number


def test_a_backup_under_load_is_whole_and_has_all_that_was_acknowledged(
    shared_service: Service, tmp_path: Path
) -> None:
    running, enough = shared_service, Event()
    before, commands = position(running), accepted(running.settings)

    def post() -> list[str]:
        known: list[str] = []
        with httpx.Client(base_url=running.url, timeout=35) as http:
            while not enough.is_set():
                answer = http.post("/users/", json={**JOHN, "email": new_email()})
                known.append(answer.json()["command_id"])
        return known

    with ThreadPoolExecutor() as clients:
        posting = [clients.submit(post) for _ in range(3)]
        try:
            eventually(lambda: position(running) > before + 20, within=60)
            known = running.http.post("/users/", json={**JOHN, "email": new_email()}).json()["command_id"]
            cqrs(running.settings, "backup", str(tmp_path / "backup"))
        finally:
            enough.set()
        acknowledged = {each for client in posting for each in client.result(60)}
    restored = elsewhere(running.settings, tmp_path / "restored")
    taken = told(restored, "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "backup.keys"))
    assert taken["last_event"] > before + 20
    assert taken["last_command"] <= commands + len(acknowledged) + 1
    assert json.loads(cqrs(restored, "commands", "show", known))["command_id"] == known
    assert told(restored, "verify")["well"]


def test_a_running_service_is_not_replaced(shared_service: Service, tmp_path: Path) -> None:
    cqrs(shared_service.settings, "backup", str(tmp_path / "backup"))
    said = cqrs(shared_service.settings, "restore", str(tmp_path / "backup"), code=1)
    assert "is in use by `cqrs up`" in said
    assert shared_service.answers("/readyz")


@pytest.mark.long
def test_a_service_goes_on_from_what_was_restored(stores: Stores, tmp_path: Path) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(3)))
    stores.handler.handle()
    accept(stores, create("waits@example.com"))
    cqrs(stores.settings, "backup", str(tmp_path / "backup"))
    restored = elsewhere(stores.settings, tmp_path / "restored")
    cqrs(restored, "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "backup.keys"))
    with up(tmp_path / "restored") as running:
        eventually(lambda: len(running.http.get("/users/").json()) == 4, within=30)
        assert running.http.post("/users/", json=JOHN).json()["user_id"] == 5


def test_events_are_followed_as_they_happen(shared_service: Service) -> None:
    def post() -> None:
        body = {**JOHN, "email": new_email()}
        assert shared_service.http.post("/users/", json=body, headers=WAIT).status_code == 201

    post()
    last = position(shared_service)
    command = [sys.executable, "-m", "cli", "events", "tail", "-n", "1", "--follow", "--json"]
    environment = clean_environment() | {"CQRS_DATA_DIR": str(shared_service.data_dir), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert json.loads(following.stdout.readline())["id"] == last
        for n in (1, 2):
            post()
            assert json.loads(following.stdout.readline())["id"] == last + n
        following.terminate()
        following.wait(20)
