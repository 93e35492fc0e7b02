"""Names that no one here made up: what is stored is text on every page, whatever it looks like."""

from collections.abc import Callable

from tests.console.conftest import Looked, names
from tests.support.service import Service

Look = Callable[..., Looked]


def test_naughty_names_are_shown_as_they_are_and_run_nothing(look: Look, service: Service) -> None:
    looked = look().at("/console/users")
    page, given = looked.page, {" ".join(each.split()) for each in names()}
    shown: list[str] = []
    while True:
        page.get_by_role("button", name="Show names and addresses").click()
        page.wait_for_url("**revealed=**")
        shown += page.locator("td bdi, td .value").all_inner_texts()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        older = page.get_by_role("link", name="Older")
        if not older.count():
            break
        older.click()
        page.wait_for_load_state("load")
    stored = {" ".join(each["first_name"].split()) for each in service.http.get("/users/?limit=1000").json()}
    texts = {" ".join(each.split()) for each in shown}
    assert {each for each in stored & given if each} <= texts
    assert len(stored & given) > 60
    assert not looked.wrong


def test_a_naughty_name_is_text_in_its_history_its_event_and_its_command(look: Look, service: Service) -> None:
    name = "\"><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    body = {"first_name": name, "last_name": "Naughty", "email": "naughty@example.com"}
    answer = service.http.post("/users/", json=body, headers={"Prefer": "wait=20"})
    command = service.http.get("/commands/?limit=1").json()[0]
    pages = (
        f"/console{answer.headers['location']}",
        f"/console/log/{command['position']}",
        f"/console{command['links']['self']}",
    )
    for path in pages:
        looked = look().at(path)
        looked.page.get_by_role("button", name="Show").first.click()
        looked.page.wait_for_url("**revealed=**")
        assert name in looked.page.locator("main").inner_text(), path
        assert not looked.wrong
