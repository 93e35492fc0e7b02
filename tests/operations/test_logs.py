"""What roles say: lines of one format, by which a command is followed from its request to its projections."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import Request, Response

from api.http.routing import Router
from api.main import create_app
from shared.settings import Settings
from shared.telemetry import logs
from tests.support.command_line import told
from tests.support.service import Service, clean_environment, eventually, up
from tests.support.stores import JOHN

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TRAIL = {
    ("api", "accepted", ""),
    ("command-worker-1", "handled", ""),
    *(("projection-worker-1", "projected", name) for name in ("users", "emails", "stats")),
}

SAY = """
import logging
from shared.telemetry import logs
from shared.settings import Settings
log = logs.logger()
logs.set_up("api@host", Settings())
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a bug", command_id="c")
logging.getLogger("kombu").warning("%s is away", "redis")
logging.getLogger("kombu").info("as libraries are")
log.debug("as little as this")
print("and on it goes")
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with up(tmp_path_factory.mktemp("service") / "data", CQRS_LOG_FORMAT="json") as service:
        yield service


def lines(running: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.read_text().splitlines()]


def trail(running: Service, metadata: dict[str, str]) -> set[tuple[str, str, str]]:
    """The role, the event and the projection of the lines that have all the metadata."""
    of_it = [line for line in lines(running) if line.items() >= metadata.items()]
    return {(line["role"].partition("@")[0], line["event"], line.get("projection", "")) for line in of_it}


def post(running: Service, name: str, **headers: str) -> httpx.Response:
    user = {**JOHN, "email": f"{name}@example.com"}
    return running.http.post("/users/", json=user, headers={name.replace("_", "-"): v for name, v in headers.items()})


def test_a_command_is_followed_by_its_request_id_from_the_request_to_the_projections(running: Service) -> None:
    answer = post(running, "a", X_Request_ID="order-42/a", traceparent=TRACEPARENT)
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("order-42/a", TRACEPARENT)
    command = answer.json()
    metadata = {"command_id": command["command_id"], "correlation_id": "order-42/a", "traceparent": TRACEPARENT}
    metadata |= {"principal": "local"}
    eventually(lambda: trail(running, metadata) == TRAIL)
    shown = running.http.get(answer.headers["location"]).json()
    assert (command["correlation_id"], shown["correlation_id"]) == ("order-42/a", "order-42/a")
    assert running.http.get("/events/").json()[0]["metadata"] == metadata
    settings = Settings(data_dir=running.data_dir, _env_file=None)
    assert told(settings, "commands", "show", command["command_id"])["metadata"]["correlation_id"] == "order-42/a"


def test_every_line_of_every_role_is_json_with_time_level_and_role(running: Service) -> None:
    post(running, "b")
    running.restart("command-worker")
    eventually(lambda: any("starts again" in line["event"] for line in lines(running)))
    for line in lines(running):
        assert list(line)[:4] == ["timestamp", "level", "role", "event"]
        assert line["role"].partition("@")[2]


def test_a_request_sent_again_finds_the_command_of_the_first(running: Service) -> None:
    first = post(running, "c", X_Request_ID="first", Idempotency_Key="k")
    again = post(running, "c", X_Request_ID="again", Idempotency_Key="k")
    assert (again.headers["x-request-id"], again.json()["correlation_id"]) == ("again", "first")
    assert again.json() == first.json()


@pytest.mark.parametrize("value", ["", "a b", "a\tb", "ä", "x" * 129, '{"a":1}', "a,b"])
def test_a_request_id_that_is_not_one_is_replaced(running: Service, value: str) -> None:
    answer = running.http.get("/livez", headers={b"X-Request-ID": value.encode()})
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("value", [TRACEPARENT[:-1], f"ff{TRACEPARENT[2:]}", TRACEPARENT.upper(), "0" * 55])
def test_a_traceparent_that_is_not_one_is_dropped(running: Service, value: str) -> None:
    assert "traceparent" not in running.http.get("/livez", headers={"traceparent": value}).headers


def test_two_requests_have_different_ids(running: Service) -> None:
    first, second = (running.http.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/users/", 405),
        ("GET", "/users/x", 404),
        ("GET", "/users/?x", 422),
        ("GET", "/bug", 500),
    ],
)
def test_every_error_has_the_id_of_its_request(tmp_path: Path, method: str, path: str, status: int) -> None:
    app = create_app(Settings(data_dir=tmp_path, _env_file=None))

    router = Router()

    @router.get("/bug", role="public")
    async def bug(request: Request) -> Response:
        raise ZeroDivisionError

    app.router.routes.extend(router.routes)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers={"X-Request-ID": "mine"})

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")


@pytest.mark.parametrize(
    ("level", "count", "said"),
    [
        (logging.INFO, 1, [{"event": "handled", "succeeded": 1, "command_id": 0}]),
        (logging.INFO, 2, [{"event": "handled", "succeeded": 2}]),
        (
            logging.DEBUG,
            2,
            [*({"event": "handled", "command_id": number} for number in (0, 1)), {"event": "handled", "succeeded": 2}],
        ),
    ],
)
def test_a_batch_is_told_in_a_line_and_at_debug_each_of_it(level: int, count: int, said: list[Any]) -> None:
    told: list[Any] = []

    def keep(_: Any, __: str, fields: Any) -> Any:
        told.append(fields)
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, [keep], wrapper_class=structlog.make_filtering_bound_logger(level))
    logs.tell(log, "handled", range(count), lambda number: {"command_id": number}, succeeded=count)
    assert told == said


def test_libraries_and_tracebacks_are_lines_like_all_others() -> None:
    bug, away = (json.loads(line) for line in said("json").stderr.splitlines())
    assert (bug["event"], bug["level"], bug["role"], bug["command_id"]) == ("a bug", "error", "api@host", "c")
    assert "ZeroDivisionError" in bug["exception"]
    assert (away["event"], away["level"], away["logger"]) == ("redis is away", "warning", "kombu")


def test_on_a_console_they_are_for_people() -> None:
    lines = said("console").stderr.splitlines()
    assert "[error    ] a bug command_id=c" in lines[0]
    assert any("[warning  ] redis is away" in line for line in lines)


def test_p8_a_line_that_can_not_be_written_costs_nothing_else() -> None:
    with Path("/dev/full").open("wb") as full:
        assert said("json", full).stdout == "and on it goes\n"


def said(format: str, stderr: Any = subprocess.PIPE) -> Any:
    command, env = [sys.executable, "-c", SAY], clean_environment() | {"CQRS_LOG_FORMAT": format}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=True)
