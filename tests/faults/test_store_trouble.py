"""Trouble with a store: what callers get, and that the service goes on by itself when it is over."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pysqlite3.dbapi2 as sqlite3
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from shared.database.sqlite import BUSY_TIMEOUT
from shared.domain.users.read_models.users import users
from tests.support.service import Service, eventually
from tests.support.stores import JOHN, Stores, accept, create
from tests.support.trouble import goes_all_the_way, locked, new_email, posting
from workers.projecting import runner

STORES = ("inbox", "event_store", "read_model")

WRITERS = {"inbox": "api", "event_store": "command-worker", "read_model": "projection-worker"}

PAGE = 4096
"""Bytes."""

LOCKED = 15 if os.environ.get("LONG") else 11
"""Seconds, more than a writer waits."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each store and the data dir: a small disk of its own, where this may be had."""
    folder = tmp_path_factory.mktemp("stores")
    disks = [folder / name for name in (*STORES, "data")]
    for disk in disks:
        disk.mkdir()
        with suppress(FileNotFoundError):
            mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
            subprocess.run(mount, capture_output=True, check=False)
    yield folder
    for disk in filter(Path.is_mount, disks):
        subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    """One service for all the trouble."""
    urls = {f"CQRS_{store.upper()}_URL": f"sqlite:///{folder / store / 'store.db'}" for store in STORES}
    service = Service(folder / "data", port=None, **urls)
    try:
        service.ready()
        eventually(lambda: post(service).status_code == 201)  # so that each role has its stores open
        yield service
    finally:
        service.stop()


def file_of(folder: Path, store: str) -> Path:
    return folder / store / ("store-users.db" if store == "read_model" else "store.db")


@contextmanager
def resumes(running: Service, *restarted: str) -> Iterator[list[httpx.Response]]:
    """After the block, all that was answered 202 in it is visible, and only the roles named are other processes."""
    others = [role for role in WRITERS.values() if role not in restarted]
    before = running.pids(*others)
    answers: list[httpx.Response] = []
    yield answers
    eventually(lambda: running.answers("/readyz"))
    goes_all_the_way(running, answers)
    assert running.pids(*others) == before


def post(running: Service) -> httpx.Response:
    return running.http.post("/users/", json={**JOHN, "email": new_email()}, headers={"Prefer": "wait=1"})


def is_refused(answer: httpx.Response) -> bool:
    problem = answer.status_code, answer.json().get("type"), answer.headers.get("retry-after")
    return problem == (503, "/problems/store-unavailable", "1")


def post_without(running: Service, store: str) -> httpx.Response:
    """What a caller gets while a store can't be written: a command can't be accepted, handled, or seen."""
    answer = post(running)
    if store == "inbox":
        assert is_refused(answer)
        return answer
    assert answer.status_code == 202
    command = running.http.get(answer.headers["location"]).json()
    assert command["status"] == ("accepted" if store == "event_store" else "succeeded")
    assert running.http.get(command["links"]["user"]).status_code == 404
    return answer


def checkpoint(file: Path) -> None:
    """Move all of the write-ahead log into the file, and make it empty."""
    with closing(sqlite3.connect(file, timeout=10)) as connection:
        blocked, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not blocked


@contextmanager
def full(disk: Path) -> Iterator[None]:
    if not disk.is_mount():
        pytest.skip("only root can mount a small disk")
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as everything, suppress(OSError):
        while True:
            everything.write(bytes(65536))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("store", STORES)
def test_p8_a_disk_may_be_full(running: Service, folder: Path, store: str) -> None:
    checkpoint(file_of(folder, store))
    with resumes(running) as answers, full(folder / store):
        answers.append(post_without(running, store))


def test_p8_the_disk_of_everything_may_be_full(running: Service, folder: Path) -> None:
    with resumes(running) as answers, ExitStack() as disks:
        for store in STORES:
            checkpoint(file_of(folder, store))
            disks.enter_context(full(folder / store))
        disks.enter_context(full(folder / "data"))
        eventually(lambda: running.http.get("/readyz").json()["dependencies"]["redis"] != "ok", within=20)
        answers.append(post_without(running, "inbox"))
        assert running.http.get("/users/").status_code == 200


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    file.chmod(0o444)
    try:
        yield
    finally:
        file.chmod(0o644)


@pytest.mark.parametrize("store", STORES)
def test_p8_a_file_may_be_made_read_only(running: Service, folder: Path, store: str) -> None:
    with resumes(running, WRITERS[store]) as answers, read_only(file_of(folder, store)):
        answers.append(post(running))
        assert answers[0].status_code == 201, "who has it open goes on writing"
        running.restart(WRITERS[store])
        answers.append(post_without(running, store))


@contextmanager
def corrupt(file: Path) -> Iterator[None]:
    """Every page but the first is garbage."""
    checkpoint(file)
    pages = file.read_bytes()
    with file.open("r+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), os.urandom(len(pages) - PAGE), PAGE)
        try:
            yield
        finally:
            os.pwrite(opened.fileno(), pages[PAGE:], PAGE)


@pytest.mark.parametrize("store", STORES)
def test_p8_pages_may_be_corrupt(running: Service, folder: Path, store: str) -> None:
    roles = sorted({"api", WRITERS[store]})
    with resumes(running, *roles) as answers, corrupt(file_of(folder, store)):
        for role in roles:
            running.restart(role)
        answers.append(post(running))
        if store == "inbox":
            assert is_refused(answers[0])
        else:
            assert answers[0].status_code == 202
            assert is_refused(running.http.get("/events/" if store == "event_store" else "/users/"))
        ready = running.http.get("/readyz")
        down = "down: corrupt"
        expected = (200, f"users {down}") if store == "read_model" else (503, down)  # other projections are well
        assert (ready.status_code, ready.json()["dependencies"][store]) == expected


def test_p8_all_stores_may_be_locked(running: Service, folder: Path) -> None:
    with resumes(running) as answers:
        with posting(running) as posted, ExitStack() as locks:
            for store in ("read_model", "event_store"):
                locks.enter_context(locked(file_of(folder, store)))
                answers.append(post_without(running, store))
            before = len(posted)
            locks.enter_context(locked(file_of(folder, "inbox")))
            until = time.monotonic() + LOCKED
            while time.monotonic() < until:
                for path in ("/users/", "/events/", answers[0].headers["location"]):
                    answer = running.http.get(path)
                    assert (answer.status_code, answer.elapsed.total_seconds() < 2) == (200, True)
        answers.extend(posted)
    assert all(answer.status_code == 202 and answer.elapsed.total_seconds() < 1 for answer in posted[:before])
    refused = [answer for answer in posted if answer.status_code != 202]
    assert refused
    assert all(map(is_refused, refused))
    assert max(answer.elapsed.total_seconds() for answer in posted) < BUSY_TIMEOUT + 2


def accept_hundred(stores: Stores) -> int:
    return len(accept(stores, *(create(new_email()) for _ in range(100))))


def handle(stores: Stores) -> int:
    return stores.handler.handle()


def project(stores: Stores) -> int:
    runner.catch_up(stores.events, stores.read_model, users)
    with stores.read_model.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM users").scalar() or 0)


@pytest.mark.parametrize("store", STORES)
def test_p4_what_a_full_store_can_not_take_it_takes_whole_when_there_is_space(stores: Stores, store: str) -> None:
    steps: dict[str, Callable[[Stores], int]] = {"inbox": accept_hundred, "event_store": handle, "read_model": project}
    for before in STORES[: STORES.index(store)]:
        assert steps[before](stores) == 100
    engine = dict(zip(STORES, (stores.inbox, stores.events, stores.read_model), strict=True))[store]

    def limit(connection: Any, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine.dispose()
    event.listen(engine, "connect", limit)
    for _ in range(2):
        with pytest.raises(OperationalError, match="full"):
            steps[store](stores)
    event.remove(engine, "connect", limit)
    assert steps[store](stores) == 100
