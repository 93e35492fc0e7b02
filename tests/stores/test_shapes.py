"""Events whose shape changes: what was recorded stays as it is, is read in today's shape, and never by who can't."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from cli.errors import Damaged
from cli.events import cloud_events
from cli.stores.init import init
from shared import projection
from shared.database import engines
from shared.domain.aggregates import AGGREGATES, EVENTS
from shared.domain.users import decider, messages
from shared.domain.users.messages import UserCreated, UserEmailUpdated
from shared.domain.users.read_models import stats
from shared.domain.users.read_models.users import users
from shared.messages import Event, NewEvent, UnknownShape
from shared.schemas import check, event_shapes
from shared.settings import Settings
from shared.stores import checkpoints, event_store, outcomes, set_aside
from shared.stores.event_store import Append
from shared.stores.inbox import Submission
from tests.stores.test_event_store import steps
from tests.support.command_line import cqrs, told
from tests.support.service import api, environment, start
from tests.support.stores import JOHN, Stores, accept, create, update
from workers.handling import handler
from workers.projecting import chunk, runner

SAMPLES = Path(__file__).parents[1] / "domain" / "shapes"
"""An event of each type in each shape it ever had. They are never changed: that is what logs hold."""


def sample(type: str, schema_version: int) -> str:
    return (SAMPLES / f"{type}.{schema_version}.json").read_text()


# Frozen samples


@pytest.mark.parametrize("file", sorted(each.stem for each in SAMPLES.glob("*.json")))
def test_every_shape_that_was_ever_recorded_is_read(file: str) -> None:
    name, _, version = file.partition(".")
    EVENTS[name].recorded(int(version), sample(name, int(version)))


@pytest.mark.parametrize("name", EVENTS)
def test_each_shape_of_an_event_has_a_frozen_sample(name: str) -> None:
    for version in range(1, EVENTS[name].schema_version + 1):
        file = SAMPLES / f"{name}.{version}.json"
        assert file.exists(), f"keep a sample of what is recorded as schema version {version} in {file}"


@pytest.mark.parametrize("name", EVENTS)
def test_what_is_recorded_today_is_what_the_newest_sample_holds(name: str) -> None:
    event, version = EVENTS[name], EVENTS[name].schema_version
    today = event.recorded(version, sample(name, version)).model_dump(mode="json")
    assert today == json.loads(sample(name, version)), (
        f"{name} has another shape now: raise its schema_version to {version + 1}, "
        f"add the upcaster from {version}, and a sample {name}.{version + 1}.json"
    )


def test_no_two_aggregates_have_an_event_of_one_name() -> None:
    """By its name alone a projection takes it, and the start looks for who can read it."""
    assert len(EVENTS) == sum(len(aggregate.events) for aggregate in AGGREGATES.values())


# Reading


def _both(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"name": f"{data['first_name']} {data['last_name']}"}


def _counted(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"names": len(data["name"].split())}


class Named(Event):
    schema_version = 3
    upcasters = {1: _both, 2: _counted}

    user_id: int
    name: str
    names: int
    email: str


NAMED = Named(user_id=1, name="John Doe", names=2, email=JOHN["email"])


def test_an_old_event_is_lifted_through_every_shape_since() -> None:
    first = {"user_id": 1, **JOHN}
    second = _both(first)
    for version, data in enumerate([first, second, _counted(second)], 1):
        assert Named.recorded(version, json.dumps(data)) == NAMED


def test_a_newer_event_is_not_taken_for_one_of_today() -> None:
    with pytest.raises(UnknownShape, match="Named of schema version 4 is not known to this version"):
        Named.recorded(4, NAMED.model_dump_json())


# The start


def record(settings: Settings, *new: NewEvent, stream: str = "user-1") -> None:
    with engines.writing(settings.event_store, lock="test") as connection:
        event_store.append(connection, Append(stream, new))


def newer(count: int = 1, *, user_id: int = 1) -> list[NewEvent]:
    return [NewEvent("UserCreated", {"user_id": user_id, **JOHN, "name": "John Doe"}, {}, 2)] * count


NEWER = "the log has 3 UserCreated of schema version 2, which this version doesn't know"
UNKNOWN = "the log has 1 AccountOpened of schema version 1, which this version doesn't know"


@pytest.mark.both_engines
def test_init_refuses_a_log_that_this_version_can_not_read(stores: Stores) -> None:
    record(stores.settings, NewEvent("UserCreated", {"user_id": 1, **JOHN}, {}))
    cqrs(stores.settings, "init")
    record(stores.settings, *newer(3), NewEvent("AccountOpened", {}, {}))
    assert cqrs(stores.settings, "init", code=1) == f"cqrs: {UNKNOWN}; {NEWER}\n"


@pytest.mark.processes
@pytest.mark.both_engines
def test_a_worker_refuses_it_too_and_the_api_goes_on(stores: Stores) -> None:
    record(stores.settings, *newer(3))
    celery = ["celery", "--quiet", "--app", "workers.app", "worker", "-Q", "projections"]
    worker = start(celery, stores.settings.data_dir, environment(stores.settings))
    assert worker.wait(60) == 1
    said = stores.settings.data_dir.with_suffix(".log").read_text()
    assert said.endswith(f"cqrs: {NEWER}\n")
    assert "Traceback" not in said
    with api(stores.settings.data_dir, **environment(stores.settings)) as http:
        assert [event["schema_version"] for event in http.get("/events/").json()] == [2, 2, 2]
        answer = http.get("/users/1?version=1")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/newer-event")
        assert answer.headers["retry-after"]


@pytest.mark.both_engines
def test_a_check_tells_all_that_is_wrong_and_changes_nothing(stores: Stores) -> None:
    well = {"well": True, "wrong": [], "contested": [], "data": [*_places(stores)]}
    assert told(stores.settings, "init", "--check") == well
    record(stores.settings, *newer(3), NewEvent("AccountOpened", {}, {}))
    assert told(stores.settings, "init", "--check", code=1)["wrong"] == [UNKNOWN, NEWER]
    assert cqrs(stores.settings, "init", "--check", code=1) == f"cqrs: {UNKNOWN}\ncqrs: {NEWER}\n"


def _places(stores: Stores) -> list[str]:
    return list(told(stores.settings, "init")["data"])


def test_a_check_makes_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the inbox has no schema yet: run `cqrs init`" in cqrs(settings, "init", "--check", code=1)
    assert not settings.data_dir.exists()
    init(settings)
    found = check.REVISIONS["event_store"]
    monkeypatch.setitem(check.REVISIONS, "event_store", "9999")
    line = f"cqrs: the event store is at revision {found}, this version needs 9999: run `cqrs init`\n"
    for _ in range(2):
        assert cqrs(settings, "init", "--check", code=1) == line


@pytest.mark.both_engines
def test_a_gap_in_a_chain_of_upcasters_is_told_with_the_events_that_need_it(stores: Stores) -> None:
    class Gap(Event):
        schema_version = 4
        upcasters = {1: _both, 3: _both}

    class Surplus(Event):
        upcasters = {1: _both}

    record(stores.settings, *(NewEvent("Gap", {}, {}, version) for version in (1, 1, 2, 3, 4)))
    with stores.events.begin() as log:
        assert str(event_shapes.compare(log, {"Gap": Gap, "Surplus": Surplus})) == (
            "Gap has no upcaster from schema version 2, and the log has 3 that need it; "
            "Surplus has an upcaster from schema version 1, and Surplus is at 1"
        )


@pytest.mark.both_engines
@pytest.mark.sqlite_only
def test_to_look_through_the_log_takes_as_long_however_long_it_is(stores: Stores) -> None:
    many = [NewEvent(name, {}, {}, version) for name in EVENTS for version in (1, 1, 2)] * 200
    newest: Any = {name: type(name, (Event,), {"schema_version": 2, "upcasters": {1: _both}}) for name in EVENTS}

    def cost(log: Connection) -> int:
        return steps(log, lambda: list(event_shapes.unreadable(log, newest)))

    record(stores.settings, *many[: 3 * len(EVENTS)])
    with stores.events.begin() as log:
        short = cost(log)
    record(stores.settings, *many)
    with stores.events.begin() as log:
        assert cost(log) <= 1.25 * short


# While both versions run


class UserCreatedAnew(UserCreated):
    """That of the newer version."""

    schema_version = 2
    upcasters = {1: _both}

    name: str


KNOWN: Any = {"UserCreated": UserCreatedAnew, "UserEmailUpdated": UserEmailUpdated}


def handle(stores: Stores) -> None:
    while stores.handler.handle():
        pass


@pytest.mark.both_engines
def test_a_command_waits_for_a_worker_that_knows_what_its_stream_holds(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(stores, create("1@example.com"))
    handle(stores)
    record(stores.settings, *newer())
    first, second, other = accept(stores, update(1, "b@x.org"), update(1, "c@x.org"), create("2@example.com"))
    handle(stores)
    for _ in range(5):
        assert stores.handler.retry() == 0
    with stores.events.begin() as log:
        assert outcomes.find(log, [first.seq, second.seq, other.seq]).keys() == {other.seq}
        error = "UnknownShape: UserCreated of schema version 2 is not known to this version"
        told = [(each.tries, each.error) for each in set_aside.find(log, [first.seq, second.seq])]
        assert told == [(0, error), (0, None)]
    monkeypatch.setattr(handler, "AGGREGATES", {"user": replace(decider.users, events=KNOWN)})
    assert stores.handler.retry() == 2
    with stores.events.begin() as log:
        assert [each.data["new_email"] for each in event_store.read_stream(log, "user-1", after=2)] == [
            "b@x.org",
            "c@x.org",
        ]


@pytest.mark.both_engines
def test_a_projection_stops_before_an_event_that_only_a_newer_version_knows(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(stores, create("1@example.com"))
    handle(stores)
    record(stores.settings, *newer(user_id=2), stream="user-2")
    record(stores.settings, NewEvent("UserRenamed", {}, {}), stream="user-2")

    def reached(which: projection.Projection) -> int:
        while runner.catch_up(stores.events, stores.read_model, which):
            pass
        with stores.read_model.begin() as connection:
            return checkpoints.position_of(connection, which.name)

    assert reached(users) == 1
    assert reached(replace(users, events=KNOWN)) == 2
    monkeypatch.setattr(chunk, "EVENTS", {**EVENTS, "UserRenamed": Event})
    assert reached(replace(users, events=KNOWN)) == 3


@pytest.mark.both_engines
def test_who_reads_nothing_of_an_event_takes_it_in_any_shape(stores: Stores) -> None:
    record(stores.settings, *newer())
    with engines.briefly(engines.writer(stores.settings.read_model_of("stats"), lock="stats")) as engine:
        runner.catch_up(stores.events, engine, stats.stats)
        with engine.begin() as connection:
            assert checkpoints.stops(connection) == {}
            assert connection.execute(select(stats.table.c.users)).scalar_one() == 1


# On the wire


def test_what_is_recorded_has_the_schema_version_of_today(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserCreated, "schema_version", 2)
    accept(stores, create("1@example.com"))
    handle(stores)
    with stores.events.begin() as log:
        assert [event.schema_version for event in event_store.read_all(log)] == [2]


@pytest.mark.both_engines
def test_an_event_is_shown_as_it_was_recorded_with_its_schema_version(stores: Stores) -> None:
    record(stores.settings, *newer())
    shown = told(stores.settings, "events", "show", "1")
    assert (shown["schema_version"], shown["data"]["name"]) == (2, "John Doe")
    with stores.events.begin() as log:
        assert event_store.read_all(log)[0].shown().items() <= shown.items()


def exported(log: Connection) -> list[bytes]:
    return list(cloud_events.lines(log))


def test_an_export_has_the_schema_version_as_dataschema_and_an_import_keeps_it(stores: Stores) -> None:
    record(stores.settings, NewEvent("UserCreated", {"user_id": 1, **JOHN}, {}), *newer())
    with stores.events.begin() as log:
        lines = exported(log)
    assert [json.loads(line).get("dataschema") for line in lines] == [
        "urn:cqrs:UserCreated:1",
        "urn:cqrs:UserCreated:2",
        None,
    ]
    assert [event.schema_version for event in cloud_events.events(lines)] == [1, 2]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"", 1),  # before there were any
        (b'"dataschema":"urn:cqrs:UserCreated:0",', None),
        (b'"dataschema":"urn:cqrs:UserCreated:x",', None),
        (b'"dataschema":"urn:cqrs:AccountOpened:1",', None),
        (b'"dataschema":2,', None),
    ],
)
def test_a_schema_version_that_is_none_is_refused_by_an_import(
    stores: Stores, written: bytes, read: int | None
) -> None:
    record(stores.settings, NewEvent("UserCreated", {"user_id": 1, **JOHN}, {}))
    with stores.events.begin() as log:
        line = exported(log)[0].replace(b'"dataschema":"urn:cqrs:UserCreated:1",', written)
    if read:
        assert next(cloud_events.events([line])).schema_version == read
    else:
        with pytest.raises(Damaged, match="line 1 is no event of a log"):
            next(cloud_events.events([line]))


def test_an_import_refuses_what_this_version_can_not_read(stores: Stores, tmp_path: Path) -> None:
    record(stores.settings, *newer())
    log = tmp_path / "log.jsonl"
    log.write_text(cqrs(stores.settings, "events", "export"))
    another = Settings(data_dir=tmp_path / "another", _env_file=None)
    assert "UserCreated of schema version 2 is not known" in cqrs(another, "events", "import", str(log), code=1)


# The recipe


def recipe() -> Iterator[Any]:
    """`shared/domain/users/messages.py` after each of the guide's steps that change it."""
    page = (Path(__file__).parents[2] / "docs" / "guide" / "changing-an-event.md").read_text()
    after = vars(messages)
    for code in re.findall("```python\n(.*?)```", page, re.DOTALL):
        after = {**after}
        exec(code, after)
        yield SimpleNamespace(**after)


@pytest.mark.both_engines
def test_the_recipe_makes_one_name_of_two_whichever_step_accepted_and_recorded_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, alone = recipe()

    def handled_by(step: Any, decide: Any) -> None:
        rules: Any = {"decide": decide, "evolve": lambda _, event: decider.User(event.email)}
        users = replace(decider.users, commands={"CreateUser": step.CreateUser}, **rules)
        monkeypatch.setattr(handler, "AGGREGATES", {"user": users})
        handle(stores)

    accept(stores, create("1@example.com"))
    handled_by(messages, decider.decide)
    accept(stores, create("2@example.com"))
    handled_by(both, lambda command, _: [both.UserCreated(**both.with_name(vars(command)))])
    named = Submission("CreateUser", "user", None, {"name": "John Doe", "email": "4@example.com"})
    accept(stores, create("3@example.com"), named)
    handled_by(alone, lambda command, _: [alone.UserCreated(**vars(command))])
    with stores.events.begin() as log:
        recorded = event_store.read_all(log)
    assert [event.schema_version for event in recorded] == [1, 2, 3, 3]
    for step in recorded[:2]:
        assert step.model({"UserCreated": both.UserCreated}).name == "John Doe"
    for event in recorded:
        model = event.model({"UserCreated": alone.UserCreated})
        assert model.model_dump() == {"user_id": event.position, "name": "John Doe", "email": model.email}
