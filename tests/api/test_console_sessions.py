"""Signing in to the console: by a key, for as long as the key counts, and only our own pages change anything."""

import re
import shutil
import time
from pathlib import Path

import httpx
import pytest

from shared.settings import Settings
from tests.api.conftest import Closed, Visit
from tests.support import keys
from tests.support.console import Visitor
from tests.support.service import Service, api, eventually


def test_whoever_is_not_signed_in_is_led_to_where_one_signs_in_and_back(closed: Closed, visit: Visit) -> None:
    stranger = visit()
    asked = stranger.http.get("/console?q=%26")
    assert (asked.status_code, asked.headers["location"]) == (303, "/console/sign-in?to=%2Fconsole%3Fq%3D%2526")
    signed_in = stranger.submit("/console/sign-in", "/console/sign-in", key=closed.all.text, to="/console?a=b")
    assert signed_in.headers["location"] == "/console?a=b"
    assert "Overview" in stranger.text("/console")


@pytest.mark.parametrize("to", ["https://example.com/", "//example.com/", "/\\example.com", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_site(closed: Closed, to: str, visit: Visit) -> None:
    stranger = visit()
    answer = stranger.submit("/console/sign-in", "/console/sign-in", key=closed.all.text, to=to)
    assert answer.headers["location"] == "/console"


def test_a_session_s_cookie_is_out_of_reach_for_scripts_and_other_sites(closed: Closed, visit: Visit) -> None:
    stranger = visit()
    cookie = stranger.submit("/console/sign-in", "/console/sign-in", key=closed.all.text).headers["set-cookie"]
    name, _, attributes = cookie.partition("=")
    assert name == "cqrs-session"  # the service listens on loopback, without TLS
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {each.strip() for each in attributes.split(";")}
    assert closed.all.text not in cookie


def test_p10_a_session_ends_with_its_key(closed: Closed, visit: Visit) -> None:
    key = closed.new_key("reader")
    visitor = visit(key)
    assert visitor.http.get("/console").status_code == 200
    keys.revoke(closed.settings, key)
    eventually(lambda: visitor.http.get("/console").status_code == 303)


def test_p10_a_session_ends_when_its_key_is_rotated(closed: Closed, visit: Visit) -> None:
    key = closed.new_key("reader")
    visitor = visit(key)
    keys.rotate(closed.settings, key)
    eventually(lambda: visitor.http.get("/console").status_code == 303)


def test_p10_who_signs_out_is_out_with_a_copied_cookie_too(closed: Closed, visitor: Visitor, visit: Visit) -> None:
    copied = dict(visitor.http.cookies)
    other = visit(closed.all)
    assert visitor.submit("/console", "/console/sign-out").headers["location"] == "/console/sign-in"
    assert httpx.get(f"{closed.service.url}/console", cookies=copied).status_code == 303
    assert other.http.get("/console").status_code == 200
    again = visit(closed.all)
    again.submit("/console", "/console/sign-out", all="yes")
    assert other.http.get("/console").status_code == 303


@pytest.mark.parametrize("key", ["", "cqrs_", "garbage", "cqrs_00000000_" + "0" * 72, "<script>"])
def test_p10_no_key_no_session(closed: Closed, key: str, visit: Visit) -> None:
    stranger = visit()
    answer = stranger.submit("/console/sign-in", "/console/sign-in", key=key)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "<script>" not in answer.text.partition("<main")[2]


def test_p10_a_session_gives_no_more_than_its_key_s_roles(closed: Closed, visit: Visit) -> None:
    visitor = visit(closed.keys["reader"])
    assert "redis" not in visitor.text("/console").lower()


def test_p10_a_session_is_no_key_for_the_api(visitor: Visitor) -> None:
    assert visitor.http.get("/users/").status_code == 401
    assert visitor.http.delete("/users/1").status_code == 401


def test_p10_a_form_is_taken_only_from_our_own_pages(closed: Closed, visitor: Visitor, visit: Visit) -> None:
    token = visitor.token("/console")
    other = visit(closed.all)
    refused = {
        "no token": visitor.post("/console/sign-out", all="yes"),
        "a wrong token": visitor.post("/console/sign-out", token="0" * 64),
        "another session's": visitor.post("/console/sign-out", token=other.token("/console")),
        "no origin": visitor.post("/console/sign-out", token=token, origin=""),
        "another origin": visitor.post("/console/sign-out", token=token, origin="http://example.com"),
        "a page in a frame": visitor.post("/console/sign-out", token=token, origin="null"),
    }
    assert {what: answer.status_code for what, answer in refused.items()} == dict.fromkeys(refused, 403)
    assert visitor.http.get("/console").status_code == 200


def test_an_open_service_asks_nobody_to_sign_in(shared_service: Service) -> None:
    with httpx.Client(base_url=shared_service.url) as http:
        page = http.get("/console")
        assert page.status_code == 200
        assert "set-cookie" not in page.headers
        assert "Sign out" not in page.text


def test_pages_run_nothing_and_are_framed_by_nobody(shared_service: Service) -> None:
    policy = httpx.get(f"{shared_service.url}/console").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_a_browser_that_asks_for_the_root_is_led_to_the_console(shared_service: Service) -> None:
    as_browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert httpx.get(f"{shared_service.url}/", headers=as_browser).headers["location"] == "/console"
    assert "links" in httpx.get(f"{shared_service.url}/").json()


def test_p10_an_open_stream_ends_with_its_session(closed: Closed, visitor: Visitor) -> None:
    with httpx.stream("GET", f"{closed.service.url}/console/live", cookies=visitor.http.cookies, timeout=30) as stream:
        parts = stream.iter_raw()
        next(parts)
        visitor.submit("/console", "/console/sign-out")
        began = time.monotonic()
        list(parts)
        assert time.monotonic() - began < 30


def test_p10_an_address_of_what_was_revealed_shows_nothing_to_another_key(closed: Closed) -> None:
    user = closed.post(closed.all, "revealed@example.com", prefer="wait=30").json()
    page, me, other = f"/console/users/{user['user_id']}", closed.keys["reader"], closed.new_key("reader")
    found = re.search(r'name="token" value="([0-9a-f]+)"', closed.get(page, me).text)
    assert found
    headers = keys.bearer(me) | {"Origin": closed.service.url}
    shown = closed.http.post(f"{page}/personal", data={"token": found[1]}, headers=headers).headers["location"]
    assert "revealed@example.com" in closed.get(shown, me).text
    assert "revealed@example.com" not in closed.get(shown, other).text


@pytest.mark.parametrize("revealed", ["²", "9" * 5000, ".", "1796099770"])
def test_an_address_that_shows_nothing_personal_is_no_bug(visitor: Visitor, revealed: str) -> None:
    assert visitor.http.get("/console/log/1", params={"revealed": revealed}).status_code == 200


def test_the_audit_trail_names_no_page_that_there_is_not(visitor: Visitor) -> None:
    token = visitor.token("/console")
    assert visitor.post("/console/streams/what%20I%20like", token=token).status_code == 404


def test_sign_ins_take_from_the_rate_of_their_address(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "data")
    keys.add(Settings(data_dir=folder, _env_file=None), "reader")
    with api(folder, CQRS_AUTH="on", CQRS_MAX_RATE_PER_ADDRESS="3") as http, Visitor(str(http.base_url)) as stranger:
        token = stranger.token("/console/sign-in")
        tries = [stranger.post("/console/sign-in", token=token, key="wrong").status_code for _ in range(20)]
    assert {401, 429} == set(tries)


def test_p8_pages_say_so_while_sessions_cannot_be_looked_up(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "data")
    key = keys.add(Settings(data_dir=folder, _env_file=None), "operator")
    with api(folder, CQRS_AUTH="on") as http, Visitor(str(http.base_url), key) as visitor:
        visitor.text("/console")
        (folder / "inbox.db").rename(folder / "away.db")
        overview = visitor.text("/console")
        assert "The inbox is down" in overview
        for path, status in {"/console/commands": 503, "/console/nowhere": 404}.items():
            answer = visitor.http.get(path)
            assert (answer.status_code, answer.headers["content-type"][:9]) == (status, "text/html")
        visitor.http.cookies.set("cqrs-session", "another")
        refused = visitor.http.get("/console")
        assert (refused.status_code, refused.headers["content-type"][:9]) == (503, "text/html")
        assert "the inbox doesn&#39;t answer" in refused.text
