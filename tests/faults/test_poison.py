"""Rules and a projection with bugs, in the running service: each harms what it is about, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cqrs
from tests.support.service import Service, eventually, up
from tests.support.stores import JOHN

BUGS = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "poison")}

KINDS = {
    "raises": "ZeroDivisionError: a bug",
    "panics": "Panic: a bug",
    "exits": "Died: it ended",
    "hangs": "Hung: deciding took longer than 5 s in decide, tests/support/poison/sitecustomize.py:",
}

HANGING = 5
"""Commands besides."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with bugs, which is empty when the first test has it."""
    with up(tmp_path_factory.mktemp("poison") / "data", **BUGS) as running:
        yield running


def test_p6_a_projection_stops_before_an_event_it_can_not_apply_and_goes_on_once_it_can(running: Service) -> None:
    for name in ("a", "unapplicable", "b"):
        running.http.post("/users/", json={**JOHN, "email": f"{name}@example.com"})
    stopped = {"position": 1, "lag": 2, "paused": False, "stopped": {"event": 2, "error": "ZeroDivisionError: a bug"}}
    eventually(lambda: running.http.get("/readyz").json()["projections"]["users"] == stopped)
    assert running.http.get("/readyz").json()["status"] == "degraded"
    assert [user["user_id"] for user in running.http.get("/users/").json()] == [1]
    assert "stopped by event 2: ZeroDivisionError: a bug" in cqrs(running.settings, "projections", "status", code=1)
    running.kill("projection-worker")
    (running.data_dir / "mended").touch()
    eventually(lambda: [user["user_id"] for user in running.http.get("/users/").json()] == [1, 2, 3])
    assert running.answers("/readyz")
    assert running.log.read_text().count("stops before an event projection=users position=2") == 1
    assert json.loads(cqrs(running.settings, "projections", "status", "--json"))["users"] == {
        "position": 3,
        "lag": 0,
        "paused": False,
        "stopped": None,
    }
    (running.data_dir / "mended").unlink()


def test_p8_a_rule_that_raises_exits_or_hangs_fails_its_command_alone_within_a_minute(running: Service) -> None:
    first = [{**JOHN, "email": f"{name}.first@example.com"} for name in [*KINDS, "other"]]
    *users, another = [running.http.post("/users/", json=each).json()["user_id"] for each in first]
    worker = running.role("command-worker")
    assert worker
    worker.suspend()  # so that all that follow are in one transaction
    bad, behind = [], []
    for user_id, kind in zip(users, KINDS, strict=True):
        bad.append(change(running, user_id, f"{kind}@example.com"))
        behind.append(change(running, user_id, f"{kind}.behind@example.com"))
    hanging = [running.http.post("/users/", json={**JOHN, "email": f"hangs@{n}.example.com"}) for n in range(HANGING)]
    other = change(running, another, "other@example.com")
    worker.resume()
    eventually(lambda: shown(running, other)["status"] == "succeeded", within=40)
    assert {shown(running, path)["status"] for path in bad} == {"accepted"}
    for path, why in zip(bad, KINDS.values(), strict=True):
        eventually(lambda: shown(running, path)["status"] == "failed", within=60)  # noqa: B023
        assert why in shown(running, path)["problem"]["detail"]
    for answer in hanging:
        eventually(lambda: shown(running, answer.headers["location"])["status"] == "failed", within=10)  # noqa: B023
    for path in behind:
        eventually(lambda: shown(running, path)["status"] == "succeeded")  # noqa: B023
    assert "in decide" in running.log.read_text()  # where it hung
    list_show_and_retry(running, bad)


def list_show_and_retry(running: Service, bad: list[str]) -> None:
    ids = [path.removeprefix("/commands/") for path in bad]
    failed = json.loads(cqrs(running.settings, "commands", "list", "--failed", "--json"))
    assert [each["command_id"] for each in failed][HANGING:] == ids[::-1]
    assert ids[3] in cqrs(running.settings, "commands", "list", "--failed")
    detail = json.loads(cqrs(running.settings, "commands", "show", ids[3]))
    assert (detail["type"], detail["data"]["email"], detail["status"]) == (
        "UpdateUserEmail",
        "hangs@example.com",
        "failed",
    )
    (running.data_dir / "mended").touch()
    cqrs(running.settings, "commands", "retry", ids[3])
    eventually(lambda: shown(running, bad[3])["status"] == "succeeded")
    assert shown(running, bad[3])["version"] == 3
    assert "only a failed command is retried" in cqrs(running.settings, "commands", "retry", ids[3], code=1)
    assert "no command x was accepted" in cqrs(running.settings, "commands", "show", "x", code=1)


def change(running: Service, user_id: int, email: str) -> str:
    """Where the accepted command is."""
    answer = running.http.put(f"/users/{user_id}", json={"email": email})
    assert answer.status_code == 202
    return answer.headers["location"]


def shown(running: Service, path: str) -> dict[str, Any]:
    body: dict[str, Any] = running.http.get(path).json()
    return body
