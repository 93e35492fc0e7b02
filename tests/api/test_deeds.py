"""What operators do over HTTP: commands like any other, and a key's text that is shown once."""

from typing import Any

import httpx

from shared.access.keys import key_of
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.service import eventually
from tests.support.stores import fail

WAIT = {"Prefer": "wait=10"}


def ask(closed: Closed, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """The answer to the operator."""
    given = keys.bearer(closed.keys["operator"]) | {name.replace("_", "-"): each for name, each in headers.items()}
    return closed.http.request(method, path, json=body, headers=given)


def done(closed: Closed, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    answer = ask(closed, method, path, body, Prefer="wait=10", **headers)
    command: dict[str, Any] = answer.json()
    assert (answer.status_code, command["status"]) == (202, "succeeded"), answer.text
    assert (answer.headers["location"], answer.headers["preference-applied"]) == (command["links"]["self"], "wait=10")
    assert command["principal"] == keys.principal(closed.keys["operator"])
    return command


def works(closed: Closed, text: str) -> bool:
    return closed.get("/", text).status_code == 200


def test_p10_a_key_is_made_rotated_and_revoked_and_its_text_is_shown_once(closed: Closed) -> None:
    body = {"name": "far", "roles": ["writer", "reader"], "expires_at": "2100-01-01T01:00:00+01:00"}
    command = done(closed, "POST", "/keys/", body, Idempotency_Key="far")
    key = key_of(command["key"])
    assert key
    eventually(lambda: works(closed, key.text))
    again = ask(closed, "POST", "/keys/", body, Idempotency_Key="far")
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()["command_id"], "key" in again.json()) == (command["command_id"], False)
    assert ask(closed, "POST", "/keys/", {**body, "name": "b"}, Idempotency_Key="far").status_code == 422

    rotated = key_of(done(closed, "POST", f"/keys/{key.id}/rotation")["key"])
    assert rotated
    eventually(lambda: works(closed, rotated.text) and not works(closed, key.text))
    third = done(closed, "POST", f"/keys/{key.id}/rotation", {"old_until": "2100-01-01T00:00:00Z"})["key"]
    eventually(lambda: works(closed, third) and works(closed, rotated.text))

    first = ask(closed, "DELETE", f"/keys/{key.id}", Idempotency_Key="revoke", **WAIT).json()
    eventually(lambda: not works(closed, third) and not works(closed, rotated.text))
    again = ask(closed, "DELETE", f"/keys/{key.id}", Idempotency_Key="revoke", **WAIT)
    assert (again.status_code, again.json()) == (202, first)
    assert ask(closed, "DELETE", f"/keys/{key.id}", **WAIT).json()["type"] == "/problems/key-revoked"
    for path in ("", "/rotation"):
        answer = ask(closed, "POST" if path else "DELETE", f"/keys/00000000{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/key-not-found")

    [listed] = [each for each in ask(closed, "GET", "/keys/").json() if each["id"] == key.id]
    expected = {"name": "far", "roles": ["reader", "writer"], "expires_at": "2100-01-01T00:00:00.000000Z"}
    assert listed == listed | expected | {"state": "revoked"}
    audit = [each for each in closed.get("/audit?limit=1000", closed.all).json() if each["data"].get("name") == "far"]
    assert [each["type"] for each in audit] == ["KeyAdded", "KeyRotated", "KeyRotated", "KeyRevoked"]
    assert {each["by"] for each in audit} == {keys.principal(closed.keys["operator"])}
    shown = [closed.get(path, closed.all).content for path in ("/keys/", "/audit?limit=1000", "/commands/?limit=1000")]
    kept = [path.read_bytes() for path in closed.settings.data_dir.glob("*.db*")]
    logged = closed.service.log.read_bytes()
    for text in (key.text, rotated.text, third):
        assert not [each for each in [*shown, *kept, logged] if text[14:-8].encode() in each]


def test_what_a_key_may_not_be_is_refused(closed: Closed) -> None:
    good = {"name": "a", "roles": ["reader"]}
    wrong: list[Any] = [{"name": name} for name in ("", "a b", "a\n", "é", "x" * 65)]
    wrong += [{"roles": roles} for roles in ([], ["admin"], "reader")]
    wrong += [{"expires_at": "90d"}, {"expires_at": 1}, {"digest": "x"}]
    for each in wrong:
        assert ask(closed, "POST", "/keys/", good | each).status_code == 422, each
    id = keys.add(closed.settings, "reader").id
    for each in ({"old_until": "1h"}, {"until": None}, []):
        assert ask(closed, "POST", f"/keys/{id}/rotation", each).status_code == 422, each


def test_a_command_is_retried(closed: Closed) -> None:
    refused = closed.http.put("/users/4711", json={"email": "a@b.example"}, headers=keys.bearer(closed.all) | WAIT)
    path = refused.json()["instance"]
    problem = ask(closed, "POST", f"{path}/retry", **WAIT)
    assert (problem.status_code, problem.json()["type"]) == (409, "/problems/command-not-failed")
    fail(closed.settings, path.removeprefix("/commands/"))
    retry = done(closed, "POST", f"{path}/retry")
    assert (retry["type"], retry["links"]["operations"], "operations_id" in retry) == ("RetryCommand", "/audit", False)
    eventually(lambda: closed.get(path, closed.all).json()["status"] == "rejected")
    assert ask(closed, "GET", retry["links"]["self"]).json() == retry
    nothing = ask(closed, "POST", "/commands/nothing/retry", **WAIT)
    assert (nothing.status_code, nothing.json()["type"]) == (404, "/problems/command-not-found")


def test_a_projection_is_paused_and_resumed(closed: Closed) -> None:
    def paused() -> bool:
        progress = ask(closed, "GET", "/projections/").json()
        assert progress.keys() == {"users", "emails", "stats"}
        return bool(progress["stats"]["paused"])

    done(closed, "POST", "/projections/stats/pause")
    eventually(paused)
    done(closed, "DELETE", "/projections/stats/pause")
    eventually(lambda: not paused())
    for method in ("POST", "DELETE"):
        answer = ask(closed, method, "/projections/nothing/pause")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/projection-not-found")


def test_what_an_operator_asked_for_is_done_though_its_key_is_revoked_meanwhile(closed: Closed) -> None:
    operator = closed.new_key("operator")
    headers = keys.bearer(operator)
    revoked, added = (
        closed.http.delete(f"/keys/{operator.id}", headers=headers),
        closed.http.post("/keys/", json={"name": "after", "roles": ["reader"]}, headers=headers),
    )
    assert (revoked.status_code, added.status_code) == (202, 202)
    eventually(lambda: works(closed, added.json()["key"]))
    assert closed.get("/keys/", operator).status_code == 401
