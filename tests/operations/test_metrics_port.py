"""The port of a worker's metrics: open on this machine, elsewhere for operators alone."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection

from cli.errors import Refused
from cli.stores.init import init
from shared.access.keys import new_key
from shared.access.roles import ROLES
from shared.database import engines
from shared.database.sqlite import path_of
from shared.operations import key_table
from shared.operations.key_table import KnownKey
from shared.settings import Settings
from shared.stores import event_store
from tests.support.keys import add, bearer, revoke
from tests.support.service import environment, eventually, free_port, start
from tests.support.stores import Stores
from workers.metrics_port import MAX_THREADS, Guard, serve

WORKER = ["celery", "-A", "workers.app", "worker", "-Q", "commands"]


def guarded(settings: Settings) -> httpx.Client:
    """Something that is guarded, asked without a network."""

    def app(environ: object, start: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        start("200 OK", [])
        return [b"counted"]

    return httpx.Client(transport=httpx.WSGITransport(Guard(app, settings.event_store)), base_url="http://worker")


def asked(http: httpx.Client, text: str | None = None, scheme: str = "Bearer") -> tuple[int, str, str]:
    """The status, the challenge and what is shown."""
    headers = {} if text is None else {"Authorization": f"{scheme} {text}"}
    answer = http.get("/metrics", headers=headers)
    return answer.status_code, answer.headers.get("www-authenticate", ""), answer.text


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.metrics_port.LOOK_EVERY", -1.0)


@pytest.mark.both_engines
def test_p10_metrics_are_for_operators_alone(stores: Stores, at_once: None) -> None:
    http, key = guarded(stores.settings), add(stores.settings, "operator")
    assert asked(http, key.text) == asked(http, key.text, "bearer") == (200, "", "counted")
    others = add(stores.settings, *(role for role in ROLES if role != "operator"))
    status, challenge, shown = asked(http, others.text)
    assert (status, 'error="insufficient_scope", scope="operator"' in challenge) == (403, True)
    assert "counted" not in shown
    mistyped = key.text[:-1] + ("0" if key.text[-1] != "0" else "1")
    for text in (mistyped, new_key(key.id).text, add(stores.settings, "operator", seconds=-1).text, ""):
        status, challenge, shown = asked(http, text)
        assert (status, challenge.startswith("Bearer "), "counted" in shown) == (401, True, False), text
    assert [asked(http)[0], asked(http, key.text, "Basic")[0], asked(http, f"{key.text}, {key.text}")[0]] == [401] * 3
    revoke(stores.settings, key)
    assert asked(http, key.text)[0] == 401


def test_p10_when_keys_can_t_be_read_nobody_is_let_in(stores: Stores, at_once: None) -> None:
    http, key = guarded(stores.settings), add(stores.settings, "operator")
    assert asked(http, key.text)[0] == 200
    path_of(stores.settings.event_store).unlink()
    assert asked(http, key.text)[0] == 503
    assert asked(http)[0] == 401


@pytest.mark.long
def test_p8_clients_without_a_key_can_not_take_a_workers_threads(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("workers.metrics_port.PATIENCE", 1.0)
    port, before = free_port(), threading.active_count()
    serve(stores.settings.model_copy(update={"metrics_host": "127.0.0.1", "metrics_port": port, "auth": "on"}))
    with ExitStack() as clients:
        for _ in range(2 * MAX_THREADS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            with suppress(ConnectionError):
                client.sendall(b"GET /met")
        time.sleep(0.2)
        assert threading.active_count() <= MAX_THREADS
        eventually(lambda: threading.active_count() <= before + 1)
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 401
    assert "Traceback" not in capfd.readouterr().err


def test_callers_can_t_make_a_worker_read_the_table_again_and_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, looks = key_table.all_keys, list[Connection]()

    def look(connection: Connection) -> list[KnownKey]:
        looks.append(connection)
        return read(connection)

    monkeypatch.setattr(key_table, "all_keys", look)
    http = guarded(stores.settings)
    assert {asked(http, new_key().text)[0] for _ in range(20)} == {401}
    assert len(looks) == 1


@pytest.mark.processes
def test_a_worker_s_port_is_closed_where_others_may_reach_it_and_open_on_this_machine(stores: Stores) -> None:
    key = add(stores.settings, "operator")
    with worker(stores.settings, CQRS_METRICS_HOST="0.0.0.0") as url:
        assert httpx.get(url).status_code == 401
        allowed = httpx.get(url, headers=bearer(key))
        assert (allowed.status_code, "cqrs_commands_handled_total{" in allowed.text) == (200, True)
    with worker(stores.settings, CQRS_METRICS_HOST="0.0.0.0", CQRS_AUTH="off") as url:
        assert httpx.get(url).status_code == 200
    with worker(stores.settings, CQRS_AUTH="on") as url:
        assert httpx.get(url).status_code == 401


@contextmanager
def worker(settings: Settings, **own: str) -> Iterator[str]:
    """A worker's port, once it answers."""
    port = str(free_port())
    given = environment(settings) | {"CQRS_METRICS_PORT": port, "CQRS_REDIS_URL": "redis://127.0.0.1:1/0"} | own
    process = start(WORKER, settings.data_dir, given)
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        eventually(partial(is_there, url), within=30)
        yield url
    finally:
        process.kill()
        process.wait(30)


def is_there(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code)
    except httpx.TransportError:
        return False


def test_init_makes_the_keys_known_that_come_with_an_installation_once(tmp_path: Path) -> None:
    operator, prometheus = new_key(), new_key()
    settings = Settings(
        data_dir=tmp_path / "data", operator_key=operator.text, prometheus_key=prometheus.text, _env_file=None
    )
    init(settings)
    with engines.reading(settings.event_store) as connection:
        assert event_store.last_position(connection) == 0
    revoke(settings, prometheus)
    init(settings)
    with engines.reading(settings.event_store) as connection:
        known = {(each.id, each.name, *each.roles, each.state) for each in key_table.all_keys(connection)}
    assert known == {
        (operator.id, "operator", "operator", "active"),
        (prometheus.id, "prometheus", "operator", "revoked"),
    }


def test_init_refuses_a_key_that_is_none_without_showing_it(tmp_path: Path) -> None:
    key = new_key().text[:-1] + "x"
    settings = Settings(data_dir=tmp_path / "data", operator_key=key, _env_file=None)
    with pytest.raises(Refused, match="CQRS_OPERATOR_KEY is no key") as refused:
        init(settings)
    assert key not in str(refused.value)
