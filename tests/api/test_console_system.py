"""The console's pages of the system: stores, settings, keys, sessions and the audit trail, each for whom it is."""

import re
import shutil
from pathlib import Path

import httpx
import pytest
from pydantic_core import to_json

from shared.access.keys import Key, key_of
from shared.database import engines
from shared.messages import NewEvent
from shared.operations import backups, record
from shared.schemas.check import REVISIONS
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.event_store import Append
from tests.api.conftest import Closed, Visit
from tests.support import keys, older
from tests.support.console import Visitor
from tests.support.service import api, eventually
from tests.support.stores import create

KEYS = "/console/system/keys"


def works(closed: Closed, text: str) -> bool:
    return closed.get("/", text).status_code == 200


def made(answer: httpx.Response) -> Key:
    """The key that a page shows, which must be good."""
    assert answer.status_code == 200, answer.text
    found = re.search(r"cqrs_[0-9a-f]{8}_[0-9a-f]{72}", answer.text)
    assert found, answer.text
    key = key_of(found[0])
    assert key
    return key


def row(page: str, name: str) -> str:
    """The table's row of this name."""
    return next(each for each in page.split("<tr>") if f">{name}<" in each)


def test_stores_are_shown_with_their_revisions_and_sizes_and_the_end_of_the_log_is_checked(
    closed: Closed, visitor: Visitor
) -> None:
    page = visitor.text("/console/system")
    for store, where in {"inbox": "inbox.db", "event store": "events.db", "read model: users": "read-users.db"}.items():
        its = row(page, store)
        assert f"{closed.settings.data_dir / where}" in its
        assert re.search(r"[0-9.]+ (kB|MB)<", its)
        assert REVISIONS[store.partition(":")[0].replace(" ", "_")] in its
    with engines.reading(closed.settings.event_store) as log:
        position, hash = event_store.head(log)
    assert f"<dd>{position:,}</dd>" in page
    assert hash
    assert hash.hex() in page
    assert f"The hashes of the last {min(position, 1000):,} events were made anew" in page
    assert "cqrs verify" in page
    assert "No backup was taken here that is known" in page


def test_p9_it_is_said_while_what_is_personal_rests_in_the_clear(files: Path, tmp_path: Path, visitor: Visitor) -> None:
    assert "cqrs protect" not in visitor.text("/console/system")
    folder = shutil.copytree(files, tmp_path / "data")
    older.take_as_before(Settings(data_dir=folder, _env_file=None), create("older@example.com"))
    with api(folder) as http:
        assert "cqrs protect" in http.get("/console/system").text


def test_backups_that_were_noted_are_shown_the_latest_first(closed: Closed, visitor: Visitor) -> None:
    for number in range(1, 4):
        backups.note(closed.settings, backups.Taken(f"2026-01-0{number}T00:00:00Z", number, f"/backups/{number}"))
    try:
        page = visitor.text("/console/system")
    finally:
        (closed.settings.data_dir / backups.NOTE).unlink()
    assert [page.index(f"/backups/{number}<") for number in (3, 2, 1)] == sorted(
        page.index(f"/backups/{number}<") for number in (3, 2, 1)
    )
    assert "2026-01-01 00:00:00 UTC" in page


def test_event_types_are_shown_with_their_versions_upcasters_and_personal_fields(visitor: Visitor) -> None:
    page = visitor.text("/console/system/events")
    created = row(page.replace("<a", "><a"), "UserCreated")
    assert created.count(">personal<") == 3
    assert "none" in created
    shown = row(page.replace("<a", "><a"), "PersonalShown")
    assert ("1 → 2" in shown, '<td class="num">2</td>' in shown) == (True, True)


def test_settings_tell_where_they_come_from_though_roles_get_them_all_from_cqrs_up(visitor: Visitor) -> None:
    page = visitor.text("/console/system/settings")
    sources = {
        name: re.findall(r'<td class="nowrap">(.*?)<', row(page, name)) for name in ("CQRS_AUTH", "CQRS_MAX_BODY")
    }
    assert sources == {"CQRS_AUTH": ["environment"], "CQRS_MAX_BODY": ["default"]}
    assert "65536" in row(page, "CQRS_MAX_BODY")


def test_p10_a_key_is_made_rotated_and_revoked_and_its_text_is_shown_once(closed: Closed, visitor: Visitor) -> None:
    fields = {"name": "far@away", "role-reader": "yes", "role-writer": "yes", "days": "90"}
    key = made(visitor.submit(KEYS, f"{KEYS}/add", **fields))
    eventually(lambda: works(closed, key.text))
    path = f"{KEYS}/{key.id}"
    listed = row(visitor.text(KEYS).replace("<a", "><a"), key.id)
    assert [each in listed for each in ("far@away", "reader, writer", "active")] == [True] * 3
    assert key.text not in visitor.text(KEYS) + visitor.text(path)

    rotated = made(visitor.submit(path, f"{path}/rotate"))
    assert rotated.id == key.id
    eventually(lambda: works(closed, rotated.text) and not works(closed, key.text))

    assert visitor.submit(path, f"{path}/revoke", id="far@away").status_code == 422
    assert visitor.submit(path, f"{path}/revoke", id=key.id).headers["location"].startswith(f"{path}?done=")
    eventually(lambda: not works(closed, rotated.text))
    assert "revoked" in visitor.text(path)
    assert visitor.submit(KEYS, f"{path}/rotate").status_code == 409

    audit = [
        each for each in closed.get("/audit?limit=1000", closed.all).json() if each["data"].get("key_id") == key.id
    ]
    assert [each["type"] for each in audit] == ["KeyAdded", "KeyRotated", "KeyRevoked"]
    assert {each["by"] for each in audit} == {keys.principal(closed.all)}


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "a b"}, {"role-reader": ""}, {"days": "x"}, {"days": "-1"}, {"days": "99999999"}]
)
def test_p10_no_key_is_made_of_what_is_none(closed: Closed, visitor: Visitor, wrong: dict[str, str]) -> None:
    before = closed.get("/keys/", closed.all).json()
    answer = visitor.submit(KEYS, f"{KEYS}/add", **{"name": "wrong", "role-reader": "yes", **wrong})
    assert answer.status_code == 422
    assert closed.get("/keys/", closed.all).json() == before


def test_the_audit_trail_is_shown_the_newest_first_and_paged(closed: Closed, visitor: Visitor) -> None:
    for _ in range(51):
        keys.add(closed.settings, "reader", name="many")
    path = "/console/system/audit"
    page = visitor.text(path)
    newest = list(map(int, re.findall(r'href="/console/log/(\d+)"', page)))
    assert newest == sorted(newest, reverse=True)
    assert len(newest) == 50
    assert keys.BY in page
    [older] = re.findall(rf'href="({path}\?before=\d+)"', page)
    rest = list(map(int, re.findall(r'href="/console/log/(\d+)"', visitor.text(older))))
    audited = [each["id"] for each in closed.get("/audit?limit=1000", closed.all).json()]
    assert newest + rest == audited[::-1][: len(newest + rest)]


def test_p10_one_sees_one_s_own_sessions_and_ends_them_all(closed: Closed, visit: Visit) -> None:
    key = closed.new_key("reader")
    one, other, stranger = visit(key), visit(key), visit(closed.all)
    page = one.text("/console/sessions")
    assert (page.count("this one"), page.count("End it")) == (1, 1)
    assert one.submit("/console/sessions", "/console/sign-out", all="yes").status_code == 303
    assert [each.http.get("/console/sessions").status_code for each in (one, other)] == [303, 303]
    assert stranger.http.get("/console/sessions").status_code == 200


def test_what_versions_before_recorded_of_pages_that_were_shown_is_still_shown(
    closed: Closed, visitor: Visitor
) -> None:
    page = "/console/of-a-version-before"
    with engines.writing(closed.settings.event_store, lock=event_store.LOCK) as log:
        before = NewEvent("PersonalShown", {"page": page}, {"principal": "key:5f0c9a1e"})
        event_store.append(log, Append(record.STREAM, [before]))
    assert f"<bdi>{page}</bdi>" in visitor.text("/console/system/audit")
    assert record.PersonalShown.recorded(1, to_json({"page": page}).decode()).streams is None


def ending(page: str) -> str:
    """The only session that a page can end."""
    [found] = re.findall(r'name="session" value="([0-9a-f]{64})"', page)
    return str(found)


def test_p10_one_ends_another_session_of_one_s_own_and_nobody_else_s(closed: Closed, visit: Visit) -> None:
    key = closed.new_key("reader")
    one, other, stranger = visit(key), visit(key), visit(closed.new_key("reader"))
    page, action = "/console/sessions", "/console/sessions/end"
    its = ending(one.text(page))
    stranger.submit(page, action, session=its)
    assert other.http.get("/console").status_code == 200
    assert one.submit(page, action, session="x").status_code == 400
    assert one.submit(page, action, session=its).headers["location"] == page
    assert [each.http.get("/console").status_code for each in (one, other)] == [200, 303]


def test_p10_an_operator_ends_a_session_of_a_key(closed: Closed, visit: Visit, visitor: Visitor) -> None:
    key = closed.new_key("reader")
    one = visit(key)
    path = f"{KEYS}/{key.id}"
    its = ending(visitor.text(path))
    assert one.submit("/console", f"{path}/sessions/end", session=its).status_code == 403
    assert visitor.submit(path, f"{path}/sessions/end", session=its).headers["location"] == path
    assert one.http.get("/console").status_code == 303
    assert "Nobody is signed in with it" in visitor.text(path)


def test_p10_the_system_is_for_operators_and_the_audit_trail_for_auditors(closed: Closed, visit: Visit) -> None:
    of_operators = [f"/console/system{each}" for each in ("", "/settings", "/events", "/keys")]
    pages = [*of_operators, "/console/system/audit", "/console/sessions"]
    seen = {role: [visit(key).http.get(path).status_code for path in pages] for role, key in closed.keys.items()}
    assert seen == {
        "reader": [403, 403, 403, 403, 403, 200],
        "writer": [403, 403, 403, 403, 403, 200],
        "auditor": [200, 403, 403, 403, 200, 200],
        "operator": [200, 200, 200, 200, 403, 200],
        "eraser": [403, 403, 403, 403, 403, 200],
    }
    auditor = visit(closed.keys["auditor"]).text("/console/system")
    assert "events.db" not in auditor
    assert "needs the role operator" in auditor
