"""Metrics: right with several processes and across kills, and never in the way when a store is in trouble."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from api.routes.metrics import STORE_TIMEOUT, gauges
from api.service import Service as ApiService
from cli.status import status
from shared.clock import written
from shared.database.sqlite import path_of
from shared.domain.users.read_models.users import users
from shared.messages import RecordedEvent
from shared.settings import Settings
from shared.stores import event_store
from shared.telemetry import metric_files, metrics
from tests.support.service import Service, clean_environment, environment, eventually, free_port, start
from tests.support.stores import JOHN, Stores, accept, create
from tests.support.trouble import locked, new_email
from workers import reporting
from workers.projecting.runner import catch_up

Start = Callable[..., Service]

COUNT = """
import resource, sys
from resource import RLIMIT_FSIZE
hard = resource.getrlimit(RLIMIT_FSIZE)[1]
resource.setrlimit(RLIMIT_FSIZE, (int(sys.argv[1]), hard))
from cli.status import status
from shared.stores import event_store
from shared.telemetry import metrics
def count():
    for number in range(700):
        metrics.ACCEPTED.labels(f"Type{number}").inc()
count()
resource.setrlimit(RLIMIT_FSIZE, (hard, hard))
count()
print(metrics.exposition().decode())
"""
"""A limit on files is what a full disk is: no room beyond."""


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    lines = (re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line) for line in text.splitlines())
    wanted = [f'{label}="{its}"' for label, its in labels.items()]
    return sum(float(line[2]) for line in lines if line and all(each in (line[1] or "") for each in wanted))


@contextmanager
def grows(name: str, by: float, **labels: str) -> Iterator[None]:
    before = REGISTRY.get_sample_value(name, labels) or 0
    yield
    assert (REGISTRY.get_sample_value(name, labels) or 0) - before == pytest.approx(by)


@pytest.mark.long
def test_the_api_shows_all_processes_of_a_machine_and_what_is_counted_stays_when_they_are_killed(
    service: Start,
) -> None:
    running = service("--command-workers", "2").ready()

    def shown() -> str:
        return running.http.get("/metrics").text

    def all_is_counted(commands: int) -> bool:
        text = shown()
        visible = [value(text, "cqrs_handled_to_visible_seconds_count", projection=each) for each in ("users", "stats")]
        handled = value(text, "cqrs_commands_handled_total", type="CreateUser", status="succeeded")
        accepted = value(text, "cqrs_commands_accepted_total")
        timed = value(text, "cqrs_accepted_to_handled_seconds_count")
        return {accepted, handled, timed, *visible} == {commands}

    def post(count: int) -> None:
        for _ in range(count):
            assert running.http.post("/users/", json={**JOHN, "email": new_email()}).status_code == 202

    post(20)
    eventually(partial(all_is_counted, 20))
    with running.http.stream("GET", "/events/stream"):
        assert value(shown(), "cqrs_feed_clients") == 1
    eventually(lambda: value(shown(), "cqrs_feed_clients") == 0)
    before = files(running)
    for name in ("command-worker", "projection-worker", "api"):
        running.restart(name)
    assert all_is_counted(20)
    assert files(running) == before, "they would grow with each kill"
    post(5)
    eventually(partial(all_is_counted, 25))
    for role in ("command-worker", "projection-worker"):
        assert time.time() - value(shown(), "cqrs_role_seen_timestamp_seconds", role=role) < 30


def test_to_import_a_role_opens_no_file_and_its_counters_are_shown_from_0(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
import api.main, workers.handling.handler
from shared.telemetry import metrics
print(list(Path({str(tmp_path)!r}).iterdir()))
metrics.show_zeros()
print(metrics.exposition().decode())
"""
    env = clean_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("[]\n")
    assert 'cqrs_commands_handled_total{status="failed",type="CreateUser"} 0.0' in done.stdout
    assert "cqrs_accepted_to_handled_seconds_count 0.0" in done.stdout


def files(service: Service) -> set[Path]:
    """In which all roles count."""
    api = service.role("api")
    assert api
    return set(Path(api.environ()["PROMETHEUS_MULTIPROC_DIR"]).iterdir())


def counted(folder: Path, room: int) -> Any:
    """With so many bytes for a file, and then with as many as it needs."""
    env = clean_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(folder), "CQRS_PROCESS": "api"}
    command = [sys.executable, "-c", COUNT, str(room)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)


def test_p8_a_full_disk_costs_only_that_metrics_are_not_shared_and_those_that_have_a_file_are_later(
    tmp_path: Path,
) -> None:
    done = counted(tmp_path, metric_files.FIRST_SIZE)
    assert value(done.stdout, "cqrs_commands_accepted_total") == 1400
    assert done.stderr.count("no room for metrics") == 1
    for file in tmp_path.iterdir():
        assert file.stat().st_blocks * 512 >= file.stat().st_size, "to touch a page without room ends the process"


def test_p8_without_room_for_any_file_a_process_counts_for_itself(tmp_path: Path) -> None:
    assert counted(tmp_path, 0).stderr.count("no room for metrics") == 1


def test_a_worker_shows_its_metrics_at_a_port_that_it_is_given(stores: Stores) -> None:
    port = free_port()
    own = environment(stores.settings) | {"CQRS_METRICS_PORT": str(port), "CQRS_REDIS_URL": "redis://127.0.0.1:1/0"}
    process = start(["celery", "-A", "workers.app", "worker", "-Q", "commands"], stores.settings.data_dir, own)
    try:
        text = eventually(partial(text_at, f"http://127.0.0.1:{port}/metrics"), within=30)
    finally:
        process.kill()
        process.wait(30)
    assert "cqrs_commands_handled_total{" in text
    assert "process_resident_memory_bytes" in text


def text_at(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.TransportError:
        return ""


def test_requests_are_known_by_route_not_by_path(shared_service: Service) -> None:
    def count(route: str, status: int) -> float:
        text = shared_service.http.get("/metrics").text
        return value(text, "cqrs_http_request_duration_seconds_count", method="GET", route=route, status=str(status))

    before = count("/users/{user_id}", 404), count("none", 404)
    shared_service.http.get("/users/123456789")
    shared_service.http.get("/nothing/there")
    assert (count("/users/{user_id}", 404), count("none", 404)) == (before[0] + 1, before[1] + 1)
    assert "123456789" not in shared_service.http.get("/metrics").text


def told(settings: Settings) -> dict[str, float]:
    """What the stores say."""

    async def ask() -> list[Any]:
        service = ApiService(settings)
        try:
            return list(gauges(await service.conditions.look(STORE_TIMEOUT)))
        finally:
            await service.close()

    samples = [sample for family in asyncio.run(ask()) for sample in family.samples]
    return {"/".join([sample.name.removeprefix("cqrs_"), *sample.labels.values()]): sample.value for sample in samples}


@pytest.mark.both_engines
def test_backlog_and_lag_are_what_the_stores_say(stores: Stores) -> None:
    accept(stores, create(), create("b@example.com"))
    waiting = told(stores.settings)
    stores.handler.handle()
    handled = told(stores.settings)
    catch_up(stores.events, stores.read_model, users)
    projected = told(stores.settings)
    assert (waiting["backlog_commands"], handled["backlog_commands"]) == (2, 0)
    assert waiting["backlog_oldest_seconds"] > 0 == handled["backlog_oldest_seconds"]
    assert (handled["projection_lag_events/users"], projected["projection_lag_events/users"]) == (2, 0)
    assert handled["projection_lag_seconds/users"] > 0 == projected["projection_lag_seconds/users"]
    assert projected["projection_lag_events/stats"] == projected["log_position"] == 2
    assert projected["projection_stopped/users"] == 0
    assert [projected[f"dependency_up/{name}"] for name in ("inbox", "event_store", "read_model")] == [1, 1, 1]


@pytest.mark.parametrize("time_", ["yesterday", "2026-01-31T12:00:00"])
def test_a_time_in_the_log_that_is_none_holds_up_nothing(stores: Stores, time_: str) -> None:
    data = '{"user_id":1,"first_name":"a","last_name":"b","email":"a@example.com"}'
    with stores.events.begin() as connection:
        event_store.load(connection, [RecordedEvent(1, "user-1", 1, "UserCreated", data, "{}", time_, 1)])
    assert told(stores.settings)["projection_lag_seconds/users"] >= 0
    assert status(stores.settings)["projections"]["users"]["lag"] == 1
    assert not catch_up(stores.events, stores.read_model, users)
    assert told(stores.settings)["projection_lag_events/users"] == 0


@pytest.mark.parametrize("broken", ["inbox", "event_store"])
def test_a_store_in_trouble_leaves_out_what_it_would_say_and_no_more(stores: Stores, broken: str) -> None:
    accept(stores, create())
    stores.handler.handle()
    path_of(getattr(stores.settings, broken)).unlink()
    shown = told(stores.settings)
    other = {"inbox": "event_store", "event_store": "inbox"}[broken]
    assert (shown[f"dependency_up/{broken}"], shown[f"dependency_up/{other}"]) == (0, 1)
    assert "backlog_commands" not in shown
    assert ("projection_lag_events/users" in shown) == (broken == "inbox")


def test_a_store_that_hangs_holds_metrics_up_for_seconds_only(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: object, *_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("api.reading.store.Store.read", hang)
    began = time.monotonic()
    shown = told(stores.settings)
    assert time.monotonic() - began < 10  # a second for each of two rounds
    assert shown["dependency_up/inbox"] == shown["dependency_up/event_store"] == 0


def test_tries_in_vain_and_failures_are_counted_by_type(stores: Stores, poison: None) -> None:
    accept(stores, create("poison@example.com"), create())
    with (
        grows("cqrs_command_retries_total", 2, type="CreateUser"),
        grows("cqrs_commands_handled_total", 1, type="CreateUser", status="failed"),
        grows("cqrs_commands_handled_total", 1, type="CreateUser", status="succeeded"),
    ):
        stores.handler.handle()
        for _ in range(3):
            stores.handler.retry()


def test_a_writer_that_waits_for_another_is_counted_and_timed(stores: Stores) -> None:
    with grows("cqrs_sqlite_busy_seconds_count", 1, store="inbox"):
        accept(stores, create())
        with locked(path_of(stores.settings.inbox)):
            waits = Thread(target=accept, args=[stores, create("b@example.com")])
            waits.start()
            waits.join(0.3)
            assert waits.is_alive()
        waits.join(30)
    assert (REGISTRY.get_sample_value("cqrs_sqlite_busy_seconds_sum", {"store": "inbox"}) or 0) > 0.2


def test_a_rebuild_is_not_taken_for_a_long_way_to_the_read_model() -> None:
    old, new = (written(datetime.now(UTC) - timedelta(minutes=minutes)) for minutes in (61, 1))
    events = [RecordedEvent(1, "user-1", 1, "UserCreated", "{}", "{}", time_, 1) for time_ in (old, new)]
    with grows("cqrs_handled_to_visible_seconds_count", 1, projection="users"):
        reporting.projected(users, events, began=0, replayed=True)


def test_observed_many_times_is_as_observed_one_by_one() -> None:
    several, one_by_one = (
        Histogram("seconds", "", registry=CollectorRegistry(), buckets=metrics.SECONDS) for _ in range(2)
    )
    for amount in (0.0, 0.001, 0.3, 60.0, 1e9):
        metrics.observe(several, amount, 3)
        for _ in range(3):
            one_by_one.observe(amount)
    assert [*several.collect()] == [*one_by_one.collect()]
