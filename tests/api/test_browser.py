"""A browser's EventSource: it comes back by itself, and to the right place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.api.test_feed import happen
from tests.support import browser
from tests.support.browser import browsing
from tests.support.service import answers, environment, eventually, free_port, start
from tests.support.stores import JOHN, Stores

pytestmark = pytest.mark.skipif(not browser.path(), reason="Chromium is not installed")

STARTS_WITHIN = 90
"""Seconds a browser may take."""


@contextmanager
def api(stores: Stores, port: int) -> Iterator[psutil.Popen]:
    own = {"CQRS_API_PORT": str(port), "CQRS_ALLOWED_HOSTS": "*"}  # the page is of another origin
    process = start(["api"], stores.settings.data_dir, environment(stores.settings) | own)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            eventually(lambda: answers(http, "/livez"), within=60)
        yield process
    finally:
        if process.is_running():
            process.terminate()
            process.wait(30)


def messages(told: list[list[Any]], url: str) -> list[str]:
    """The ids of those that came on a stream."""
    return [each[1] for each in told if each[0] == url and len(each) == 3]


@pytest.mark.long
@pytest.mark.both_engines
def test_a_browser_misses_nothing_and_sees_nothing_twice_while_the_api_is_stopped_and_killed(
    stores: Stores, tmp_path: Path
) -> None:
    happen(stores, 3)
    port = free_port()
    everything, next_ones = (f"http://127.0.0.1:{port}/events/stream{query}" for query in ("?after=0", ""))
    with ExitStack() as until_the_end:
        with api(stores, port):
            page = browsing(browser.path() or "", tmp_path / "profile", [everything, next_ones])
            told = until_the_end.enter_context(page)
            eventually(lambda: messages(told, everything) == ["1", "2", "3"], within=STARTS_WITHIN)
            eventually(lambda: [next_ones, "open"] in told)
        happen(stores, 2)  # while it is stopped; who waits for what comes next has seen nothing yet
        with api(stores, port) as process:
            eventually(lambda: messages(told, everything)[3:] == messages(told, next_ones) == ["4", "5"], within=30)
            process.kill()
            process.wait(30)
            happen(stores, 1)
        with api(stores, port):
            eventually(lambda: messages(told, everything)[5:] == messages(told, next_ones)[2:] == ["6"], within=30)
            happen(stores, 1)
            eventually(lambda: messages(told, everything)[6:] == messages(told, next_ones)[3:] == ["7"])
    assert not any(each[1] == "closed" for each in told)


def test_a_browser_that_has_seen_a_command_s_outcome_asks_no_more(stores: Stores, tmp_path: Path) -> None:
    port = free_port()
    with api(stores, port):
        command = httpx.post(f"http://127.0.0.1:{port}/users/", json=JOHN).headers["location"]
        url = f"http://127.0.0.1:{port}{command}/stream"
        with browsing(browser.path() or "", tmp_path / "profile", [url]) as told:
            eventually(lambda: messages(told, url) == ["accepted"], within=STARTS_WITHIN)
            stores.handler.handle()
            eventually(lambda: [url, "closed"] in told, within=30)
            assert messages(told, url) == ["accepted", "succeeded"]
