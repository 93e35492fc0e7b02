"""One trace from the request to the projections, as a collector gets it, and none where nobody asks for one."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.collector import Span, collector
from tests.support.service import Service, clean_environment, eventually, free_port
from tests.support.stores import JOHN

Start = Callable[..., Service]

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"

NEVER = "600000"
"""Milliseconds: what is sent, is sent when a role stops."""

ASK = """
import sys
from shared.telemetry import tracing
tracing.set_up('api')
print(tracing.on(), 'opentelemetry' in sys.modules)
"""


@pytest.mark.long
def test_a_request_and_all_that_comes_of_it_are_one_trace(service: Start) -> None:
    with collector() as (endpoint, spans):
        running = service(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY=NEVER).ready()
        answer = post(running, "01")
        post(running, "00")  # the caller's tracing samples, and not this one
        running.http.get("/users/?email=01@example.com&limit=5&active=true")
        running.http.get("/users/?%65mail=01@example.com&01@example.com")
        eventually(lambda: {each["lag"] for each in running.http.get("/readyz").json()["projections"].values()} == {0})
        event = running.http.get("/events/").json()[0]
        assert running.stop() == 0
    root = spans_named(spans, "POST /users/")[0]
    accept = spans_named(spans, "accept CreateUser")[0]
    followers = [
        *spans_named(spans, "handle CreateUser"),
        *(each for each in spans if each.name.startswith("project ")),
    ]
    assert {each.trace for each in spans if each.service != "cqrs-api"} == {root.trace, accept.trace} == {TRACE}
    assert (root.parent, accept.parent) == (CALLER, root.id)
    assert {each.parent for each in followers} == {accept.id}
    assert sorted((each.service, each.name) for each in followers) == [
        ("cqrs-command-worker-1", "handle CreateUser"),
        *(("cqrs-projection-worker-1", f"project {name}") for name in ("emails", "stats", "users")),
    ]
    assert {each.attributes["cqrs.command_id"] for each in followers} == {event["metadata"]["command_id"]}
    assert answer.headers["traceparent"] == f"00-{TRACE}-{root.id}-01"
    queries = [each.attributes["url.query"] for each in spans_named(spans, "GET /users/")]
    assert queries == ["email=REDACTED&limit=5&active=true", "email=REDACTED&REDACTED="]
    assert "@example.com" not in str(spans)


def post(running: Service, flags: str) -> Any:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-{flags}", "Prefer": "wait=10"}
    answer = running.http.post("/users/", json={**JOHN, "email": f"{flags}@example.com"}, headers=headers)
    assert answer.status_code == 201
    return answer


def spans_named(spans: list[Span], name: str) -> list[Span]:
    return [each for each in spans if each.name == name]


@pytest.mark.long
def test_p8_a_collector_that_is_gone_holds_nothing_up(service: Start) -> None:
    running = service(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}").ready()
    assert running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"}).status_code == 201
    assert running.stop() == 0
    assert "did not stop" not in running.log.read_text()


def test_without_otel_variables_nothing_is_imported_and_nothing_traced() -> None:
    assert asked(ASK) == "False False\n"


def test_without_the_extra_a_line_says_so_and_nothing_is_traced() -> None:
    without = f"import sys; sys.modules['opentelemetry.sdk'] = None; {ASK}"
    said = asked(without, OTEL_TRACES_EXPORTER="otlp")
    assert "the extra `otel` is not installed" in said
    assert "False" in said


def asked(code: str, **environment: str) -> str:
    command, env = [sys.executable, "-c", code], clean_environment() | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout + done.stderr
