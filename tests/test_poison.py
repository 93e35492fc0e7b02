"""Rules and projections with bugs, in the running service: each harms what it is about, and nothing else."""

from collections.abc import Callable
from pathlib import Path

from tests.helpers import JOHN
from tests.service import Service, eventually

Start = Callable[..., Service]

BUGS = {"PYTHONPATH": str(Path(__file__).parent / "poison")}

KINDS = {
    "raises": "ZeroDivisionError: a bug",
    "exits": "Died: it ended",
    "hangs": "Hung: deciding took longer than 3 s",
}


def command(service: Service, path: str) -> dict[str, str]:
    body: dict[str, str] = service.http.get(path).json()
    return body


def test_p8_a_rule_that_raises_exits_or_hangs_fails_its_command_alone_within_a_minute(service: Start) -> None:
    running = service(**BUGS).ready()
    for name in [*KINDS, "other"]:
        running.http.post("/users/", json={**JOHN, "email": f"{name}.first@example.com"})
    worker = running.role("command-worker")
    assert worker
    worker.suspend()  # so that all of them are in one transaction
    bad, behind = {}, {}
    for user_id, kind in enumerate(KINDS, 1):
        answer = running.http.put(f"/users/{user_id}", json={"email": f"{kind}@example.com"})
        bad[kind] = answer.headers["location"]
        answer = running.http.put(f"/users/{user_id}", json={"email": f"{kind}.behind@example.com"})
        behind[kind] = answer.headers["location"]
    other = running.http.put("/users/4", json={"email": "other@example.com"}).headers["location"]
    worker.resume()
    eventually(lambda: command(running, other)["status"] == "succeeded", within=40)
    assert {command(running, path)["status"] for path in bad.values()} == {"accepted"}
    for kind, path in bad.items():
        eventually(lambda: command(running, path)["status"] == "failed", within=60)  # noqa: B023
        assert KINDS[kind] in running.http.get(path).json()["problem"]["detail"]
    for path in behind.values():
        eventually(lambda: command(running, path)["status"] == "succeeded", within=10)  # noqa: B023
    assert "in decide" in running.log.read_text()
