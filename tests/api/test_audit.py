"""`GET /audit`: what operators did, for auditors."""

from shared.access.principals import operator_here
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.command_line import cqrs, told


def test_p10_auditors_see_what_operators_did_page_by_page(closed: Closed) -> None:
    auditor = closed.keys["auditor"]
    assert closed.post(closed.all, "no.operation@example.com", Prefer="wait=10").status_code == 201
    cqrs(closed.settings, "keys", "add", "seen", "--role", "writer")
    everything = closed.get("/audit?limit=1000", auditor).json()
    assert everything == told(closed.settings, "audit", "--limit", "1000")
    last = everything[-1]
    assert (last["type"], last["by"], last["data"]["name"]) == ("KeyAdded", operator_here(), "seen")
    found, path = [], "/audit?limit=2"
    while path:
        page = closed.get(path, auditor)
        assert len(page.json()) <= 2
        found += page.json()
        path = page.links.get("next", {}).get("url", "")
    assert found == everything
    assert [each["id"] for each in found] == sorted(each["id"] for each in found)
    assert closed.get(f"/audit?after={last['id']}", auditor).json() == []
    assert closed.get("/audit?after=0&limit=1", auditor).json() == everything[:1]


def test_p10_an_operation_is_no_secret_to_auditors_and_one_to_all_others(closed: Closed) -> None:
    for role, key in closed.keys.items():
        assert closed.get("/audit", key).status_code == (200 if role == "auditor" else 403)
    assert closed.http.get("/audit").status_code == 401
    rotated = keys.rotate(closed.settings, closed.new_key("reader"))
    shown = closed.get("/audit?limit=1000", closed.keys["auditor"]).text
    assert rotated.id in shown
    assert rotated.text[14:-8] not in shown


def test_its_parameters_are_strict(closed: Closed) -> None:
    auditor = closed.keys["auditor"]
    for wrong in ("after=-1", "after=x", "limit=0", "limit=1001", "type=KeyAdded", "after=1&after=2"):
        assert closed.get(f"/audit?{wrong}", auditor).status_code == 422, wrong
    assert closed.http.head("/audit", headers=keys.bearer(auditor)).status_code == 200
