"""What buttons do, from the click to what comes of it, while the processes that do it are killed."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import POISON, Looked
from tests.support.service import Service, eventually, up

Look = Callable[..., Looked]

WAIT = {"Prefer": "wait=20"}

TOLD = re.compile("(done|waiting)=")
"""The address of a page that says that something was done, or waits to be."""

LONG = 40_000
"""Milliseconds in which a killed process is back and has done what it had to."""


@pytest.fixture(scope="module")
def service(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own, since what failed is mended here: three commands have."""
    folder = shutil.copytree(files, tmp_path_factory.mktemp("actions") / "data")
    with up(folder, PYTHONPATH=str(POISON)) as service:
        for _ in range(3):
            body = {"first_name": "Ann", "last_name": "Lee", "email": "raises@example.com"}
            assert service.http.post("/users/", json=body, headers=WAIT).status_code == 500
        yield service


def new_user(service: Service, email: str) -> int:
    body = {"first_name": "Ann", "last_name": "Lee", "email": email}
    user: int = service.http.post("/users/", json=body, headers=WAIT).json()["user_id"]
    return user


def test_a_user_is_deactivated_and_reactivated(look: Look, service: Service) -> None:
    page = look().at(f"/console/users/{new_user(service, 'leaves@example.com')}").page
    service.kill("projection-worker")
    page.get_by_role("button", name="Deactivate").click()
    page.wait_for_url(TOLD, timeout=LONG)
    eventually(lambda: page.reload() and page.get_by_role("button", name="Reactivate").count(), within=40)
    service.kill("command-worker")
    page.get_by_role("button", name="Reactivate").click()
    page.wait_for_url(TOLD, timeout=LONG)


def test_a_user_is_erased_only_when_its_number_is_typed(look: Look, service: Service) -> None:
    number = new_user(service, "forgotten@example.com")
    page = look().at(f"/console/users/{number}").page
    page.get_by_text("Erase it for good").click()
    erase = page.get_by_role("button", name=f"Erase user {number}")
    expect(erase).to_be_disabled()
    page.locator("#number").fill(str(number + 1))
    expect(erase).to_be_disabled()
    page.locator("#number").fill(str(number))
    service.kill("command-worker")
    with page.expect_navigation(timeout=LONG):
        erase.click()
    eventually(lambda: page.reload() and page.get_by_text("was erased").count(), within=40)
    assert service.http.get(f"/users/{number}").status_code == 410


def test_what_is_personal_is_shown_when_it_is_asked_for_and_that_is_in_the_audit_trail(
    look: Look, service: Service
) -> None:
    path = f"/console/users/{new_user(service, 'private@example.com')}"
    page = look().at(path).page
    assert "private@example.com" not in page.content()
    page.get_by_role("button", name="Show name and address").click()
    page.wait_for_url("**revealed=**")
    expect(page.locator("main")).to_contain_text("private@example.com")
    shown = [
        each["data"]["page"] for each in service.http.get("/audit?limit=1000").json() if each["type"] == "PersonalShown"
    ]
    assert path in shown


@pytest.mark.timeout(180)
def test_a_group_of_failures_is_retried_and_each_one_s_result_is_shown(look: Look, service: Service) -> None:
    (service.data_dir / "mended").touch()
    page = look().at("/console/commands/failures").page
    page.get_by_role("link", name="ZeroDivisionError").first.click()
    page.wait_for_load_state("load")
    service.kill("command-worker")
    page.get_by_role("button", name="Retry").first.click()
    page.wait_for_url("**/console/commands/jobs/**", timeout=LONG)
    service.kill("api")  # the job's page comes back by itself, and the results are in the stores
    expect(page.locator("main")).to_contain_text("succeeded", timeout=LONG)
