"""The page at /docs: it loads nothing from elsewhere, and works under the policy that says so."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import browser
from tests.support.service import Service, eventually
from tests.support.tab import visiting

STARTS_WITHIN = 90
"""Seconds a browser may take."""

TRY_LIVEZ = """
(async () => {
  const some = async find => { for (;;) { const it = find(); if (it) return it; await new Promise(r => setTimeout(r, 50)); } };
  const block = await some(() => document.querySelector("#operations-health-livez_livez_get"));
  block.querySelector("button.opblock-summary-control").click();
  (await some(() => block.querySelector("button.try-out__btn"))).click();
  (await some(() => block.querySelector("button.execute"))).click();
  return (await some(() => block.querySelector(".live-responses-table tbody .response-col_status"))).innerText;
})()
"""  # noqa: E501


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"])
def test_the_page_and_what_it_loads_have_a_strict_policy(shared_service: Service, path: str) -> None:
    answer = shared_service.http.get(path)
    assert answer.status_code == 200
    policy = dict(each.strip().partition(" ")[::2] for each in answer.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert not {"unsafe-inline", "unsafe-eval", "http"} & set(re.findall(r"[\w-]+", str(policy)))
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_names_nothing_elsewhere(shared_service: Service) -> None:
    page = shared_service.http.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    for each in sources:
        assert each.startswith("/docs/")
        assert shared_service.http.get(each).status_code == 200
    assert "//" not in page
    assert "<script>" not in page


def test_the_other_page_that_fastapi_has_is_this_one(shared_service: Service) -> None:
    answer = shared_service.http.get("/redoc")
    assert (answer.status_code, answer.headers["location"]) == (308, "/docs")


def test_what_is_no_file_of_the_page_is_not_found(shared_service: Service) -> None:
    for name in ("other.js", "..%2f__init__.py", "%2e%2e"):
        assert shared_service.http.get(f"/docs/{name}").status_code == 404


@pytest.mark.skipif(not browser.path(), reason="Chromium is not installed")
def test_in_a_browser_it_asks_this_service_alone_and_a_request_can_be_tried(
    shared_service: Service, tmp_path: Path
) -> None:
    with visiting(browser.path() or "", tmp_path / "profile", f"{shared_service.url}/docs") as tab:
        eventually(lambda: tab.run("document.querySelectorAll('.opblock').length") > 10, within=STARTS_WITHIN)
        assert tab.run(TRY_LIVEZ).startswith("200")
        asked = [urlsplit(each["request"]["url"]) for each in tab.told("Network.requestWillBeSent")]
        complaints: list[Any] = [each["entry"]["text"] for each in tab.told("Log.entryAdded")]
    own = urlsplit(shared_service.url).netloc
    assert {each.netloc for each in asked if each.scheme != "data"} == {own}
    assert any(each.path == "/livez" for each in asked)
    assert not complaints
