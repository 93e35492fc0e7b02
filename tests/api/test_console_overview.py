"""The console's first page: how the service is, and what the last hour was like."""

import json
import re
from html import unescape

import httpx

from tests.api.conftest import Closed
from tests.support.console import Visitor
from tests.support.service import Service, eventually
from tests.support.stores import JOHN

WAIT = {"Prefer": "wait=30"}


def word(page: str) -> str:
    [found] = re.findall(r'<p class="state \w+">([^<]+)</p>', page)
    return unescape(found)


def told(page: str, chart: str) -> str:
    """What a chart says to who can't see it."""
    found = re.search(rf'<title id="{chart}-title">([^<]+)</title>', page)
    return unescape(found[1]) if found else ""


def test_the_page_says_how_the_service_is_and_draws_the_last_hour(shared_service: Service) -> None:
    http = shared_service.http
    taken = {**JOHN, "email": "overview@example.com"}
    assert [http.post("/users/", json=taken, headers=WAIT).status_code for _ in range(2)] == [201, 409]

    def page() -> str:
        return http.get("/console").text

    eventually(lambda: "% rejected" in told(page(), "rates") and "command-worker-1@" in page())
    its = page()
    assert word(its) in {"Well", "Slow"}  # a busy machine may be slow
    for chart in "whole", "handling", "showing":
        assert re.search(r"Latest: p50 .+ p95 .+ p99", told(its, chart))
    assert "style=" not in its
    assert len(its.encode()) < 100_000


def test_what_stands_still_is_named_with_what_to_do(shared_service: Service) -> None:
    http = shared_service.http
    assert http.post("/projections/stats/pause", headers=WAIT).status_code < 300
    try:
        eventually(lambda: "stats is paused" in http.get("/console").text)
        page = http.get("/console").text
        assert word(page) != "Well"
        assert "<code>cqrs projections resume stats</code>" in page
    finally:
        assert http.delete("/projections/stats/pause", headers=WAIT).status_code < 300
    eventually(lambda: "stats is paused" not in http.get("/console").text)


def test_parts_are_renewed_while_somebody_looks(shared_service: Service) -> None:
    with httpx.stream("GET", f"{shared_service.url}/console/live", timeout=30) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("data: "))
    parts = json.loads(first.removeprefix("data: "))
    assert parts.keys() == {"state", "charts", "facts"}
    assert word(parts["state"])


def test_whoever_is_no_operator_sees_the_word_and_that_there_is_more(closed: Closed) -> None:
    with Visitor(closed.service.url, closed.keys["reader"]) as reader, Visitor(closed.service.url, closed.all) as all_:
        page = reader.text("/console")
        assert word(page)
        assert "role <code>operator</code>" in page
        assert '<svg class="chart' not in page
        assert "command-worker-1@" not in page
        with reader.http.stream("GET", "/console/live") as stream:
            first = next(line for line in stream.iter_lines() if line.startswith("data: "))
        assert json.loads(first.removeprefix("data: ")).keys() == {"state"}
        eventually(lambda: "command-worker-1@" in all_.text("/console"))
