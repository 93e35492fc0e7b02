"""`cqrs projections rebuild`, `pause` and `resume`: a read model made anew while the one before it serves."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pysqlite3.dbapi2 as sqlite3
import pytest
from sqlalchemy import JSON, Column, Connection, Engine, Enum, Index, MetaData, String, Table, insert, inspect, text
from sqlalchemy.exc import OperationalError

from cli.projections.rebuild import rebuild as by_command
from shared.database import engines
from shared.database.statements import execute_rows, insert_rows
from shared.domain.projections import PROJECTIONS
from shared.domain.users.read_models import users as read_model
from shared.domain.users.read_models.users import users
from shared.messages import RecordedEvent
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import checkpoints, inbox
from shared.stores.checkpoints import Progress
from tests.support.command_line import cqrs, told
from tests.support.processes import in_process
from tests.support.rebuilding import STAGES, rebuild_until
from tests.support.service import Service, api, eventually, stores_of
from tests.support.stores import JOHN, Stores, accept, create, inbox_of, update
from tests.support.trouble import new_email
from workers.projecting import chunk, rebuild, runner
from workers.projecting.shadow import has_tables, shadow_of

pytestmark = pytest.mark.both_engines

EVENTS = 6
"""In the log to begin with. One more records each rebuild, pause and resumption."""


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Five users, one of them moved; every read model shows it."""
    accept(stores, *(create(f"{n}@example.com") for n in range(1, 6)), update(3, "new@example.com"))
    handle(stores)
    for name in PROJECTIONS:
        catch_up(stores, name)
    return stores


def handle(stores: Stores) -> None:
    while stores.handler.handle():
        pass


@contextmanager
def writing(stores: Stores, name: str) -> Iterator[Engine]:
    with engines.briefly(engines.writer(stores.settings.read_model_of(name), lock=name, durable=False)) as engine:
        yield engine


def catch_up(stores: Stores, name: str = "users", which: Projection | None = None) -> None:
    with writing(stores, name) as engine:
        while runner.catch_up(stores.events, engine, which or PROJECTIONS[name]):
            pass


def write(stores: Stores, name: str, statement: str) -> None:
    with writing(stores, name) as engine, engine.begin() as connection:
        connection.execute(text(statement))


@contextmanager
def reading(stores: Stores, name: str = "users") -> Iterator[Connection]:
    with engines.reading(stores.settings.read_model_of(name)) as its:
        yield its


def rows(stores: Stores, what: str = "*") -> list[tuple[Any, ...]]:
    with reading(stores) as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {what} FROM users ORDER BY user_id"))]


def progress(stores: Stores, name: str = "users") -> Progress:
    with reading(stores, name) as connection:
        return checkpoints.progress(connection, name)


def is_clean(stores: Stores) -> bool:
    """Whether nothing is beside the read model."""
    with reading(stores) as connection:
        if connection.dialect.name == "postgresql":
            return not connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rebuild%'"))
    return not [each for each in stores.settings.data_dir.glob("*-rebuild*") if not each.name.endswith("-lock")]


def bug(at: int) -> Projection:
    """The users, but for one event that can't be applied."""

    def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        def each() -> Iterator[tuple[RecordedEvent, Any]]:
            for event, its in events:
                if event.position == at:
                    raise ZeroDivisionError("a bug")
                yield event, its

        users.project(connection, each())

    return replace(users, project=project)


def users_with(*more: Column[Any] | Index, **types: Any) -> Table:
    """The users' table with more to it, and columns of other types."""
    columns = [
        Column(each.name, types.get(each.name, each.type), primary_key=each.primary_key, autoincrement=False)
        for each in users.tables[0].columns
    ]
    return Table("users", MetaData(), *columns, *more)


named = users_with(Column("name", String), Index("users_by_name", "name"))


def project_names(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
    created, moved, _, _ = read_model.changes(events)
    insert_rows(connection, named, [(*user, f"{user.first_name} {user.last_name}") for user in created])
    execute_rows(connection, read_model._move, moved)


WITH_NAMES = replace(users, tables=[named], project=project_names)


def use(monkeypatch: pytest.MonkeyPatch, which: Projection) -> None:
    """As if this version of the code had that one."""
    monkeypatch.setitem(PROJECTIONS, which.name, which)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_read_model_that_was_damaged_is_as_the_log_has_it(used: Stores, name: str) -> None:
    write(used, name, f"DELETE FROM {PROJECTIONS[name].tables[0].name}")
    done = told(used.settings, "projections", "rebuild", name)
    assert (done["position"], done["differ"], done["switched"]["position"]) == (EVENTS, True, EVENTS + 1)
    assert told(used.settings, "verify")["well"]
    assert is_clean(used)


def test_check_names_the_rows_that_differ_and_changes_nothing(used: Stores) -> None:
    assert not told(used.settings, "projections", "rebuild", "users", "--check")["differ"]
    write(used, "users", "UPDATE users SET email = 'other' WHERE user_id = 4")
    before = rows(used)
    said = cqrs(used.settings, "projections", "rebuild", "users", "--check", code=1)
    assert "users 4: is (4, 'John', 'Doe', 'other', 1, True), and by the log" in said
    assert "(4, 'John', 'Doe', '4@example.com', 1, True)\n" in said
    assert "cqrs: users at event 6: 1 rows differ\n" in said
    assert (rows(used), is_clean(used)) == (before, True)


def test_a_table_of_another_shape_takes_the_place_of_the_one_before(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, WITH_NAMES)
    checked = told(used.settings, "projections", "rebuild", "users", "--check", code=1)["tables"]["users"]
    assert (checked["columns"], checked["rows"]) == (["+name"], 0)
    said = cqrs(used.settings, "projections", "rebuild", "users")
    assert "workers of the version before leave new columns empty" in said
    assert rows(used, "user_id, name, version")[2] == (3, "John Doe", 2)
    with reading(used) as connection:
        assert [each["name"] for each in inspect(connection).get_indexes("users")] == ["users_by_name"]
    monkeypatch.undo()
    accept(used, create("later@example.com"))
    handle(used)
    catch_up(used)  # as a worker with the code before does
    assert rows(used, "user_id, name")[-1] == (6, None)
    told(used.settings, "projections", "rebuild", "users")
    with reading(used) as connection:
        assert [each["name"] for each in inspect(connection).get_indexes("users")] == ["users_inactive"]


@pytest.mark.parametrize(("column", "type_", "count"), [("user_id", String(), None), ("first_name", JSON(), 0)])
def test_a_column_that_has_another_type_is_told_and_not_compared(
    used: Stores, monkeypatch: pytest.MonkeyPatch, column: str, type_: Any, count: int | None
) -> None:
    table = users_with(**{column: type_})

    def project(connection: Connection, events: Iterable[tuple[RecordedEvent, Any]]) -> None:
        created, *_ = read_model.changes(events)
        changed = [user._asdict() for user in created]
        connection.execute(insert(table), [each | {column: str(each[column])} for each in changed])

    use(
        monkeypatch,
        replace(users, tables=[table], project=project, events={"UserCreated": users.events["UserCreated"]}),
    )
    done = told(used.settings, "projections", "rebuild", "users")["tables"]["users"]
    assert done["columns"] == [f"~{column}"]
    assert (done["rows"] is None) == (count is None)
    assert str(rows(used, column)[0][0]).strip('"') in {"1", "John"}


def test_a_column_of_an_enum_is_kept_however_often_it_is_rebuilt(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    table = users_with(Column("kind", Enum("a", "b", name="kinds")))
    use(monkeypatch, replace(users, tables=[table]))
    for _ in range(2):
        told(used.settings, "projections", "rebuild", "users")
        assert rows(used, "user_id, kind")[0] == (1, None)
    cqrs(used.settings, "init")
    assert is_clean(used)


def test_what_is_recorded_while_it_is_built_and_compared_is_in_it(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "CHUNK", 2)
    late = iter(range(100))

    def then(do: Callable[..., Any], *, caught_up: bool) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            accept(used, create(f"late{next(late)}@example.com"), update(1, f"late{next(late)}@example.com"))
            handle(used)
            if caught_up:
                catch_up(used)
            return do(*args, **kwargs)

        return wrapped

    for stage, caught_up in (("_come_near", True), ("difference", True), ("_switch", False)):
        monkeypatch.setattr(rebuild, stage, then(getattr(rebuild, stage), caught_up=caught_up))
    done = by_command(used.settings, users, check=False, resume=False, pause=False)
    assert (done["differ"], done["switched"]["position"]) == (False, EVENTS + 7)
    assert told(used.settings, "verify")["well"]


def test_a_paused_projection_applies_nothing_until_it_is_resumed(used: Stores) -> None:
    assert "users is paused, at event 6" in cqrs(used.settings, "projections", "pause", "users")
    accept(used, create("later@example.com"))
    handle(used)
    catch_up(used)
    catch_up(used, "emails")
    assert (progress(used), progress(used, "emails")) == (Progress(6, True, None), Progress(8, False, None))
    assert "paused" in cqrs(used.settings, "projections", "status", code=1)
    assert told(used.settings, "projections", "resume", "users")["paused"] is False
    catch_up(used)
    assert progress(used) == Progress(9, False, None)


def test_a_paused_projection_is_rebuilt_where_it_stands_and_stays_paused(used: Stores) -> None:
    cqrs(used.settings, "projections", "pause", "users")
    write(used, "users", "DELETE FROM users")
    accept(used, create("later@example.com"))
    handle(used)
    assert "and paused" in cqrs(used.settings, "projections", "rebuild", "users")
    assert (progress(used), len(rows(used))) == (Progress(6, True, None), 5)


def test_it_may_be_paused_from_the_switch_on(used: Stores) -> None:
    said = cqrs(used.settings, "projections", "rebuild", "users", "--pause")
    assert "once only workers of this version run: cqrs projections resume users\n" in said
    assert progress(used).paused


def test_an_event_that_can_not_be_applied_stops_it_and_what_serves_goes_on(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bug(at=4))
    before = rows(used)
    said = cqrs(used.settings, "projections", "rebuild", "users", code=1)
    assert "cqrs: users can't apply event 4: ZeroDivisionError: a bug\n" in said
    assert (rows(used), progress(used)) == (before, Progress(6, False, None))
    monkeypatch.undo()
    assert told(used.settings, "projections", "rebuild", "users", "--resume")["from"] == 3


def test_an_event_of_the_last_moment_that_can_not_be_applied_undoes_the_switch(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = rebuild._switch

    def meanwhile(work: rebuild.Work, compared: dict[str, Any]) -> Any:
        accept(used, create("later@example.com"))
        handle(used)
        catch_up(used)
        return switch(work, compared)

    monkeypatch.setattr(rebuild, "_switch", meanwhile)
    with pytest.raises(rebuild.NotRebuilt, match="users can't apply event 8: ZeroDivisionError: a bug"):
        by_command(used.settings, bug(at=8), check=False, resume=False, pause=False)
    assert (progress(used), len(rows(used))) == (Progress(8, False, None), 6)


def test_a_projection_that_was_stopped_goes_on_once_it_is_rebuilt_with_mended_code(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(used, create("later@example.com"), create("last@example.com"))
    handle(used)
    catch_up(used, which=bug(at=7))
    assert progress(used).stopped
    use(monkeypatch, bug(at=8))
    cqrs(used.settings, "projections", "rebuild", "users", code=1)
    assert progress(used).stopped
    monkeypatch.undo()
    done = told(used.settings, "projections", "rebuild", "users", "--resume")  # what is there is ahead of what serves
    assert (done["from"], done["position"], done["switched"]["position"]) == (0, 6, 10)
    assert progress(used) == Progress(10, False, None)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage_it_leaves_what_serves_and_can_go_on_or_begin_again(used: Stores, stage: str) -> None:
    before = rows(used)
    killed = in_process(rebuild_until, used.settings, stage)
    killed.join(60)
    assert killed.exitcode == -9
    assert (rows(used), progress(used)) == (before, Progress(EVENTS + (stage == "switched"), False, None))
    catch_up(used)
    at = {"making": 0, "building": 4, "comparing": 6, "switching": 7}.get(stage)
    if at is not None:
        assert told(used.settings, "projections", "rebuild", "users", "--check", "--resume")["from"] == at
    done = told(used.settings, "projections", "rebuild", "users")
    assert (done["from"], done["differ"], is_clean(used)) == (0, False, True)
    assert told(used.settings, "verify")["well"]


def test_what_another_version_left_is_not_gone_on_with(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shadow_of(used.settings.read_model_of("users"), "users")
    place.make(users.tables)
    use(monkeypatch, WITH_NAMES)
    told(used.settings, "projections", "rebuild", "users", "--resume")
    assert rows(used, "name")[0] == ("John Doe",)


def test_an_installation_in_another_schema_has_a_place_of_its_own(engine: str, used: Stores) -> None:
    if engine == "sqlite":
        return
    write(used, "users", "CREATE SCHEMA other")
    other = shadow_of(used.settings.read_model_of("users") + "?options=-csearch_path%3Dother", "users")
    other.make(users.tables)
    assert told(used.settings, "projections", "rebuild", "users", "--resume")["switched"]
    assert has_tables(other, users.tables)


def test_of_two_at_once_the_second_is_refused(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    come_near = rebuild._come_near

    def meanwhile(work: rebuild.Work) -> None:
        said.append(cqrs(used.settings, "projections", "rebuild", "users", code=1))
        come_near(work)

    monkeypatch.setattr(rebuild, "_come_near", meanwhile)
    assert told(used.settings, "projections", "rebuild", "users")["switched"]
    assert said == ["cqrs: another process is rebuilding users\n"]


def test_who_reads_for_long_holds_up_the_switch_and_no_other_reader(used: Stores) -> None:
    with ThreadPoolExecutor() as threads, engines.snapshot(used.settings.read_model_of("users")) as long:
        long.execute(text("SELECT * FROM users"))
        rebuilding = threads.submit(told, used.settings, "projections", "rebuild", "users")
        slowest, until = 0.0, time.monotonic() + 1.5
        while time.monotonic() < until:
            began = time.monotonic()
            assert len(rows(used)) == 5
            slowest = max(slowest, time.monotonic() - began)
        assert long.execute(text("SELECT count(*) FROM users")).scalar() == 5
        long.rollback()
        assert rebuilding.result(60)["switched"]
    assert slowest < 1


def test_a_view_never_stays_with_the_table_before(used: Stores) -> None:
    write(used, "users", "CREATE VIEW moved AS SELECT user_id FROM users WHERE version > 1")
    done = told(used.settings, "projections", "rebuild", "users") if used.events.name == "sqlite" else None
    if not done:  # PostgreSQL's views know a table, not its name
        said = cqrs(used.settings, "projections", "rebuild", "users", code=1)
        assert "other objects depend on" in said
        assert "view moved depends on" in said
    write(used, "users", "UPDATE users SET version = 2 WHERE user_id = 1")
    with reading(used) as connection:
        assert connection.scalars(text("SELECT user_id FROM moved ORDER BY user_id")).all() == [1, 3]


def test_a_disk_that_gets_full_is_given_back(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        codes = {"sqlite_errorcode": sqlite3.SQLITE_FULL, "sqlite_errorname": "SQLITE_FULL", "sqlstate": "53100"}
        raise OperationalError(None, None, type("Full", (Exception,), codes)("no room"))

    monkeypatch.setattr(rebuild, "difference", full)
    said = cqrs(used.settings, "projections", "rebuild", "users", code=1)
    assert said == "cqrs: a store can't be used: its disk is full\n"
    assert is_clean(used)
    assert progress(used) == Progress(EVENTS, False, None)


def test_it_refuses_what_is_not_there(settings: Settings) -> None:
    assert "there is no projection x: it is one of" in cqrs(settings, "projections", "rebuild", "x", code=1)
    assert "cqrs: " in cqrs(settings, "projections", "rebuild", "users", code=1)


class Traffic:
    """Clients of a running service, each of whom asks for what it has seen before."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.position = 1
        self.version = 1
        self.reads = 0
        self.over = False

    def write(self) -> None:
        """Change user 1 over and over, and make new users."""
        http = self.service.http
        while not self.over:
            changed = http.put("/users/1", json={"email": new_email()}, headers={"Prefer": "wait=20"})
            assert changed.status_code == 200, changed.text
            self.version = changed.json()["version"]
            made = http.post("/users/", json={**JOHN, "email": new_email()})
            command = http.get(made.headers["location"], headers={"Prefer": "wait=20"}).json()
            self.position = command["position"]

    def read(self) -> None:
        with httpx.Client(base_url=self.service.url, timeout=35) as http:
            while not self.over:
                position, version = self.position, self.version
                for path in ("/users/1", "/users/?email=1@example.com", "/stats"):
                    answer = http.get(path, params={"min_position": position})
                    assert answer.status_code == 200, answer.text
                    self.reads += 1
                assert http.get("/users/1").json()["version"] >= version


@pytest.mark.long
def test_under_load_no_query_fails_and_none_is_staler_than_asked(
    settings: Settings, service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service(**stores_of(settings)).ready()
    running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=20"}).raise_for_status()
    with inbox_of(settings) as connection:
        inbox.accept(connection, [create(f"{n}@example.com") for n in range(1, 1001)])
    eventually(lambda: running.http.get("/users/1001").status_code == 200, within=30)
    monkeypatch.setattr(chunk, "CHUNK", 100)
    use(monkeypatch, WITH_NAMES)
    traffic = Traffic(running)
    with ThreadPoolExecutor() as threads:
        clients = [threads.submit(do) for do in (traffic.write, traffic.read, traffic.read)]
        try:
            done = [told(settings, "projections", "rebuild", name) for name in PROJECTIONS]
        finally:
            traffic.over = True
        for each in clients:
            each.result(60)
    assert [each["switched"] is not None for each in done] == [True] * 3
    assert [(name, each["rows"]) for its in done for name, each in its["tables"].items() if each["rows"]] == []
    assert traffic.reads > 30
    monkeypatch.undo()
    eventually(lambda: running.answers("/readyz"))
    for name in ("emails", "stats"):
        assert not told(settings, "projections", "rebuild", name, "--check")["differ"]


def test_the_api_shows_that_a_projection_is_paused(used: Stores) -> None:
    cqrs(used.settings, "projections", "pause", "users")
    accept(used, create("later@example.com"))
    handle(used)
    with api(used.settings.data_dir, **stores_of(used.settings)) as http:
        ready = http.get("/readyz").json()
        assert (ready["status"], ready["projections"]["users"]["paused"]) == ("degraded", True)
        assert http.get("/users/6", params={"min_position": 7}).json()["type"] == "/problems/read-model-behind"
        cqrs(used.settings, "projections", "resume", "users")
        catch_up(used)
        assert http.get("/users/6", params={"min_position": 7}).status_code == 200
        assert http.get("/readyz").json()["projections"]["users"]["paused"] is False
