"""The console's pages of projections: what each does, and what operators do about it."""

from collections.abc import Iterator

import pytest

from shared.database import engines
from shared.operations import rebuilds
from shared.settings import Settings
from shared.stores import checkpoints
from shared.stores.checkpoints import Stop
from tests.api.conftest import Closed
from tests.support import keys
from tests.support.console import Visitor
from tests.support.service import Service, eventually, up
from tests.support.stores import JOHN

PAGE = "/console/projections/users"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a user, whose projections are told things."""
    with up(tmp_path_factory.mktemp("projections") / "data") as running:
        running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=20"}).raise_for_status()
        eventually(lambda: all(not each["lag"] for each in running.http.get("/projections/").json().values()))
        yield running


@pytest.fixture
def visitor(running: Service) -> Iterator[Visitor]:
    with Visitor(running.url) as visitor:
        yield visitor


def shown(visitor: Visitor, path: str, what: str) -> str:
    """The page, once it says so: those who look within a second share a look."""
    return eventually(lambda: page if what in (page := visitor.text(path)) else "")


def test_projections_are_listed_with_how_far_they_are_and_the_pace_of_what_was_looked_at(visitor: Visitor) -> None:
    listed = visitor.text("/console/projections")
    assert all(f'href="/console/projections/{name}"' in listed for name in ("users", "emails", "stats"))
    assert "running" in listed
    assert "Events it reads" in visitor.text(PAGE)
    eventually(lambda: "events a second, in the last minute" in visitor.text(PAGE))


def test_a_projection_is_paused_and_resumed(visitor: Visitor) -> None:
    gone = visitor.submit("/console/projections/stats", "/console/projections/stats/pause")
    assert gone.headers["location"].startswith("/console/projections/stats?done=")
    page = eventually(
        lambda: page if "Paused by an operator" in (page := visitor.text(gone.headers["location"])) else ""
    )
    assert "Done:" in page
    assert "/console/projections/stats/resume" in page
    assert "Paused by an operator" in visitor.text("/console/projections")
    visitor.submit("/console/projections/stats", "/console/projections/stats/resume")
    eventually(lambda: "Paused by an operator" not in visitor.text("/console/projections/stats"))


def test_p6_a_projection_is_rebuilt_and_the_page_says_by_whom_and_what_differed(
    running: Service, visitor: Visitor
) -> None:
    with engines.writing(running.settings.read_model_of("users"), lock="users") as connection:
        connection.exec_driver_sql("UPDATE users SET email = 'wrong'")
    gone = visitor.submit(PAGE, f"{PAGE}/rebuild")
    assert gone.headers["location"].startswith(f"{PAGE}?done=")
    page = shown(visitor, PAGE, "Before the swap")
    assert "1 row differed from the log" in page
    assert "local" in page
    assert running.http.get("/users/1").json()["email"] == JOHN["email"]
    assert running.http.get("/projections/users/rebuild").json()["stage"] == "done"


def test_how_far_a_rebuild_is_is_shown_and_a_second_one_refused(running: Service, visitor: Visitor) -> None:
    with engines.writing(running.settings.read_model_of("stats"), lock="stats") as connection:
        rebuilds.begin(connection, "stats", by="cli:<b>", first=0, upto=400)
        rebuilds.tell(connection, "stats", "filling", reached=100, upto=400)
    page = shown(visitor, "/console/projections/stats", "100 of 400")
    assert "fills new tables" in page
    assert "cli:&lt;b&gt;" in page
    assert "/console/projections/stats/rebuild" not in page
    assert "25 %" in visitor.text("/console/projections")
    refused = visitor.submit("/console/projections/stats", "/console/projections/stats/rebuild")
    assert (refused.status_code, "is being rebuilt already" in refused.text) == (409, True)
    with engines.writing(running.settings.read_model_of("stats"), lock="stats") as connection:
        rebuilds.fail(connection, "stats", "stats can't apply event 7: <i>", for_good=True)
    page = eventually(
        lambda: page if "The rebuild failed" in (page := visitor.text("/console/projections/stats")) else ""
    )
    assert "event 7: &lt;i&gt;" in page


def test_the_event_that_stops_a_projection_is_shown_with_its_error_and_what_to_do(running: Service) -> None:
    with Visitor(running.url) as visitor:
        _stop(running.settings, Stop(2, "ZeroDivisionError: <script>"))
        page = shown(visitor, "/console/projections/emails", "Stopped before")
        assert '<a href="/console/log/2">event 2</a>' in page
        assert "ZeroDivisionError: &lt;script&gt;" in page
        assert "deploy new projection workers" in page
        assert "ZeroDivisionError" in visitor.text("/console/projections")
        _stop(running.settings, None)


def _stop(settings: Settings, stop: Stop | None) -> None:
    with engines.writing(settings.read_model_of("emails"), lock="emails") as connection:
        checkpoints.move_stop(connection, "emails", stop)


def test_open_pages_are_renewed_as_long_as_somebody_looks(visitor: Visitor) -> None:
    for path in ("/console/projections/live", "/console/projections/users/live"):
        with visitor.http.stream("GET", path) as stream:
            assert next(line for line in stream.iter_lines() if line.startswith("data:"))


def test_what_is_not_there_is_404(visitor: Visitor) -> None:
    for path in ("/console/projections/nothing", "/console/projections/nothing/live"):
        assert visitor.http.get(path).status_code == 404
    for deed in ("pause", "resume", "rebuild"):
        assert visitor.submit(PAGE, f"/console/projections/nothing/{deed}").status_code == 404


def test_p10_projections_are_the_operators(closed: Closed) -> None:
    with Visitor(closed.service.url, closed.keys["auditor"]) as auditor:
        for path in ("/console/projections", PAGE, "/console/projections/live"):
            assert auditor.http.get(path).status_code == 403
        for deed in ("pause", "resume", "rebuild"):
            assert auditor.submit("/console", f"{PAGE}/{deed}").status_code == 403
    for method in ("GET", "POST"):
        answer = closed.http.request(method, "/projections/users/rebuild", headers=keys.bearer(closed.keys["auditor"]))
        assert answer.status_code == 403
    with Visitor(closed.service.url, closed.keys["operator"]) as operator:
        assert "Events it reads" in operator.text(PAGE)
        assert "/console/log?type=" not in operator.text(PAGE)


def test_the_projections_over_http_tell_of_no_rebuild_that_never_was(running: Service) -> None:
    answer = running.http.get("/projections/emails/rebuild")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/rebuild-not-found")
