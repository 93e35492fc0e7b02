"""Each projection by itself: complete, exact, the same when it is rebuilt; and none holds up another."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from threading import enumerate as threads
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import DBAPIError

from shared.database import engines
from shared.database.sqlite import path_of
from shared.database.statements import insert_rows
from shared.domain.projections import PROJECTIONS
from shared.domain.users.read_models import emails, stats, users
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from tests.support.service import api, eventually
from tests.support.stores import (
    JOHN,
    Stores,
    accept,
    create,
    deactivate,
    once_on_postgresql,
    reactivate,
    refusing,
    update,
)
from tests.support.trouble import locked
from workers.projecting import chunk as projections
from workers.projecting import runner
from workers.projecting.runner import ProjectionThreads

pytestmark = pytest.mark.both_engines

CHUNKS = once_on_postgresql(2, 1, 5, 1000)

TABLES = {"users": users.table, "emails": emails.table, "stats": stats.table}


@contextmanager
def writing(settings: Settings, name: str) -> Iterator[Engine]:
    engine = engines.writer(settings.read_model_of(name), lock=name, durable=False)
    try:
        yield engine
    finally:
        engine.dispose()


def happen(stores: Stores, people: int) -> None:
    """So many people, and one change of address for each third."""
    accept(stores, *(create(f"{n}@example.com") for n in range(1, people + 1)))
    accept(stores, *(update(n, f"{n}.new@example.com") for n in range(3, people + 1, 3)))
    while stores.handler.handle():
        pass


def catch_up(stores: Stores, name: str) -> list[Any]:
    """What the projection's table holds then."""
    with writing(stores.settings, name) as engine:
        while runner.catch_up(stores.events, engine, PROJECTIONS[name]):
            pass
        return rows(engine, name)


def rows(engine: Engine, name: str) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(select(TABLES[name]).order_by(*TABLES[name].primary_key)))


def reached(settings: Settings, name: str) -> int:
    with engines.reading(settings.read_model_of(name)) as connection:
        return checkpoints.position_of(connection, name)


def look_up(stores: Stores, email: str) -> list[int]:
    """The numbers of who holds an address."""
    with engines.reading(stores.settings.read_model_of("emails")) as connection:
        return [user.user_id for user in emails.users_with(connection, email, after=0, limit=10)]


def leave_and_come_back(stores: Stores) -> None:
    """User 1 moves, leaves, comes back and moves; user 2 moves and leaves; user 3 leaves and comes back."""
    accept(stores, *(create(f"{n}@example.com") for n in (1, 2, 3, 4)))
    accept(stores, update(1, "1.new@example.com"), deactivate(1), reactivate(1), update(1, "1.newer@example.com"))
    accept(stores, update(2, "2.new@example.com"), deactivate(2), deactivate(3), reactivate(3))
    while stores.handler.handle():
        pass


LEFT = [(1, "1.newer@example.com", 5, True), (2, "2.new@example.com", 3, False)]
LEFT += [(3, "3@example.com", 3, True), (4, "4@example.com", 1, True)]


def days(stores: Stores) -> list[tuple[str, int, int]]:
    return [tuple(row) for row in catch_up(stores, "stats")]


@pytest.mark.parametrize("name", PROJECTIONS)
def test_p6_each_projection_applies_what_it_has_seen_once(stores: Stores, name: str) -> None:
    happen(stores, 10)
    first = catch_up(stores, name)
    assert first
    assert catch_up(stores, name) == first


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", PROJECTIONS)
def test_p6_each_projection_rebuilt_is_the_same_whatever_the_chunk(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    for _ in range(3):
        happen(stores, 4)
        before = catch_up(stores, name)
    with writing(stores.settings, name) as engine, engine.begin() as connection:
        connection.execute(delete(TABLES[name]))
        checkpoints.move(connection, name, 0)
    monkeypatch.setattr(projections, "CHUNK", chunk)
    assert catch_up(stores, name) == before


@pytest.mark.parametrize("name", PROJECTIONS)
def test_p6_rows_and_checkpoint_of_each_projection_change_together(stores: Stores, name: str) -> None:
    happen(stores, 3)
    with writing(stores.settings, name) as engine:
        with refusing(engine, "UPDATE", "checkpoints"), pytest.raises(DBAPIError, match="refused"):
            catch_up(stores, name)
        assert (rows(engine, name), reached(stores.settings, name)) == ([], 0)
    assert catch_up(stores, name)
    assert reached(stores.settings, name) == 4


@pytest.mark.parametrize("name", PROJECTIONS)
def test_p6_workers_that_race_apply_each_event_once(stores: Stores, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(projections, "CHUNK", 7)

    def race() -> None:
        with writing(stores.settings, name) as engine:
            while reached(stores.settings, name) < 400:
                runner.catch_up(stores.events, engine, PROJECTIONS[name])

    with ThreadPoolExecutor() as racing:
        both = [racing.submit(race) for _ in range(2)]
        happen(stores, 300)
        for each in both:
            each.result(60)
    raced = catch_up(stores, name)
    with writing(stores.settings, name) as engine, engine.begin() as connection:
        connection.execute(delete(TABLES[name]))
        checkpoints.move(connection, name, 0)
    assert catch_up(stores, name) == raced


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", ["users", "emails"])
def test_who_left_is_marked_whatever_the_chunk(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    leave_and_come_back(stores)
    monkeypatch.setattr(projections, "CHUNK", chunk)
    assert [(row.user_id, row.email, row.version, row.active) for row in catch_up(stores, name)] == LEFT


@pytest.mark.parametrize(
    ("active", "found"), [(None, [2, 3, 4]), (True, [3, 4]), (False, [2])], ids=["all", "active", "the others"]
)
def test_pages_have_all_users_or_those_asked_for(stores: Stores, active: bool | None, found: list[int]) -> None:
    leave_and_come_back(stores)
    catch_up(stores, "users")
    with engines.reading(stores.settings.read_model_of("users")) as connection:
        for limit in (1, 2, 3):
            page = users.users_after(connection, 1, active=active, limit=limit)
            assert [user.user_id for user in page] == found[:limit]
            assert [user._asdict().get("active", True) for user in page] == [user.user_id != 2 for user in page]


@pytest.mark.parametrize(("active", "found"), [(None, [2]), (True, []), (False, [2])])
def test_who_holds_an_address_is_marked_and_found_by_it(stores: Stores, active: bool | None, found: list[int]) -> None:
    leave_and_come_back(stores)
    catch_up(stores, "emails")
    with engines.reading(stores.settings.read_model_of("emails")) as connection:
        holders = emails.users_with(connection, "2.NEW@example.com", after=0, active=active, limit=10)
    assert [(user.user_id, user._asdict()["active"]) for user in holders] == [(number, False) for number in found]


def test_few_users_that_left_are_found_without_looking_at_the_others(stores: Stores) -> None:
    """By the plan, since a wrong one shows only with many rows."""
    with stores.read_model.begin() as connection:
        everybody = [(n, "John", "Doe", f"{n}@example.com", 1, n % 500 > 0) for n in range(1, 5001)]
        insert_rows(connection, users.table, everybody)
        assert [user.user_id for user in users.users_after(connection, 500, active=False, limit=2)] == [1000, 1500]
        lite = connection.dialect.name == "sqlite"
        sql = "SELECT * FROM users WHERE user_id > 500 AND {} ORDER BY user_id LIMIT 2"
        asked = ("EXPLAIN QUERY PLAN " + sql.format("active = 0")) if lite else ("EXPLAIN " + sql.format("NOT active"))
        plan = " ".join(str(row) for row in connection.exec_driver_sql(asked))
    assert "users_inactive" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_names_are_looked_for_a_piece_at_a_time_from_the_highest_number_down(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_end_of_piece", users._down.with_only_columns(users.table.c.user_id).limit(1).offset(2))
    people = [("Åsa", "Öberg"), ("Öyvind", "Lie"), ("Al", "O_Neil"), ("al", "OXNeil"), ("De", "La Rue"), ("Ö", "Ber")]
    with stores.read_model.begin() as connection:
        rows = [(n * 10, *names, f"{n}@example.com", 1, n != 2) for n, names in enumerate(people, start=1)]
        insert_rows(connection, users.table, rows)

        def named(beginning: str, before: int = sys.maxsize, limit: int = 10, **more: Any) -> tuple[list[int], int]:
            found, down_to = users.users_named(connection, beginning, before=before, limit=limit, **more)
            return [each.user_id for each in found], down_to

        assert [named("ö"), named("ö", 40), named("ö", 10)] == [([60], 40), ([20, 10], 10), ([], 0)]
        assert named("ö", 40, active=True) == ([10], 10)
        assert named("ö", 40, limit=1) == ([20], 10)
        assert [named(each, 40)[0] for each in ("åsa ö", "öberg å", "LIE ÖY", "berg")] == [[10], [10], [20], []]
        everybody = {each: named(each)[0] + named(each, 40)[0] for each in ("o_", "%", "al o", "la r")}
        assert everybody == {"o_": [30], "%": [], "al o": [40, 30], "la r": [50]}
        insert_rows(connection, users.table, [(70, "Žofie", "Čechová", "70@example.com", 1, True)])
        assert [named(each)[0] for each in ("žofie če", "ŽOFIE ČE", "Čechová žo")] == [[70], [70], [70]]


def test_days_count_leaving_and_coming_back_as_changes(stores: Stores) -> None:
    leave_and_come_back(stores)
    [(_, created, changed)] = days(stores)
    assert (created, changed) == (4, 8)


def test_an_address_is_found_whatever_its_case_and_its_encoding(stores: Stores) -> None:
    accept(stores, create("Zoë@Straße.example"))
    stores.handler.handle()
    catch_up(stores, "emails")
    for same in ("zoë@straße.example", "ZOE\u0308@STRA\u1e9eE.EXAMPLE", "Zoë@xn--strae-oqa.example"):
        assert look_up(stores, same) == [1]
    for other in ("zoe@straße.example", "zoë@strasse.example"):
        assert look_up(stores, other) == []


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_an_address_that_changes_hands_is_found_at_who_holds_it_now(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    accept(stores, create("a@example.com"), update(1, "b@example.com"), create("a@example.com"))
    accept(stores, update(2, "c@example.com"), update(1, "a@example.com"), update(2, "b@example.com"))
    while stores.handler.handle():
        pass
    monkeypatch.setattr(projections, "CHUNK", chunk)
    catch_up(stores, "emails")
    found = {email: look_up(stores, f"{email}@example.com") for email in "abc"}
    assert found == {"a": [1], "b": [2], "c": []}


def test_days_count_users_and_changes(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, day in ((1, "2026-01-30"), (3, "2026-01-31"), (5, "2026-01-30")):  # the clock was set back
        monkeypatch.setattr(event_store, "now", lambda day=day: f"{day}T23:59:59.999999Z")
        accept(
            stores, create(f"{first}@example.com"), create(f"{first + 1}@example.com"), update(first, f"{first}@x.com")
        )
        stores.handler.handle()
        days(stores)
    assert days(stores) == [("2026-01-30", 4, 2), ("2026-01-31", 2, 1)]


@contextmanager
def running(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, **instead: Callable[..., None]
) -> Iterator[ProjectionThreads]:
    """The threads of a worker; the projections named do something else."""
    replaced = {name: replace(PROJECTIONS[name], project=project) for name, project in instead.items()}
    monkeypatch.setattr(runner, "PROJECTIONS", {**PROJECTIONS, **replaced})
    started = ProjectionThreads(stores.settings)
    try:
        yield started
    finally:
        started.stop()


def test_a_projection_that_hangs_holds_up_no_other(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, goes_on = Event(), Event()

    def hang(*_: object) -> None:
        hangs.set()
        goes_on.wait(60)

    with running(stores, monkeypatch, users=hang) as started:
        for people in (3, 6):
            happen(stores, people)
            started.wake()
            assert hangs.wait(30)
            with stores.events.begin() as connection:
                last = event_store.last_position(connection)
            for name in ("emails", "stats"):
                eventually(lambda: reached(stores.settings, name) == last)  # noqa: B023
            assert reached(stores.settings, "users") == 0
        goes_on.set()
        eventually(lambda: reached(stores.settings, "users") == last)


def test_a_projection_that_raises_stops_no_other(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_(*_: object) -> None:
        raise ZeroDivisionError

    happen(stores, 3)
    with running(stores, monkeypatch, emails=raise_) as started:
        started.wake()
        for name, position in {"users": 4, "stats": 4, "emails": 0}.items():
            eventually(lambda: reached(stores.settings, name) == position)  # noqa: B023


@pytest.mark.sqlite_only
def test_a_projection_whose_database_is_locked_holds_up_no_other(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(stores, 3)
    with running(stores, monkeypatch) as started:
        with locked(path_of(stores.settings.read_model_of("stats"))):
            started.wake()
            for name in ("users", "emails"):
                eventually(lambda: reached(stores.settings, name) == 4)  # noqa: B023
            assert reached(stores.settings, "stats") == 0
        started.wake()
        eventually(lambda: reached(stores.settings, "stats") == 4)


def test_threads_told_to_stop_end_after_their_chunk(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "CHUNK", 1)
    working, goes_on = Event(), Event()

    def slowly(*arguments: Any) -> None:
        working.set()
        goes_on.wait(60)
        users.project(*arguments)

    happen(stores, 3)
    with running(stores, monkeypatch, users=slowly) as started, ThreadPoolExecutor() as stopping:
        started.wake()
        assert working.wait(30)
        stop = stopping.submit(started.stop)
        eventually(lambda: not [each for each in threads() if each.name == "stats"])
        goes_on.set()
        stop.result(30)
    assert reached(stores.settings, "users") == 1


def test_threads_that_hang_keep_nobody_who_stops(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "STOP_SECONDS", 0.2)
    hangs, goes_on = Event(), Event()

    def hang(*_: object) -> None:
        hangs.set()
        goes_on.wait(60)

    happen(stores, 1)
    with running(stores, monkeypatch, stats=hang) as started:
        started.wake()
        assert hangs.wait(30)
        started.stop()
        assert [each.daemon for each in threads() if each.name == "stats"] == [True]
        goes_on.set()


@pytest.mark.processes
@pytest.mark.sqlite_only
def test_the_api_answers_from_the_databases_that_are_there(stores: Stores, tmp_path: Path) -> None:
    happen(stores, 3)
    for name in PROJECTIONS:
        catch_up(stores, name)
    path_of(stores.settings.read_model_of("emails")).unlink()
    with api(stores.settings.data_dir) as http:
        assert [http.get(path).status_code for path in ("/users/", "/users/1?min_position=4", "/stats")] == [200] * 3
        for path in ("/users/?email=1@example.com", "/users/?email=1@example.com&min_position=4"):
            refused = http.get(path)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unavailable")
        assert ready(http) == (200, "degraded", "emails down: its file can't be opened", {"users", "stats"})
        for name in ("users", "stats"):
            path_of(stores.settings.read_model_of(name)).unlink()
        assert ready(http) == (503, "unavailable", "down: its file can't be opened", set())
        assert http.post("/users/", json=JOHN).status_code == 202


def ready(http: httpx.Client) -> tuple[int, str, str, set[str]]:
    answer = http.get("/readyz")
    body = answer.json()
    return answer.status_code, body["status"], body["dependencies"]["read_model"], set(body["projections"])
