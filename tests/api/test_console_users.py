"""The console's pages of users: found, shown as they are and were, and changed; personal data only when asked for."""

import re
from typing import Any

from shared.domain.users.read_models import users as read_model
from tests.api.conftest import Closed, Visit
from tests.support import keys
from tests.support.console import Visitor
from tests.support.service import eventually
from tests.support.stores import JOHN

SCRIPT = "<script>alert(1)</script>"


def ask(closed: Closed, method: str, path: str, body: Any = None) -> Any:
    answer = closed.http.request(method, path, json=body, headers=keys.bearer(closed.all) | {"Prefer": "wait=30"})
    assert answer.status_code in {200, 201, 202}, answer.text
    return answer.json()


def new(closed: Closed, email: str, **names: str) -> int:
    return int(ask(closed, "POST", "/users/", {**JOHN, **names, "email": email})["user_id"])


def numbers(page: str) -> list[int]:
    """The users in a page's table."""
    return list(map(int, re.findall(r'href="/console/users/(\d+)"', page)))


def revealed(visitor: Visitor, page: str, action: str, **fields: str) -> str:
    answer = visitor.submit(page, action, **fields)
    assert answer.status_code == 303, answer.text
    return visitor.text(answer.headers["location"])


def shown(closed: Closed) -> list[Any]:
    """What the audit trail has of who was shown what is personal: pages and streams."""
    audit = closed.get("/audit?limit=1000", closed.all).json()
    return [each["data"] for each in audit if each["type"] == "PersonalShown"]


def shown_pages(closed: Closed) -> list[str]:
    """The pages on which somebody had what is personal shown, by the audit trail."""
    return [each["page"] for each in shown(closed)]


def named(visitor: Visitor, name: str) -> str:
    """The page of those who have a name."""
    return revealed(visitor, "/console/users", "/console/users/personal", q=name)


def test_a_user_is_found_by_number_address_and_the_beginning_of_a_name(closed: Closed, visitor: Visitor) -> None:
    number = new(closed, "Åsa.Öberg@example.com", first_name="Åsa", last_name="Öberg-Lind")
    assert visitor.http.get(f"/console/users?q={number}").headers["location"] == f"/console/users/{number}"
    eventually(lambda: numbers(visitor.text("/console/users?q=åsa.öberg@EXAMPLE.com")) == [number])
    for beginning in ("öberg", "ÖBERG-L", "åsa öb", "Öberg-Lind Å"):
        assert number in numbers(named(visitor, beginning)), beginning
    for other in ("berg", "Öberg%", "_sa", "åsa@example.com"):
        assert number not in numbers(named(visitor, other)), other


def test_p10_who_has_a_name_is_told_only_to_who_has_it_recorded(closed: Closed, visitor: Visitor) -> None:
    number = new(closed, "spelled@example.com", first_name="Spelled", last_name="Out")
    before = shown_pages(closed)
    assert number not in numbers(visitor.text("/console/users?q=spelled"))
    assert number in numbers(named(visitor, "spelled"))
    assert shown_pages(closed) == [*before, "/console/users"]


def test_p10_what_is_personal_is_shown_when_it_is_asked_for_and_that_is_in_the_audit_trail(
    closed: Closed, visitor: Visitor
) -> None:
    number = new(closed, "hidden@example.com", first_name="Hidden", last_name=SCRIPT)
    before = shown_pages(closed)
    for path in ("/console/users", f"/console/users/{number}", "/console/users?q=hidd"):
        page = visitor.text(path)
        assert "hidden@example.com" not in page
        assert "Hidden" not in page
    page = revealed(visitor, "/console/users", "/console/users/personal", q="hidd")
    assert "hidden@example.com" in page
    assert SCRIPT not in page  # it is text
    assert "&lt;script&gt;" in page
    page = revealed(visitor, f"/console/users/{number}", f"/console/users/{number}/personal")
    assert page.count("hidden@example.com") >= 2  # now, and in the history
    assert shown_pages(closed) == [*before, "/console/users", f"/console/users/{number}"]  # no word of what was sought


def test_p10_a_list_shows_those_whom_the_audit_trail_names_and_nobody_who_came_since(
    closed: Closed, visitor: Visitor
) -> None:
    first = new(closed, "named-1@example.com", first_name="Named")
    listed = visitor.submit("/console/users", "/console/users/personal").headers["location"]
    looked_for = visitor.submit("/console/users", "/console/users/personal", q="named").headers["location"]
    second = new(closed, "named-2@example.com", first_name="Named")
    page = visitor.text(listed)
    of_list, of_name = shown(closed)[-2:]
    assert of_name == {"page": "/console/users", "streams": [f"user-{first}"]}
    assert f"user-{second}" not in of_list["streams"]
    assert 0 < len(of_list["streams"]) <= 50
    assert {f"user-{number}" for number in numbers(page)} > {f"user-{second}"}
    assert "named-1@example.com" in page
    assert "named-2@example.com" not in page
    assert numbers(visitor.text(looked_for)) == [first]
    assert f'href="/console/streams/user-{first}"' in visitor.text("/console/system/audit")
    other = looked_for.replace(f"user-{first}", f"user-{second}")
    assert numbers(visitor.text(other)) == []


def test_p10_the_address_of_a_page_that_shows_what_is_personal_shows_nothing_to_others(
    closed: Closed, visitor: Visitor, visit: Visit
) -> None:
    number = new(closed, "secret@example.com")
    path = f"/console/users/{number}"
    address = visitor.submit(path, f"{path}/personal").headers["location"]
    assert "secret@example.com" in visitor.text(address)
    assert "secret@example.com" not in visit(closed.all).text(address)
    other = new(closed, "other@example.com")
    assert "other@example.com" not in visitor.text(address.replace(path, f"/console/users/{other}"))


def test_a_user_is_shown_as_it_was_at_any_version_beside_now(closed: Closed, visitor: Visitor) -> None:
    number = new(closed, "first@example.com")
    ask(closed, "PUT", f"/users/{number}", {"email": "second@example.com"})
    ask(closed, "POST", f"/users/{number}/deactivation")
    path = f"/console/users/{number}"
    page = revealed(visitor, path, f"{path}/personal", version="1")
    now, _, then = page.partition('<div id="then"')
    then = then.partition("</section>")[0]
    assert "second@example.com" in now
    assert "first@example.com" in then
    assert "another than now" in then
    assert [each in page for each in ("User created", "User email updated", "User deactivated")] == [True] * 3
    assert len(re.findall(r'href="/console/commands/[0-9a-f-]{36}"', page)) == 3
    assert visitor.http.get(f"{path}?version=4").status_code == 404


def test_a_user_is_deactivated_and_reactivated_at_the_version_that_was_shown(closed: Closed, visitor: Visitor) -> None:
    number = new(closed, "on-off@example.com")
    path = f"/console/users/{number}"
    answer = visitor.submit(path, f"{path}/deactivate", version="1")
    assert answer.headers["location"].startswith(f"{path}?done=")
    assert "Reactivate" in visitor.text(answer.headers["location"])
    assert closed.get(f"/users/{number}", closed.all).json()["active"] is False
    stale = visitor.submit(path, f"{path}/reactivate", version="1")
    assert (stale.status_code, "Version conflict" in stale.text) == (412, True)
    assert visitor.submit(path, f"{path}/reactivate", version="2").status_code == 303
    assert "active" not in closed.get(f"/users/{number}", closed.all).json()
    eventually(lambda: numbers(visitor.text("/console/users?state=deactivated&q=on-off@example.com")) == [])
    eventually(lambda: numbers(visitor.text("/console/users?state=active&q=on-off@example.com")) == [number])


def test_a_user_is_erased_only_if_its_number_is_typed_and_then_its_page_is_gone(
    closed: Closed, visitor: Visitor, visit: Visit
) -> None:
    number = new(closed, "erase-me@example.com", first_name="Erasable")
    path = f"/console/users/{number}"
    for typed in ("", str(number + 1), "yes"):
        assert visitor.submit(path, f"{path}/erase", version="1", number=typed).status_code == 422
    assert closed.get(f"/users/{number}", closed.all).status_code == 200
    assert visitor.submit(path, f"{path}/erase", version="1", number=str(number)).status_code == 303
    gone = visitor.http.get(path)
    assert gone.status_code == 410
    assert f"/console/streams/user-{number}" in gone.text
    assert "Erasable" not in revealed_anyway(visitor, path)
    assert "needs the role auditor" in visit(closed.keys["reader"]).http.get(path).text


def revealed_anyway(visitor: Visitor, path: str) -> str:
    answer = visitor.submit(path, f"{path}/personal")
    return visitor.http.get(answer.headers["location"]).text


def test_p10_the_console_shows_of_users_and_does_to_them_what_a_role_allows(closed: Closed, visit: Visit) -> None:
    number = new(closed, "roles@example.com")
    path = f"/console/users/{number}"
    assert {role: visit(key).http.get(path).status_code for role, key in closed.keys.items()} == {
        role: 200 if role == "reader" else 403 for role in closed.keys
    }
    reader = visit(closed.keys["reader"])
    page = reader.text(path)
    assert "User created" not in page
    assert page.count("needs the role") == 3  # changes, deactivating, erasing
    for deed in ("deactivate", "reactivate", "erase"):
        assert reader.submit(path, f"{path}/{deed}", version="1", number=str(number)).status_code == 403


def test_users_are_paged_both_ways_and_a_look_for_a_name_goes_on(closed: Closed, visitor: Visitor) -> None:
    for each in range(52):
        closed.post(closed.all, f"paged{each}@example.com")
    last = new(closed, "paged-last@example.com", first_name="Zebedee")
    newest = visitor.text("/console/users")
    assert numbers(newest)[0] == last
    assert len(numbers(newest)) == 50
    older = numbers(visitor.text(f"/console/users?before={numbers(newest)[-1]}"))
    assert max(older) < min(numbers(newest))
    newer = visitor.text(f"/console/users?after={older[0]}")
    assert numbers(newer) == numbers(newest)
    assert numbers(named(visitor, "zebed")) == [last]
    page = named(visitor, "doe")
    assert len(numbers(page)) == 50
    [before] = re.findall(r'name="before" value="(\d+)"', page)
    further = revealed(visitor, "/console/users", "/console/users/personal", q="doe", before=before)
    assert max(numbers(further)) < min(numbers(page))
    assert read_model.PIECE * 10 == 50_000  # what docs/operations/console.md says
