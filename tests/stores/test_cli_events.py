"""`cqrs events`: the log shown; taken away, and brought back into empty stores as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cli.errors import Damaged
from cli.events import cloud_events
from cli.stores.init import init
from shared.database import engines
from shared.messages import RecordedEvent
from shared.settings import Settings
from shared.stores import event_store, outcomes
from shared.stores.event_store import events
from shared.stores.subjects import Subjects, heed
from shared.stores.unique_keys import unique_keys
from tests.support.command_line import cqrs, told
from tests.support.service import eventually
from tests.support.stores import Stores, accept, create, heir, new_handler, update

Made = Callable[[Path], Settings]


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Three users, one of them moved, and a rejection."""
    odd = create("ö@exämple.com", idempotency_key="k")
    accept(
        stores, create("1@example.com"), odd, create("3@example.com"), update(1, "a\u2028b@x.org"), update(9, "x@x.org")
    )
    while stores.handler.handle():
        pass
    return stores


def holds(settings: Settings) -> dict[str, Any]:
    with engines.reading(settings.event_store) as connection:
        return {str(table): sorted(map(tuple, connection.execute(select(table)))) for table in (events, unique_keys)}


@pytest.mark.both_engines
def test_the_last_events_are_told_the_latest_last(used: Stores) -> None:
    lines = cqrs(used.settings, "events", "tail", "-n", "2", "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [3, 4]
    lines = cqrs(used.settings, "events", "tail", "--stream", "user-1", "--json").splitlines()
    assert [json.loads(line)["version"] for line in lines] == [1, 2]
    assert "UserEmailUpdated" in cqrs(used.settings, "events", "tail", "--type", "UserEmailUpdated")
    assert "UserCreated" not in cqrs(used.settings, "events", "tail", "--type", "UserEmailUpdated")


@pytest.mark.both_engines
def test_one_event_is_told_by_its_position(used: Stores) -> None:
    shown = told(used.settings, "events", "show", "4")
    assert (shown["id"], shown["stream"], shown["version"]) == (4, "user-1", 2)
    assert "no event 5 is in the log" in cqrs(used.settings, "events", "show", "5", code=1)


@pytest.mark.both_engines
def test_what_is_exported_and_imported_is_the_same_log(used: Stores, made: Made, tmp_path: Path) -> None:
    exported = tmp_path / "log.jsonl"
    exported.write_text(cqrs(used.settings, "events", "export"))
    another = heir(used.settings, made(tmp_path / "another"))
    cqrs(another, "events", "import", str(exported))
    imported, before = holds(another), holds(used.settings)
    *same, recorded = imported.pop("events")
    assert (same, imported) == (before.pop("events"), before)
    assert recorded[:4] == (5, "operations-1", 1, "LogImported")
    assert told(another, "verify")["well"]
    init(another)  # the stores are taken for ones that belong together
    assert "empty stores only" in cqrs(another, "events", "import", str(exported), code=1)


@pytest.mark.both_engines
def test_new_users_come_behind_those_that_were_imported(used: Stores, made: Made, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(cqrs(used.settings, "events", "export"))
    another = heir(used.settings, made(tmp_path / "another"))
    cqrs(another, "events", "import", str(tmp_path / "log.jsonl"))
    people = Subjects.of(another)
    mine = Stores(
        another,
        heed(engines.writer(another.inbox, lock="inbox"), people),
        heed(engines.writer(another.event_store, lock="event_store"), people),
        used.read_model,
        used.handler,
    )
    created, taken = accept(mine, create("4@example.com"), create("3@example.com"))
    assert (created.stream, taken.stream) == ("user-4", "user-5")
    handle(mine)
    assert told(another, "events", "show", "6")["stream"] == "user-4"
    with mine.events.connect() as connection:
        assert outcomes.find(connection, [taken.seq])[taken.seq].status == "rejected"
        assert event_store.last_position(connection) == 6
    assert told(another, "verify")["well"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda lines: lines[:-1], "the end is missing"),
        (lambda lines: lines[1:], "event 2 follows 0"),
        (lambda lines: [lines[0].replace("user_id", "user_no"), *lines[1:]], "their checksum is another"),
        (lambda lines: [*lines, lines[0]], "line 6 comes after the end"),
        (lambda lines: ["nothing", *lines], "line 1 is no CloudEvent 1.0"),
        (lambda lines: [lines[0].replace("subject", "object"), *lines[1:]], "line 1 is no event of a log"),
        (lambda lines: [lines[0].replace("user-1", "cat-1"), *lines[1:]], "cat-1"),
    ],
)
def test_a_damaged_export_is_refused_and_nothing_of_it_stays(
    used: Stores, made: Made, tmp_path: Path, damage: Callable[[list[str]], list[str]], named: str
) -> None:
    lines = cqrs(used.settings, "events", "export").split("\n")[:-1]
    (tmp_path / "log.jsonl").write_text("".join(f"{line}\n" for line in damage(lines)))
    another = made(tmp_path / "another")
    said = cqrs(another, "events", "import", str(tmp_path / "log.jsonl"), code=1)
    assert any(why in said for why in (named, "their checksum is another", "its hash doesn't fit"))
    assert holds(another) == {"events": [], "unique_keys": []}


@pytest.mark.parametrize(
    "change",
    [
        *({"time": each} for each in ("yesterday", "2026-01-01T12:00:00Z", "2026-01-01T12:00:00.000000+02:00", 1)),
        *({"metadata": each} for each in ("garbage", "[1]", 1)),
        *({"subject": each} for each in ("user-01", "user-9223372036854775807", "user-²", "user", 1)),
        *({"streamversion": each} for each in (True, 0, 2**70)),
        {"id": " 0_1 "},
    ],
    ids=str,
)
def test_a_line_that_no_log_would_have_is_refused(change: dict[str, Any]) -> None:
    event = RecordedEvent(1, "user-1", 1, "UserCreated", "{}", "{}", "2026-01-01T12:00:00.000000Z", 1)
    line = cloud_events._line(event)
    assert cloud_events._event(1, json.loads(line)) == event
    with pytest.raises(Damaged, match=r"^line 1 is no event of a log: its \w+ is not as a log has it$") as told:
        cloud_events._event(1, json.loads(line) | change)
    assert str(next(iter(change.values()))) not in str(told.value).removeprefix("line 1")


def test_an_export_is_cloud_events_and_its_end_tells_the_checksum(used: Stores) -> None:
    *lines, end = map(json.loads, cqrs(used.settings, "events", "export").split("\n")[:-1])
    assert {(line["specversion"], line["source"]) for line in lines} == {("1.0", "/events/")}
    assert lines[0]["data"].keys() == {"user_id", "~first_name,last_name,email"}
    assert all(name.isalnum() and name == name.lower() for line in lines for name in line)
    assert end["data"]["events"] == len(lines)


def handle(stores: Stores) -> None:
    handler = new_handler(stores.settings, stores.events)
    eventually(lambda: not handler.handle())
