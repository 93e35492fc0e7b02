"""The console's commands: found by anything, told step by step, hidden from whom they don't concern, and retried."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

from api.console.commands import looking
from shared.access.keys import Key
from shared.stores import set_aside
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.console import Visitor
from tests.support.service import Service, answers, environment, eventually, free_port, start, up
from tests.support.stores import JOHN, Stores, accept, create, fail, update
from tests.support.trouble import new_email

LIST = "/console/commands"

ARABIC = "مُحَمَّد <script>alert(1)</script>" * 5


class People(NamedTuple):
    """Visitors who may see what their keys let them."""

    everything: Visitor
    auditor: Visitor
    writer: Visitor
    writers_key: Key


@pytest.fixture(scope="module")
def people(closed: Closed) -> Iterator[People]:
    key = closed.new_key("writer")
    with ExitStack() as until_the_end:

        def visitor(its: Key) -> Visitor:
            return until_the_end.enter_context(Visitor(closed.service.url, its))

        yield People(visitor(closed.all), visitor(closed.keys["auditor"]), visitor(key), key)


@pytest.fixture(scope="module")
def done(closed: Closed) -> dict[str, Any]:
    """A command of another's, which created a user with a name of our enemies."""
    body = {**JOHN, "first_name": ARABIC, "email": new_email()}
    headers = keys.bearer(closed.all) | {"Prefer": "wait=30", "X-Request-ID": "console-commands"}
    user = closed.http.post("/users/", json=body, headers=headers).json()
    rejected = closed.http.put("/users/4712", json={"email": new_email()}, headers=headers | {"If-Match": '"3"'})
    id = rejected.json()["instance"].removeprefix("/commands/")
    listed = closed.get("/commands/?limit=1000", closed.all).json()
    [created] = [each for each in listed if each["type"] == "CreateUser" and each.get("user_id") == user["user_id"]]
    return {"id": created["command_id"], "stream": f"user-{user['user_id']}", "rejected": id, **body}


def ids(page: str) -> list[str]:
    """The commands that a page links to, in their order."""
    return re.findall(rf'href="{LIST}/([0-9a-f-]{{36}})"', page)


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("stream={stream}", {"id"}),
        ("stream=4712&status=rejected", {"rejected"}),
        ("stream=user-4712&status=rejected", {"rejected"}),
        ("correlation_id=console-commands", {"id", "rejected"}),
        ("correlation_id=console-commands&type=CreateUser", {"id"}),
        ("correlation_id=console-commands&status=succeeded", {"id"}),
        ("correlation_id=console-commands&status=waiting", set()),
        ("correlation_id=console-commands&principal={principal}", {"id", "rejected"}),
        ("correlation_id=console-commands&principal=nobody", set()),
        ("correlation_id=console-commands&to=2026-01-01T00:00", set()),
        ("correlation_id=console-commands&from=2026-01-01T00:00&to=", {"id", "rejected"}),
        ("correlation_id=CONSOLE-COMMANDS", set()),
    ],
)
def test_commands_are_found_by(closed: Closed, people: People, done: Any, query: str, finds: set[str]) -> None:
    asked = query.format(stream=done["stream"], principal=keys.principal(closed.all))
    assert set(ids(people.auditor.text(f"{LIST}?{asked}"))) == {done[each] for each in finds}


def test_a_command_is_found_by_its_id(people: People, done: Any) -> None:
    answer = people.auditor.http.get(f"{LIST}?id={done['id'].upper()}&stream=")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{LIST}/{done['id']}")
    assert people.auditor.http.get(f"{LIST}?id=nothing").status_code == 404


def test_a_time_that_is_none_is_refused_in_words(people: People) -> None:
    answer = people.auditor.http.get(f"{LIST}?from=tomorrow")
    assert (answer.status_code, "must be a time such as" in answer.text) == (422, True)


@pytest.mark.parametrize(
    "query",
    [
        "?before=99999999999999999999",
        "/live?after=99999999999999999999",
        "/live?after=9223372036854775807",
        "/failures?before=99999999999999999999",
        "/jobs/retry:1:1:x",
        "/failures?before=x",
        "?status=%00",
    ],
)
def test_addresses_that_nobody_is_given_are_refused_in_words(people: People, query: str) -> None:
    answer = people.auditor.http.get(f"{LIST}{query}")
    assert answer.status_code in {404, 422}
    assert "<h1>" in answer.text


def test_pages_follow_each_other_without_gaps(closed: Closed, people: People) -> None:
    headers = keys.bearer(closed.all) | {"X-Request-ID": "console-pages"}
    sent = [closed.http.post(f"/users/{n}/deactivation", headers=headers).json()["command_id"] for n in range(1, 61)]
    found: list[str] = []
    path = f"{LIST}?correlation_id=console-pages"
    while path:
        page = people.auditor.text(path)
        found += ids(page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = unescape(older[1]) if older else ""
    assert found == sent[::-1]


def test_a_command_s_page_tells_each_step_with_the_time_it_took(people: People, done: Any) -> None:
    story = people.auditor.text(f"{LIST}/{done['id']}")
    eventually(lambda: people.auditor.text(f"{LIST}/{done['id']}").count("after it was recorded") == 3)
    for step in ("Accepted", "Decided: succeeded", "UserCreated", "Visible in users", "version 1"):
        assert step in story
    rejected = people.auditor.text(f"{LIST}/{done['rejected']}")
    assert "Decided: rejected" in rejected
    assert done["id"] in ids(rejected)  # it has the same correlation id
    assert done["rejected"] in ids(story)
    assert "nothing" in rejected


def test_a_command_that_came_too_late_names_the_one_that_was_quicker(closed: Closed, people: People) -> None:
    headers = keys.bearer(closed.all)
    user = closed.http.post("/users/", json={**JOHN, "email": new_email()}, headers=headers).json()["user_id"]

    def change() -> str:
        at_1 = headers | {"If-Match": '"1"'}
        answer = closed.http.put(f"/users/{user}", json={"email": new_email()}, headers=at_1)
        return answer.headers["location"].removeprefix("/commands/")

    quicker, late = change(), change()
    eventually(lambda: "Decided: rejected" in people.auditor.text(f"{LIST}/{late}"))
    page = people.auditor.text(f"{LIST}/{late}")
    assert quicker in ids(page[page.index("Overtaken by") :])
    assert "Overtaken by" not in people.auditor.text(f"{LIST}/{quicker}")


def test_p10_what_is_personal_is_hidden_until_somebody_asks_and_that_is_in_the_audit_trail(
    closed: Closed, people: People, done: Any
) -> None:
    path = f"{LIST}/{done['id']}"
    hidden = people.auditor.text(path)
    assert not [each for each in (done["email"], done["last_name"]) if each in hidden]
    there = people.auditor.submit(path, f"{path}/reveal").headers["location"]
    shown = people.auditor.text(there)
    assert done["email"] in shown
    assert "<script>alert" not in shown
    assert done["first_name"] in unescape(shown)
    assert done["email"] not in people.auditor.text(path)
    other = f"{LIST}/{done['rejected']}?{there.partition('?')[2]}"
    assert "Show what is personal" in people.auditor.text(other)  # for each page
    audit = closed.get("/audit?limit=1000", closed.all).json()
    [told] = [each for each in audit if each["data"].get("page") == path]
    assert (told["type"], told["by"]) == ("PersonalShown", keys.principal(closed.keys["auditor"]))
    assert told["data"]["streams"] == [done["stream"]]


def test_a_command_can_be_sent_again_by_the_line_that_its_page_shows(closed: Closed, people: People, done: Any) -> None:
    path = f"{LIST}/{done['rejected']}"
    assert '{"email":"<email>"}' in line(people.auditor.text(path))
    there = people.auditor.submit(path, f"{path}/reveal").headers["location"]
    first, second = (shlex.split(line(people.auditor.text(there))) for _ in range(2))
    answer = sent(closed, first)
    assert (answer.status_code, "idempotency-replayed" in answer.headers) == (202, False)
    again = closed.get(f"/commands/{answer.json()['command_id']}", closed.all, Prefer="wait=10").json()
    assert (again["type"], again["user_id"], again["problem"]["status"]) == ("UpdateUserEmail", 4712, 412)
    assert sent(closed, first).headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in sent(closed, second).headers  # each time the page is shown it is a new command


def line(page: str) -> str:
    found = re.search(r'<pre id="again"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found
    return unescape(found[1])


def sent(closed: Closed, words: list[str]) -> httpx.Response:
    """The answer to what curl would send."""
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    assert headers.pop("Authorization") == "Bearer $CQRS_API_KEY"
    body = words[words.index("-d") + 1] if "-d" in words else None
    method, url = words[words.index("-X") + 1], words[words.index("-X") + 2]
    return httpx.request(method, url, headers=headers | keys.bearer(closed.all), content=body)


@pytest.mark.parametrize("path", ["", "/live", "/reveal", "/retry"])
def test_p10_a_command_of_somebody_else_is_not_there(people: People, done: Any, path: str) -> None:
    where = f"{LIST}/{done['id']}{path}"
    if path in {"/reveal", "/retry"}:
        answer = people.writer.submit(LIST, where)
        assert answer.status_code == (403 if path == "/retry" else 404)
    else:
        assert people.writer.http.get(where).status_code == 404


def test_p10_whoever_is_no_auditor_sees_his_own_commands_and_is_told_so(
    closed: Closed, people: People, done: Any
) -> None:
    headers = keys.bearer(people.writers_key) | {"X-Request-ID": "console-commands"}
    answer = closed.http.put(f"/users/{done['stream'][5:]}", json={"email": new_email()}, headers=headers)
    mine = answer.json()["command_id"]
    for query in ("", f"?principal={quote(keys.principal(closed.all))}", f"?stream={done['stream']}"):
        page = people.writer.text(f"{LIST}{query}")
        assert (ids(page), "You see your own commands" in page) == ([mine], True)
        assert not re.search(r'(after=|before=|open=|status-)\d+["&.]', page)  # no seq, which would count all commands
    page = people.writer.text(f"{LIST}/{mine}")
    assert done["id"] not in page  # nor beside it, in its stream or by correlation
    assert "as number" not in page  # nor how many there are
    page = people.auditor.text(f"{LIST}/{mine}")
    assert (done["id"] in page, "as number" in page) == (True, True)
    assert "need the role auditor" in people.writer.text(LIST)
    assert people.writer.http.get(f"{LIST}/failures").status_code == 403
    there = people.writer.submit(f"{LIST}/{mine}", f"{LIST}/{mine}/reveal").headers["location"]
    assert "15 minutes" in people.writer.text(there)


def test_newer_commands_are_announced_and_a_status_is_renewed(closed: Closed, people: People, done: Any) -> None:
    page = people.auditor.text(f"{LIST}?correlation_id=console-newer")
    found = re.search(r'data-live="([^"]+)"', page)
    assert found
    headers = keys.bearer(closed.all) | {"X-Request-ID": "console-newer"}
    with people.auditor.http.stream("GET", unescape(found[1])) as stream:
        lines = (each for each in stream.iter_lines() if each.startswith("data:"))
        next(lines)
        closed.http.post("/users/4713/deactivation", headers=headers)
        assert "1 newer command: show it" in next(lines)


def test_only_a_failed_command_is_retried_and_only_by_an_operator(closed: Closed, people: People, done: Any) -> None:
    path = f"{LIST}/{done['rejected']}"
    assert people.everything.submit(path, f"{path}/retry").status_code == 409
    assert "Retry</button>" not in people.everything.text(path)
    answer = closed.http.put(
        "/users/4714", json={"email": "a@b.example"}, headers=keys.bearer(closed.all) | {"Prefer": "wait=30"}
    )
    id = answer.json()["instance"].removeprefix("/commands/")
    fail(closed.settings, id)
    assert "Retry</button>" in people.everything.text(f"{LIST}/{id}")
    assert "role operator" in people.auditor.text(f"{LIST}/{id}")
    assert people.auditor.submit(f"{LIST}/{id}", f"{LIST}/{id}/retry").status_code == 403
    messages = told(people.everything, people.everything.text(f"{LIST}/{id}"))
    assert "retried" not in next(messages)["story"]
    there = people.everything.submit(f"{LIST}/{id}", f"{LIST}/{id}/retry").headers["location"]
    assert there.startswith(f"{LIST}/{id}?done=")
    assert "Failed, and retried" in next(messages)["story"]
    eventually(lambda: "Decided: rejected" in people.everything.text(f"{LIST}/{id}"))
    page = people.everything.text(f"{LIST}/{id}")
    assert "Failed, and retried" in page
    [deed] = {*ids(page[page.index("Handled again by") : page.index("It led to")])}
    its = people.everything.text(f"{LIST}/{deed}")
    assert ids(its[its.index("It led to") :])[0] == id


# Many at once


def test_a_group_of_failures_is_one_line_and_is_retried_once_however_often_its_form_is_sent(
    closed: Closed, people: People
) -> None:
    headers = keys.bearer(closed.all) | {"Prefer": "wait=30"}
    paths = [
        closed.http.delete(f"/users/{n}/deactivation", headers=headers).json()["instance"]
        for n in (901_000, 90_100, 9_010)
    ]
    failed = [path.removeprefix("/commands/") for path in paths]
    for id in failed:
        fail(closed.settings, id)
    [group] = re.findall(
        rf'<td class="num">3</td>\s*<td><a href="({LIST}/failures/[0-9a-f]+)"><span class="value">There is no user …',
        people.auditor.text(f"{LIST}/failures"),
    )
    assert ids(people.auditor.text(group)) == failed[::-1]
    assert "role operator" in people.auditor.text(group)
    fields = asked(people.everything, group)
    assert people.auditor.submit(LIST, f"{LIST}/jobs", **fields).status_code == 403
    first, second = (people.everything.submit(group, f"{LIST}/jobs", **fields).headers["location"] for _ in range(2))
    assert first == second
    eventually(lambda: "3 rejected</a>" in people.auditor.text(first))
    assert "No command has failed by this cause" in people.auditor.text(group)
    assert first in people.auditor.text(f"{LIST}/failures")
    page = people.auditor.text(f"{LIST}/{failed[0]}")
    [deed] = {*ids(page[page.index("Handled again by") : page.index("It led to")])}
    assert f'<a href="{first}">a job' in people.auditor.text(f"{LIST}/{deed}")
    audit = closed.get("/audit?limit=1000", closed.all).json()
    retried = [each["data"]["command_id"] for each in audit if each["type"] == "CommandRetried"]
    assert sorted(each for each in retried if each in failed) == sorted(failed)


@pytest.mark.parametrize("these", ["", "1.x", "1..2", "²", "9" * 19, "99999999"])
def test_a_form_that_names_no_commands_begins_nothing(people: People, these: str) -> None:
    answer = people.everything.submit(LIST, f"{LIST}/jobs", job="0" * 16, these=these)
    assert answer.status_code in {400, 404}


def asked(visitor: Visitor, group: str) -> dict[str, str]:
    """The fields of the form that retries a group."""
    return dict(re.findall(r'name="(job|these)" value="([^"]+)"', visitor.text(group)))


@pytest.mark.both_engines
def test_what_waits_is_followed_and_what_fails_again_is_still_there(stores: Stores, poison: None) -> None:
    def work() -> bool:
        """Work once; returns whether nothing waits any more."""
        return not stores.handler.handle() + stores.handler.retry() and not aside(stores)

    good, *bad = accept(stores, create("a@b.example"), create("poison@example.com"), create("poison@example.com"))
    eventually(work, within=60)
    with api(stores, free_port()) as url, Visitor(url) as visitor:
        many = accept(stores, *(update(1, f"{n}@b.example") for n in range(looking.PAGE)))
        page = visitor.text(f"{LIST}?status=waiting&stream=1")
        assert ids(page) == [each.command_id for each in many[::-1]]
        assert set(next(told(visitor, page))) == {"newer", *(f"status-{each.command_id}" for each in many)}
        assert "49 before it" in visitor.text(f"{LIST}/{many[-1].command_id}")
        [group] = re.findall(rf'href="({LIST}/failures/[0-9a-f]+)"', visitor.text(f"{LIST}/failures"))
        job = visitor.submit(group, f"{LIST}/jobs", **asked(visitor, group)).headers["location"]
        assert "2 of 2 under way" in visitor.text(job)
        messages = told(visitor, visitor.text(job))
        assert "2 of 2 under way" in next(messages)["counts"]
        eventually(work, within=60)
        assert "2 failed again" in next(said for each in messages if "All handled" in (said := each.get("counts", "")))
        assert "2 failed again" in visitor.text(job)
        assert visitor.text(group).count(">again<") == 2
        assert "Failed again" in visitor.text(f"{LIST}/{bad[0].command_id}")
        story = visitor.text(f"{LIST}/{good.command_id}")
        assert story.count("Not visible yet in") == 3  # no projection works
        assert many[0].command_id in ids(story)  # the next one to its stream
        tried, behind = accept(stores, create("poison@example.com"), update(4, "late@b.example"))
        stores.handler.handle()
        page = visitor.text(f"{LIST}/{behind.command_id}")
        assert tried.command_id in ids(page[page.index("Waits behind</dt>") :])


def aside(stores: Stores) -> int:
    with stores.events.connect() as connection:
        return set_aside.count(connection)


@contextmanager
def api(stores: Stores, port: int) -> Iterator[str]:
    """An API process beside what the test does with the stores."""
    process = start(["api"], stores.settings.data_dir, environment(stores.settings) | {"CQRS_API_PORT": str(port)})
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url) as http:
            eventually(lambda: answers(http, "/livez"), within=60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def told(visitor: Visitor, page: str) -> Iterator[dict[str, str]]:
    """The messages that renew a page, until all that the page waits for is told."""
    found = re.search(r'data-live="([^"]+)"', page)
    assert found
    with visitor.http.stream("GET", unescape(found[1])) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines():
            if line.startswith("data: "):
                parts: dict[str, str] = json.loads(line.removeprefix("data: "))
                yield parts
                if "All handled" in parts.get("counts", ""):
                    return


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose rules have bugs, until they are mended."""
    bugs = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "poison")}
    with up(tmp_path_factory.mktemp("failures") / "data", **bugs) as service:
        yield service


@pytest.mark.long
def test_a_group_of_failures_is_retried_with_a_result_for_each_that_outlives_every_process(running: Service) -> None:
    def create(email: str) -> str:
        id: str = running.http.post("/users/", json={**JOHN, "email": email}).json()["command_id"]
        return id

    first, *alike = [create(f"raises@{n}.example.com") for n in range(4)]
    create("panics@example.com")
    with Visitor(running.url) as visitor:
        failures = f"{LIST}/failures"
        counts = eventually(lambda: sums(visitor.text(failures), 5), within=60)
        assert counts == ["4", "1"]
        group = re.findall(rf'href="({failures}/[0-9a-f]+)"', visitor.text(failures))[0]
        page = visitor.text(group)
        assert ids(page) == [*alike[::-1], first]
        fields = asked(visitor, group)
        job = visitor.submit(group, f"{LIST}/jobs", **fields).headers["location"]
        assert visitor.submit(group, f"{LIST}/jobs", **fields).headers["location"] == job  # sent twice: once
        eventually(lambda: "4 failed again" in visitor.text(job), within=60)
        assert visitor.text(group).count(">again<") == 4  # still there
        assert "Failed again" in visitor.text(f"{LIST}/{first}")

        (running.data_dir / "mended").touch()
        seqs = fields["these"].split(".")
        with httpx.Client(base_url=running.url) as http:
            taken = http.post("/users/", json={**JOHN, "email": "raises@2.example.com"}, headers={"Prefer": "wait=30"})
        assert taken.status_code == 201  # so one of the group will be rejected
        fields = asked(visitor, group)
        assert fields["these"].split(".") == seqs
        job = visitor.submit(group, f"{LIST}/jobs", **fields).headers["location"]
        eventually(lambda: "All handled" in visitor.text(job), within=60)
        for name in ("api", "command-worker", "projection-worker"):
            running.restart(name)
        page = visitor.text(job)
        assert re.findall(r"(\d+) (succeeded|rejected|failed again|not retried)</a>", page) == [
            ("3", "succeeded"),
            ("1", "rejected"),
        ]
        assert len(ids(visitor.text(f"{job}?state=succeeded"))) == 2 * 3  # each with the command that retried it
        assert job in visitor.text(failures)
        late = visitor.submit(f"{LIST}/{first}", f"{LIST}/jobs", job="0" * 16, these=fields["these"]).headers[
            "location"
        ]
        eventually(lambda: "4 not retried" in visitor.text(late))
        assert "only a failed command is retried" in visitor.text(late)
    audit = [each for each in running.http.get("/audit").json() if each["type"] == "CommandRetried"]
    assert len(audit) == 2 * 4


def sums(page: str, total: int) -> list[str]:
    """The counts of the groups, once all commands failed."""
    counts = re.findall(r'<td class="num">(\d+)</td>\n<td><a', page)
    return counts if sum(map(int, counts)) == total else []
