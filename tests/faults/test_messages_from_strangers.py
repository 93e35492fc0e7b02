"""Whoever reaches Redis can send anything to workers: nothing of it stops one."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from shared.broker import address, bus, remote
from shared.settings import Settings
from tests.support.service import Service, eventually
from tests.support.trouble import goes_all_the_way

ID = "00000000-0000-0000-0000-000000000001"

FORBIDDEN: dict[str, dict[str, Any]] = {
    "cancel_consumer": {"queue": bus.COMMANDS},
    "add_consumer": {"queue": "celery"},
    "shutdown": {},
    "pool_shrink": {"n": 1},
    "pool_grow": {"n": 1},
    "pool_restart": {},
    "autoscale": {"max": 0, "min": 0},
    "rate_limit": {"task_name": bus.HANDLE_COMMANDS, "rate_limit": "1/h"},
    "time_limit": {"task_name": bus.HANDLE_COMMANDS, "hard": 0.001},
    "revoke": {"task_id": [ID]},
    "revoke_by_stamped_headers": {"headers": {"a": ["b"]}},
    "terminate": {"task_id": [ID], "signal": "KILL"},
    "election": {"id": ID, "topic": "x"},
    "objgraph": {},
}


@pytest.fixture
def app(shared_service: Service) -> Celery:
    return bus.celery(Settings(data_dir=shared_service.data_dir, _env_file=None), socket_timeout=5)


def client(app: Celery) -> Any:
    return app.connection_for_write().default_channel.client


def message(**headers: Any) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(bus._kept(bus.HANDLE_COMMANDS))
    return sent | {"headers": sent["headers"] | headers}


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


STRANGE = {
    "no JSON": b"\xff\xfe{",
    "nothing": b"",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "no message": b"{}",
    "no properties": json.dumps(message() | {"properties": None}).encode(),
    "unknown task": json.dumps(message(task="os.system")).encode(),
    "a task that is none": json.dumps(message(task=[])).encode(),
    "an id that is none": json.dumps(message(id=[])).encode(),
    "a time limit that is none": json.dumps(message(timelimit=5)).encode(),
    "years from now": json.dumps(message(eta="9999-01-01T00:00:00")).encode(),
    "no task's arguments": json.dumps(message() | {"body": encoded(b"[[1], {}, {}]")}).encode(),
    "pickle": json.dumps(message() | {"body": "gAQu", "content-type": "application/x-python-serialize"}).encode(),
    "compressed": json.dumps(message(compression="application/x-gzip")).encode(),
    "large": json.dumps(message() | {"body": "a" * 5_000_000}).encode(),
}


def test_nobody_can_tell_workers_to_stop(shared_service: Service, app: Celery) -> None:
    before = shared_service.pids()
    for command, arguments in FORBIDDEN.items():
        app.control.broadcast(command, arguments=arguments)
    asked = app.control.inspect(timeout=2)
    assert len(asked.active_queues()) == 2
    assert all(revoked == [] for revoked in asked.revoked().values())
    goes_all_the_way(shared_service, [])
    assert shared_service.pids() == before


def test_workers_heed_what_the_service_and_flower_ask_and_no_more(app: Celery) -> None:
    assert app.control.ping(timeout=2)
    for question in ("stats", "conf", "registered", "active", "reserved", "scheduled", "revoked", "active_queues"):
        assert len(getattr(app.control.inspect(timeout=2), question)()) == 2, question
    node = app.control.mailbox.Node("any", handlers=dict.fromkeys({*remote.ALLOWED, *FORBIDDEN}, print))
    assert node.handlers.keys() == remote.ALLOWED


def test_a_pattern_that_takes_years_to_match_is_not_tried(shared_service: Service, app: Celery) -> None:
    app.control.broadcast("ping", pattern="(.|.|.)*!", matcher="pcre")
    assert len(app.control.inspect(timeout=2).active_queues()) == 2


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_stands_in_a_queue_wakes_a_worker_and_does_nothing_else(
    shared_service: Service, app: Celery, name: str
) -> None:
    before = shared_service.pids()
    for queue in bus.QUEUES.values():
        client(app).lpush(queue, *[STRANGE[name]] * 3)
    eventually(lambda: set(bus.waiting(app).values()) == {0})
    goes_all_the_way(shared_service, [])
    assert shared_service.pids() == before


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"{}", b'{"body": "x", "properties": {}}'])
def test_a_broadcast_that_is_none_ends_no_worker(shared_service: Service, app: Celery, body: bytes) -> None:
    before = shared_service.pids()
    client(app).publish("/0.celery.pidbox", body)
    assert eventually(lambda: len(app.control.inspect(timeout=2).active_queues() or {}) == 2, within=20)
    assert shared_service.pids() == before


def test_two_installations_on_one_redis_see_only_their_own(shared_service: Service, tmp_path: Path) -> None:
    settings = Settings(data_dir=shared_service.data_dir, _env_file=None)
    other = bus.celery(
        Settings(data_dir=tmp_path, redis_url=address.url_of(settings), _env_file=None), socket_timeout=5
    )
    bus.wake(other, bus.HANDLE_COMMANDS)
    assert bus.waiting(other) == {bus.COMMANDS: 1, bus.PROJECTIONS: 0}, "nobody takes it"
    assert bus.alive(other, within=1) == {}
    assert len(bus.alive(bus.celery(settings, socket_timeout=5), within=2)) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql+psycopg://api:a@db/cqrs", "postgresql+psycopg://workers:b@db:5432/cqrs", True),
        ("postgresql+psycopg://api@db/cqrs", "postgresql+psycopg://api@db/other", False),
        ("postgresql+psycopg://api@db/cqrs", "postgresql+psycopg://api@db:5433/cqrs", False),
        ("sqlite:////a/events.db", "sqlite:////b/events.db", False),
    ],
)
def test_an_installation_is_where_its_event_store_is_whoever_asks(one: str, other: str, *, same: bool) -> None:
    keys = "postgresql+psycopg://db/keys"
    both = [Settings(event_store_url=url, subjects_url=keys, _env_file=None) for url in (one, other)]
    assert (len({*map(address.namespace_of, both)}) == 1) == same
    named = [each.model_copy(update={"installation": "x"}) for each in both]
    assert set(map(address.namespace_of, named)) == {"x"}
