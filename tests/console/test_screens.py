"""Each screen in a real browser: three widths, both themes, nothing wrong with it, and no more than it may weigh."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from api.console.pages import Page as Route
from api.main import app
from tests.console.conftest import Looked, screenshot

Look = Callable[..., Looked]

PART = re.compile("/(live|part)$")

WIDTHS = 360, 1280, 2560
THEMES = "light", "dark"

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()

TAG = re.compile("<[^>]*>")

EMPTY = re.compile(r"<(a|button|dd|dt|h\d|li|summary|td|th)\b[^>]*>(\s|<(?!/\1>)[^>]*>)*</\1>")
"""What is there for its text, and has none."""

WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?![\d:.]*( UTC|Z))")

SCRIPT_BYTES, PAGE_BYTES = 30_000, 100_000


def screens() -> list[str]:
    """The routes of pages; of those that renew a part of a page, none."""
    routes = [route for route in app.routes if isinstance(route, Route) and "GET" in (route.methods or ())]
    return sorted(route.path for route in routes if not PART.search(route.path))


SCREENS = screens()

MENU = [route.path for route in app.routes if isinstance(route, Route) and route.in_menu]

FIRST_PAINT_MS = 300

TRIES = 10
"""A page may be opened so often until it is painted in time: a busy machine is slow."""

PAINTED = """() => new Promise(resolve =>
    new PerformanceObserver(list => list.getEntriesByName("first-contentful-paint").forEach(resolve))
        .observe({type: "paint", buffered: true})).then(entry => entry.startTime)"""


@pytest.mark.parametrize("route", SCREENS)
def test_a_screen_fits_every_width_and_axe_finds_nothing_in_both_themes(
    look: Look, paths: dict[str, str], route: str
) -> None:
    assert route in paths, "no link leads there"
    for theme in THEMES:
        looked = look(theme=theme).at(paths[route])
        for width in WIDTHS:
            looked.page.set_viewport_size({"width": width, "height": 900})
            name = route.removeprefix("/console").replace("/", "-").replace("{", "").replace("}", "") or "-overview"
            screenshot(looked, f"{name[1:]}-{width}-{theme}")
            assert looked.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width}: too wide"
        assert looked.page.locator("h1").count() == 1
        assert not looked.wrong
        assert violations(looked) == []


def violations(looked: Looked) -> list[str]:
    """What axe has to say about a page."""
    looked.page.evaluate(f"() => {{ {AXE} }}")
    found: Any = looked.page.evaluate("() => axe.run(document)")
    return [f"{each['id']}: {[node['target'] for node in each['nodes']][:3]}" for each in found["violations"]]


@pytest.mark.parametrize("route", SCREENS)
def test_a_screen_weighs_no_more_than_it_may(look: Look, paths: dict[str, str], route: str) -> None:
    looked = look()
    sizes: dict[str, int] = {}
    looked.page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    looked.at(paths[route])
    looked.page.wait_for_load_state("load")
    scripts = sum(size for url, size in sizes.items() if ".js" in url)
    assert scripts <= SCRIPT_BYTES
    assert sum(sizes.values()) <= PAGE_BYTES, json.dumps(sizes, indent=1)


@pytest.mark.parametrize("route", MENU)
def test_a_page_of_the_menu_is_painted_within_300_ms(look: Look, route: str) -> None:
    took: list[float] = []
    while not took or took[-1] > FIRST_PAINT_MS:
        assert len(took) < TRIES, took
        took.append(look().at(route).page.evaluate(PAINTED))


def test_the_keyboard_skips_to_the_content_and_the_slash_leads_to_the_search(look: Look) -> None:
    page = look().at("/console").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_pages_are_read_without_javascript(paths: dict[str, str], chromium: Any, service: Any) -> None:
    context = chromium.new_context(base_url=service.url, java_script_enabled=False)
    page = context.new_page()
    for path in paths.values():
        page.goto(path)
        assert page.locator("main").inner_text().strip(), path
    context.close()


def test_nothing_related_is_empty_and_each_time_has_its_zone(paths: dict[str, str], service: Any) -> None:
    for path in paths.values():
        main = service.http.get(path).text.partition("<main")[2]
        assert not EMPTY.search(main), path
        assert not WITHOUT_ZONE.search(TAG.sub(" ", main)), path
