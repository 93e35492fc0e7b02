"""The console's log: its tail, streams with their states, an event with what belongs to it, and the search."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text

from shared.access.keys import Key
from shared.database import engines
from shared.domain.users.messages import UserCreated, UserEmailUpdated
from shared.messages import NewEvent
from shared.settings import Settings
from shared.stores import event_store, subjects
from shared.stores.event_store import Append
from shared.stores.subjects import Subjects, heed
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.console import Visitor
from tests.support.follower import Follower
from tests.support.service import Service, api, eventually
from tests.support.stores import JOHN

LONG = 10_000


def words(html: str) -> str:
    """What a page says, without its markup."""
    joined = re.sub(r"</?(a|b|bdi|span|code|time)\b[^>]*>", "", html)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", joined)).split())


def positions(html: str) -> list[int]:
    return [int(each) for each in re.findall(r'<td class="num"><a href="/console/log/(\d+)">', html)]


def link(html: str, name: str) -> str:
    """Where the link of this name leads."""
    found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{re.escape(name)}</a>', html)
    assert found, f"no link {name}"
    return unescape(found[1])


class User:
    """A user that was made by a request with an id of its own."""

    def __init__(self, http: httpx.Client, request: str, key: Key | None = None) -> None:
        self._http = http
        self._headers = {"X-Request-ID": request, "Prefer": "wait=30", **(keys.bearer(key) if key else {})}
        self.request = request
        self.number = self.send("POST", "/users/", **JOHN | {"email": f"{request}@log.example.com"})["user_id"]
        self.stream = f"user-{self.number}"

    def send(self, method: str, path: str, **body: str) -> Any:
        return self._http.request(method, path, json=body or None, headers=self._headers).json()

    def move(self, email: str) -> Any:
        return self.send("PUT", f"/users/{self.number}", email=email)


@pytest.fixture(scope="module")
def open_(shared_service: Service) -> Iterator[Visitor]:
    with Visitor(shared_service.url) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def odd(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API on a log with a long stream, one whose key is lost, an event of no known type, and a forged one."""
    folder = shutil.copytree(files, tmp_path_factory.mktemp("odd") / "data")
    settings = Settings(data_dir=folder, _env_file=None)
    people = Subjects.of(settings)
    log = heed(engines.writer(settings.event_store, lock=event_store.LOCK), people)
    john = {each: NewEvent("UserCreated", UserCreated(user_id=each, **JOHN), {}) for each in (1, 2)}
    moves = (UserEmailUpdated(user_id=1, new_email=f"{n}@example.com") for n in range(2, LONG + 1))
    moved = [NewEvent("UserEmailUpdated", each, {}) for each in moves]
    forged = NewEvent("SecretKept", {"secret": "<b>of John</b>"}, {"principal": "<script>"})
    with log.begin() as connection:
        event_store.append(
            connection, Append("user-2", [john[2]]), Append("secretü-1", [forged]), Append("user-1", [john[1], *moved])
        )
    with log.begin() as connection:
        connection.execute(text("DROP TRIGGER events_refuse_update"))
        connection.execute(text("UPDATE events SET recorded_at = '2020-01-01T00:00:00.000000Z' WHERE position = 2"))
    log.dispose()
    people.close()
    with engines.writing(settings.subjects, lock=subjects.LOCK) as connection:
        connection.execute(text("DELETE FROM subject_keys WHERE stream = 'user-2'"))
    with api(folder) as http:
        yield http


def test_the_log_is_shown_a_page_at_a_time_the_latest_first(odd: httpx.Client) -> None:
    newest = odd.get("/console/log?stream=user-1").text
    assert positions(newest) == list(range(LONG + 2, LONG + 2 - 50, -1))
    older = odd.get(link(newest, "Older")).text
    assert positions(older) == list(range(LONG - 48, LONG - 98, -1))
    assert positions(odd.get(link(older, "Newer")).text) == positions(newest)
    assert positions(odd.get("/console/log?before=3").text) == [2, 1]
    assert positions(odd.get("/console/log?type=UserCreated&type=SecretKept").text) == [3, 2, 1]
    assert positions(odd.get("/console/log?type=UserCreated&stream=user-1&before=9").text) == [3]
    assert "No event in the log fits" in odd.get("/console/log?stream=user-7").text


def test_new_events_are_announced_with_their_count_and_not_put_among_those_that_are_read(
    shared_service: Service, open_: Visitor
) -> None:
    user = User(shared_service.http, "announced")
    shown = open_.text(f"/console/log?stream={user.stream}&type=UserEmailUpdated&type=UserCreated")
    [address] = re.findall(r'data-live="([^"]*)"', shown)
    follower = Follower(f"{shared_service.url}{unescape(address)}")
    others = Follower(f"{shared_service.url}{unescape(address)}&type=UserErased".replace("type=UserEmailUpdated&", ""))
    try:
        eventually(lambda: len(follower.messages) == 1)
        for n in range(2):
            user.move(f"announced{n}@example.com")
        eventually(lambda: "2 new events: show them" in follower.messages[-1].data["new"])
        assert link(follower.messages[-1].data["new"], "2 new events: show them").startswith("/console/log?type=")
        assert all(set(each.data) == {"new"} for each in follower.messages)
        assert "announced here" in others.messages[-1].data["new"]
    finally:
        follower.leave()
        others.leave()


def test_a_stream_shows_the_state_before_and_after_each_event(shared_service: Service, open_: Visitor) -> None:
    user = User(shared_service.http, "states")
    user.send("POST", f"/users/{user.number}/deactivation")
    shown = words(open_.text(f"/console/streams/{user.stream}"))
    assert f"Field Before After user_id – {user.number} added first_name – hidden added" in shown  # noqa: RUF001
    assert shown.endswith(
        "first_name hidden hidden last_name hidden hidden email hidden hidden active – false added"  # noqa: RUF001
    )


def test_far_into_a_long_stream_a_page_comes_in_bounded_time(odd: httpx.Client) -> None:
    began = time.monotonic()
    page = odd.get(link(odd.get("/console/streams/user-1").text, "Last")).text
    assert time.monotonic() - began < 20
    assert len(page) < 100_000
    assert (f"here {LONG - 49:,} to {LONG:,}" in words(page), page.count("<article")) == (True, 50)
    assert words(page).count("email hidden hidden changed") == 50
    assert 'id="v9901"' in odd.get(link(page, "Before")).text


def test_what_an_event_has_of_a_person_is_named_and_not_shown(odd: httpx.Client) -> None:
    lost = words(odd.get("/console/log/1").text)
    assert '"first_name": can\'t be read, its key is lost' in lost
    unknown = odd.get("/console/log/2").text
    assert '"secret": hidden' in words(unknown)
    assert "of John" not in unknown
    assert "<script>" not in unknown
    assert "doesn't know events of this type" in words(unknown)
    stream = odd.get(link(unknown, "<bdi>secretü-1</bdi>")).text
    assert "Nothing is known that makes a state" in words(stream)
    assert "of John" not in stream


def test_an_event_that_was_changed_does_not_fit_its_hash(odd: httpx.Client) -> None:
    assert "It fits." in words(odd.get("/console/log/1").text)
    assert "It doesn't fit." in words(odd.get("/console/log/2").text)
    assert "It fits." in words(odd.get("/console/log/3").text)


def test_p10_personal_data_is_shown_to_who_asks_and_that_is_in_the_audit_trail(closed: Closed) -> None:
    user = User(closed.http, "revealed", closed.all)
    address, own = f"/console/streams/{user.stream}", f"{user.request}@log.example.com"
    auditor = closed.new_key("auditor")
    with ExitStack() as until_the_end:
        asking, other = (
            until_the_end.enter_context(Visitor(closed.service.url, key)) for key in (auditor, closed.keys["auditor"])
        )
        [event] = positions(asking.text(f"/console/log?stream={user.stream}"))
        for page, another in ((address, f"/console/log/{event}"), (f"/console/log/{event}", address)):
            assert own not in asking.text(page)
            there = asking.submit(page, page).headers["location"]
            assert own in asking.text(there)
            assert own not in asking.text(page)
            assert own not in other.text(there)
            assert own not in asking.text(there.replace(page, another))
    audit = closed.get("/audit?limit=1000", closed.all).json()
    pages = [each["data"]["page"] for each in audit if each["by"] == keys.principal(auditor)]
    assert pages == [address, f"/console/log/{event}"]


def test_the_log_needs_the_role_auditor(closed: Closed) -> None:
    with Visitor(closed.service.url, closed.keys["reader"]) as reader:
        for page in ("/console/log", "/console/log/1", "/console/log/live", "/console/streams/user-1"):
            assert reader.http.get(page).status_code == 403


def test_what_came_by_one_request_id_is_a_tree_of_commands_and_their_events(
    shared_service: Service, open_: Visitor
) -> None:
    user = User(shared_service.http, "tree_1")
    refused = user.send("POST", "/users/", **JOHN | {"email": f"{user.request}@log.example.com"})
    assert refused["type"] == "/problems/email-taken"
    User(shared_service.http, "treeX1")
    [event] = positions(open_.text(f"/console/log?stream={user.stream}"))
    shown = words(open_.text(f"/console/log/{event}"))
    tree = shown.partition("With the same correlation id ")[2].partition("Looked through")[0]
    times = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC "
    assert re.fullmatch(
        rf"CreateUser succeeded to {user.stream} {times}UserCreated at [\d,]+ in {user.stream} v1 "
        rf"CreateUser rejected to user-\d+ {times}no events ",
        tree,
    )
    assert tree in words(open_.text(f"/console/search?q={quote(user.request)}"))


def test_the_search_leads_to_what_can_only_be_one_page(shared_service: Service, open_: Visitor) -> None:
    user = User(shared_service.http, "searched")
    [event] = positions(open_.text(f"/console/log?stream={user.stream}"))
    command = shared_service.http.get(f"/events/?after={event - 1}&limit=1").json()[0]["metadata"]["command_id"]

    def leads_to(text: str) -> str:
        return open_.http.get("/console/search", params={"q": text}).headers["location"]

    assert leads_to(command.upper()) == leads_to("searched") == f"/console/commands/{command}"
    assert leads_to(" searched@example.com ") == "/console/users?q=searched%40example.com"
    assert leads_to("Mary Ann") == "/console/users?q=Mary+Ann"
    several = open_.text(f"/console/search?q={user.number}")
    assert re.findall(r'<a href="(/console/\w+/[^"]*)"><bdi>', several) == [
        f"/console/log/{user.number}",
        f"/console/streams/{user.stream}",
        f"/console/users/{user.number}",
    ]
    assert f'href="/console/streams/{user.stream}"' in open_.text(f"/console/search?q= {user.stream} ")
    assert "Nothing was found." in open_.text("/console/search?q=<script>n0thing</script>")
    assert "What can be searched for" in open_.text("/console/search")


def test_a_key_is_found_by_its_id(closed: Closed) -> None:
    id = closed.keys["writer"].id
    for role, there in (
        ("operator", f"/console/system/keys/{id}"),
        ("auditor", f"/console/commands?principal=key:{id}"),
    ):
        with Visitor(closed.service.url, closed.keys[role]) as visitor:
            assert visitor.http.get(f"/console/search?q=key:{id}").headers["location"] == there


def test_p10_the_search_tells_a_reader_nothing_of_others(closed: Closed) -> None:
    user = User(closed.http, "unseen-1", closed.all)
    its = closed.get(f"/events/?stream={user.stream}", closed.all).json()[0]
    with Visitor(closed.service.url, closed.keys["reader"]) as reader:
        nothing = reader.text("/console/search?q=00000000-0000-0000-0000-000000000000")
        for each in (its["metadata"]["command_id"], "operations-1", "unseen-1", closed.keys["writer"].id):
            shown = reader.text(f"/console/search?q={each}")
            assert "Nothing was found." in shown
            assert words(shown).replace(each, "") == words(nothing).replace("00000000-0000-0000-0000-000000000000", "")
        assert (
            reader.http.get(f"/console/search?q={user.stream}").headers["location"] == f"/console/users/{user.number}"
        )
    own = closed.new_key("reader", "writer")
    command = closed.post(own, "own@example.com").json()["command_id"]
    with Visitor(closed.service.url, own) as writer:
        found = writer.http.get(f"/console/search?q={command}")
    assert found.headers["location"] == f"/console/commands/{command}"
