"""A user's page in a real browser: the slider shows versions as it moves."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Looked
from tests.support.service import Service

Look = Callable[..., Looked]

WAIT = {"Prefer": "wait=20"}


@pytest.fixture
def user(service: Service) -> int:
    """A user at its third version."""
    ann = {"first_name": "Ann", "last_name": "Slide", "email": "slide-1@example.com"}
    number: int = service.http.post("/users/", json=ann, headers=WAIT).json()["user_id"]
    for version in (2, 3):
        service.http.put(f"/users/{number}", json={"email": f"slide-{version}@example.com"}, headers=WAIT)
    return number


def test_the_slider_shows_the_user_as_it_was_and_its_address_follows(look: Look, user: int) -> None:
    looked = look().at(f"/console/users/{user}")
    page = looked.page
    page.get_by_role("button", name="Show name and address").click()
    slider, then = page.get_by_role("slider"), page.locator("#then")
    expect(then).to_contain_text("slide-3@example.com")
    slider.focus()
    for version in (2, 1):
        page.keyboard.press("ArrowLeft")
        expect(then).to_contain_text(f"slide-{version}@example.com")
    expect(then).to_contain_text("another than now")
    assert "version=1" in page.url
    page.reload()
    expect(then).to_contain_text("slide-1@example.com")
    assert not looked.wrong
