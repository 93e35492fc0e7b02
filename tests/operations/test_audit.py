"""What operators do is recorded before it is done or with it, and `cqrs audit` shows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cli.events import importing
from cli.stores import restore
from shared.access.principals import operator_here
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.operations import record
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from tests.support import keys
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, elsewhere, heir, refusing

Made = Callable[[Path], Settings]


def audit(settings: Settings) -> list[tuple[str, dict[str, Any]]]:
    """The operations with their data; each was done by whoever runs the tests."""
    found = told(settings, "audit")
    assert {each["by"] for each in found} <= {operator_here()}
    return [(each["type"], each["data"]) for each in found]


@pytest.mark.both_engines
def test_p10_what_operators_do_is_in_the_log(stores: Stores, failed: str) -> None:
    cqrs(stores.settings, "commands", "retry", failed)
    cqrs(stores.settings, "projections", "pause", "users")
    cqrs(stores.settings, "projections", "rebuild", "users")
    cqrs(stores.settings, "projections", "resume", "users")
    cqrs(stores.settings, "projections", "rebuild", "users", "--pause")
    users = {"projection": "users"}
    assert audit(stores.settings) == [
        ("CommandRetried", {"command_id": failed}),
        ("ProjectionPaused", users),
        ("RebuildStarted", users),
        ("ProjectionResumed", users),
        ("RebuildStarted", users),
        ("ProjectionPaused", users),
    ]
    assert told(stores.settings, "verify")["well"]


@pytest.mark.both_engines
def test_looks_and_what_is_refused_leave_nothing(stores: Stores) -> None:
    [command] = accept(stores, create())
    for look in (
        ["projections", "rebuild", "users", "--check"],
        ["projections", "status"],
        ["commands", "list"],
        ["keys", "list"],
        ["verify"],
        ["audit"],
    ):
        cqrs(stores.settings, *look)
    for refused in (["projections", "pause", "x"], ["commands", "retry", command.command_id], ["keys", "revoke", "x"]):
        cqrs(stores.settings, *refused, code=1)
    assert audit(stores.settings) == []


@pytest.mark.both_engines
def test_a_rebuild_that_is_refused_because_another_goes_on_leaves_nothing(stores: Stores) -> None:
    from workers.projecting.shadow import shadow_of  # noqa: PLC0415

    with shadow_of(stores.settings.read_model_of("users"), "users").alone():
        cqrs(stores.settings, "projections", "rebuild", "users", code=1)
    assert audit(stores.settings) == []


@pytest.mark.both_engines
def test_an_import_is_the_last_event_of_its_log(stores: Stores, made: Made, tmp_path: Path) -> None:
    cqrs(stores.settings, "keys", "add", "first", "--role", "reader")
    accept(stores, create())
    stores.handler.handle()
    (tmp_path / "log.jsonl").write_text(cqrs(stores.settings, "events", "export"))
    another = heir(stores.settings, made(tmp_path / "another"))
    cqrs(another, "events", "import", str(tmp_path / "log.jsonl"))
    assert [each["id"] for each in told(another, "audit")] == [1, 3]
    assert audit(another)[-1] == ("LogImported", {"events": 2})
    assert told(another, "keys", "list") == [], "an event lets nobody in"
    assert told(another, "verify")["well"]


def test_a_restore_is_the_last_event_of_the_restored_log(stores: Stores, tmp_path: Path) -> None:
    accept(stores, create())
    stores.handler.handle()
    taken = told(stores.settings, "backup", str(tmp_path / "backup"))
    restored = elsewhere(stores.settings, tmp_path / "restored")
    for times in (1, 2):
        cqrs(restored, "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "backup.keys"))
        done = {"taken_at": taken["taken_at"], "last_event": 1}
        assert audit(restored) == [("BackupRestored", done)], f"the log before went with its own, at time {times}"
    assert told(restored, "verify")["well"]


@pytest.mark.both_engines
def test_p10_what_can_not_be_recorded_is_not_done(stores: Stores, failed: str) -> None:
    with refusing(stores.events, "INSERT", "events"):
        for command in (
            ["commands", "retry", failed],
            ["projections", "pause", "users"],
            ["projections", "rebuild", "users"],
            ["keys", "add", "a", "--role", "reader"],
        ):
            assert cqrs(stores.settings, *command, code=1).startswith("cqrs: a store can't be used: ")
    assert told(stores.settings, "commands", "show", failed)["status"] == "failed"
    with engines.reading(stores.settings.read_model_of("users")) as connection:
        assert not checkpoints.progress(connection, "users").paused
    assert told(stores.settings, "keys", "list") == []
    assert audit(stores.settings) == []


def refuse(*_: Any, **__: Any) -> None:
    raise OperationalError(None, None, OSError("no"))


def test_p10_a_restore_or_an_import_that_can_not_be_recorded_is_not_done(
    stores: Stores, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(stores, create())
    stores.handler.handle()
    cqrs(stores.settings, "backup", str(tmp_path / "backup"))
    (tmp_path / "log.jsonl").write_text(cqrs(stores.settings, "events", "export"))
    monkeypatch.setattr(restore, "record", refuse)
    monkeypatch.setattr(importing, "record", refuse)
    restored, another = Settings(data_dir=tmp_path / "restored", _env_file=None), made(tmp_path / "another")
    cqrs(restored, "restore", str(tmp_path / "backup"), code=1)
    assert not list(restored.data_dir.glob("*.db*"))
    cqrs(another, "events", "import", str(tmp_path / "log.jsonl"), code=1)
    with engines.reading(another.event_store) as connection:
        assert event_store.last_position(connection) == 0


@pytest.mark.both_engines
def test_the_latest_are_shown_the_last_one_last(stores: Stores) -> None:
    made = [keys.add(stores.settings, "reader", "writer", name=f"k{number}").id for number in range(5)]
    assert [each["data"]["key_id"] for each in told(stores.settings, "audit", "--limit", "2")] == made[3:]
    assert [each["id"] for each in told(stores.settings, "audit")] == [1, 2, 3, 4, 5]
    last = told(stores.settings, "audit")[-1]
    assert set(last) == {"id", "type", "at", "by", "data"}
    line = cqrs(stores.settings, "audit").splitlines()[-1]
    assert line == f"{last['at'][:19]}Z  {keys.BY}  key added  key_id={made[4]} name=k4 roles=reader,writer"
    for wrong in ("0", "1001", "x"):
        cqrs(stores.settings, "audit", "--limit", wrong, code=2)


def test_what_steers_a_terminal_is_spelled_out(stores: Stores) -> None:
    with engines.writing(stores.settings.event_store, lock=event_store.LOCK) as connection:
        record.record(connection, record.ProjectionPaused(projection="a\x1b[31m\n"), by="cli:\u202eb@c")
    [line] = cqrs(stores.settings, "audit").splitlines()
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_operations_lead_to_no_row(stores: Stores) -> None:
    keys.add(stores.settings, "reader")
    assert not [name for which in PROJECTIONS.values() for name in which.events if name in record.EVENTS]
