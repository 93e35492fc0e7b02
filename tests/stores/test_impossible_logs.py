"""A log that no service would have written: an import takes nothing of it, `cqrs verify` finds it, both by position."""

import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cli.errors import Damaged, Refused
from cli.events import cloud_events, importing
from cli.events.cloud_events import LONGEST
from cli.stores import verification
from shared.database import engines
from shared.domain.aggregates import AGGREGATES
from shared.domain.projections import PROJECTIONS
from shared.messages import RecordedEvent
from shared.schemas import folding
from shared.schemas.folding import Wrong
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from shared.stores.checkpoints import Stop
from shared.stores.unique_keys import unique_keys
from tests.support.command_line import cqrs, told
from tests.support.service import clean_environment, environment, eventually
from tests.support.stores import JOHN, Stores, accept, create

pytestmark = pytest.mark.both_engines

Change = dict[str, Any]


def event(position: int, stream: str, version: int, type: str, **data: Any) -> RecordedEvent:
    number = {"user_id": int(stream.rpartition("-")[2])}
    return RecordedEvent(
        position, stream, version, type, json.dumps(number | data), "{}", "2026-01-01T12:00:00.000000Z", 1
    )


def created(position: int, stream: str, version: int = 1, **data: Any) -> RecordedEvent:
    return event(position, stream, version, "UserCreated", **JOHN | {"email": f"{position}@example.com"} | data)


def moved(position: int, stream: str, version: int, **data: Any) -> RecordedEvent:
    return event(position, stream, version, "UserEmailUpdated", **{"new_email": f"{position}@example.com"} | data)


FIRST = created(1, "user-1")

IMPOSSIBLE = {
    "a creation that comes twice": (
        [FIRST, created(2, "user-1", 2)],
        "event 2 of user-1: UserCreated begins a stream, but this stream had begun",
    ),
    "a stream without its creation": (
        [FIRST, moved(2, "user-2", 1)],
        "event 2 of user-2: UserEmailUpdated doesn't begin a stream",
    ),
    "the number of another": (
        [FIRST, created(2, "user-2", user_id=1)],
        "event 2 of user-2: its user_id is another stream's",
    ),
    "the number of another, later": (
        [FIRST, moved(2, "user-1", 2, user_id=2**70)],
        "event 2 of user-1: its user_id is another stream's",
    ),
    "a field that is missing": (
        [FIRST, created(2, "user-2", email=None)],
        "event 2 of user-2: its email is null, which is for people who are erased",
    ),
    "a field of another type": (
        [FIRST, created(2, "user-2", email=7)],
        "event 2 of user-2: this UserCreated can't be read: ValidationError: email: string_type",
    ),
    "a gap between versions": (
        [FIRST, moved(2, "user-1", 3)],
        "event 2 of user-1: version 3 follows 1",
    ),
    "a type that isn't known": (
        [FIRST, FIRST._replace(position=2, version=2, type="UserLost")],
        "event 2 of user-1: UserLost of schema version 1 is not known to this version",
    ),
    "a shape that isn't known": (
        [FIRST, moved(2, "user-1", 2)._replace(schema_version=99)],
        "event 2 of user-1: UserEmailUpdated of schema version 99 is not known to this version",
    ),
    "a stream of nothing": (
        [FIRST._replace(stream="cat-1")],
        "event 1 of cat-1: no known aggregate has streams of this name",
    ),
}  # fmt: skip


def lines(*events: RecordedEvent) -> bytes:
    """As an export would have them."""
    exported = b"".join(map(cloud_events._line, events))
    return exported + cloud_events._end(len(events), hashlib.sha256(exported).hexdigest())


def holds(settings: Settings) -> int:
    """Events, keys, and what a rebuild would leave."""
    with engines.reading(settings.event_store) as connection:
        count = select(func.count()).select_from
        return sum(connection.scalar(count(table)) or 0 for table in (event_store.events, unique_keys))


def refused(stores: Stores, file: Path, *events: RecordedEvent) -> str:
    file.write_bytes(lines(*events))
    said = cqrs(stores.settings, "events", "import", str(file), code=1)
    assert said.count("\n") == 1, said
    assert holds(stores.settings) == 0
    assert not list(stores.settings.data_dir.glob("*-rebuild"))
    return said.strip()


def load(stores: Stores, *events: RecordedEvent) -> None:
    with stores.events.begin() as connection:
        event_store.load(connection, events)


def test_an_import_takes_nothing_of_such_a_log(engine: str, stores: Stores, tmp_path: Path) -> None:
    for events, why in list(IMPOSSIBLE.values())[: 2 if engine == "postgresql" else None]:
        assert refused(stores, tmp_path / "log.jsonl", *events) == f"cqrs: {why}"


def test_who_goes_through_a_log_that_has_it_finds_it(stores: Stores) -> None:
    for events, why in IMPOSSIBLE.values():
        with stores.events.connect() as connection, connection.begin() as undone:
            event_store.load(connection, events)
            with pytest.raises(Wrong) as wrong:
                list(folding.folded(connection, AGGREGATES))
            undone.rollback()
        assert str(wrong.value) == why


def test_verify_tells_it(stores: Stores) -> None:
    events, why = IMPOSSIBLE["a creation that comes twice"]
    load(stores, *events)
    assert told(stores.settings, "verify", code=1)["wrong"] == why


def test_an_address_that_two_hold_is_refused_by_stream_and_event(stores: Stores, tmp_path: Path) -> None:
    said = refused(stores, tmp_path / "log.jsonl", FIRST, created(2, "user-2", email="1@example.com"))
    assert said == "cqrs: this is no log: user-1 (event 1) and user-2 (event 2) hold the same email"


def test_what_only_a_projection_can_not_take_is_refused_and_found_too(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def project(connection: Any, events: Any) -> None:
        which.project(connection, (each for each in events if 1 // (each[0].position - 2)))

    which, events = PROJECTIONS["users"], [FIRST, created(2, "user-2"), created(3, "user-3")]
    broken = {**PROJECTIONS, "users": replace(which, project=project)}
    why = (
        "event 2 of user-2: users can't apply it: ZeroDivisionError in <genexpr>, tests/stores/test_impossible_logs.py:"
    )
    with monkeypatch.context() as patched:
        patched.setattr(importing, "PROJECTIONS", broken)
        assert refused(stores, tmp_path / "log.jsonl", *events).startswith(f"cqrs: {why}")
    cqrs(stores.settings, "events", "import", str(tmp_path / "log.jsonl"))
    monkeypatch.setattr(verification, "PROJECTIONS", broken)
    assert told(stores.settings, "verify", code=1)["wrong"].startswith(why)


def test_what_only_this_engine_can_not_take_is_refused_too(engine: str, stores: Stores, tmp_path: Path) -> None:
    if engine == "postgresql":
        said = refused(stores, tmp_path / "log.jsonl", created(1, "user-1", first_name="a\0b"))
        assert said == "cqrs: event 1 of user-1: users can't apply it: DataError"


def test_verify_tells_of_a_projection_that_is_stopped(stores: Stores) -> None:
    with stores.read_model.begin() as connection:
        checkpoints.move_stop(connection, "users", Stop(7, "ValueError: a bug"))
    wrong = told(stores.settings, "verify", code=1)["wrong"]
    assert wrong == "users is stopped before event 7: ValueError: a bug"


def test_addresses_that_are_refused_today_are_imported(stores: Stores, tmp_path: Path) -> None:
    events = created(1, "user-1", email="no address"), moved(2, "user-1", 2, new_email="")
    (tmp_path / "log.jsonl").write_bytes(lines(*events))
    cqrs(stores.settings, "events", "import", str(tmp_path / "log.jsonl"))
    assert told(stores.settings, "verify")["well"]


def test_an_event_of_another_aggregate_is_none_of_this_one_s(stores: Stores) -> None:
    load(stores, FIRST._replace(stream="account-1"))
    others = replace(AGGREGATES["user"], events={}, commands={})
    with engines.reading(stores.settings.event_store) as log, pytest.raises(Wrong, match="account has no event"):
        list(folding.folded(log, {**AGGREGATES, "account": others}))


def test_commands_that_wait_are_told_before_a_line_is_read(stores: Stores) -> None:
    accept(stores, create())

    def never() -> Any:
        raise AssertionError
        yield b""

    with pytest.raises(Refused, match="empty stores only"):
        importing.import_(stores.settings, never())


@pytest.mark.parametrize("change", [{"x": 1e999}, {"x": [float("nan")]}, {"x": {"y": -1e999}}], ids=str)
@pytest.mark.sqlite_only
def test_infinities_are_no_data(change: Change) -> None:
    with pytest.raises(Damaged):
        cloud_events._event(1, cloud_events._parsed(1, cloud_events._line(created(1, "user-1", **change))))


@pytest.mark.sqlite_only
@pytest.mark.parametrize("data", ["[1]", "1", "null", '{"user_id":1e999}'])
def test_data_is_an_object_of_numbers_that_json_has(data: str) -> None:
    line = cloud_events._line(FIRST._replace(data_json=data))
    with pytest.raises(Damaged, match="line 1 is no event of a log"):
        cloud_events._event(1, cloud_events._parsed(1, line))


@pytest.mark.sqlite_only
def test_a_line_may_be_a_mebibyte_and_of_a_longer_one_no_more_is_read() -> None:
    whole = b"x" * LONGEST + b"\n"
    assert list(cloud_events.read_lines(io.BytesIO(whole * 2 + b"y"))) == [whole, whole, b"y"]
    endless = io.BytesIO(whole + b"x" * 8 * LONGEST)
    with pytest.raises(Damaged, match="line 2 is longer than 1 MiB"):
        list(cloud_events.read_lines(endless))
    assert endless.tell() == len(whole) + LONGEST + 1


@pytest.mark.sqlite_only
def test_an_event_of_a_mebibyte_is_imported(stores: Stores, tmp_path: Path) -> None:
    event = created(1, "user-1", first_name="")
    name = "x" * (LONGEST + 1 - len(cloud_events._line(event)))
    (tmp_path / "log.jsonl").write_bytes(lines(created(1, "user-1", first_name=name)))
    cqrs(stores.settings, "events", "import", str(tmp_path / "log.jsonl"))
    (tmp_path / "longer.jsonl").write_bytes(lines(created(1, "user-1", first_name=f"{name}x")))
    said = cqrs(stores.settings, "events", "import", str(tmp_path / "longer.jsonl"), code=1)
    assert "empty stores only" in said


@pytest.mark.long
@pytest.mark.processes
def test_an_import_that_is_killed_leaves_nothing_and_can_be_done_again(
    made: Callable[[Path], Settings], tmp_path: Path
) -> None:
    settings = made(tmp_path / "data")
    exported = lines(*(created(n, f"user-{n}") for n in range(1, 3001)))
    command = [sys.executable, "-m", "cli", "events", "import", "-"]
    own = clean_environment() | environment(settings)
    with subprocess.Popen(command, env=own, stdin=subprocess.PIPE) as killed:
        assert killed.stdin
        killed.stdin.write(exported[: len(exported) // 10 * 8])  # more than a page, so that some are written
        killed.stdin.flush()
        killed.send_signal(signal.SIGKILL)
        killed.wait(20)
    eventually(lambda: holds(settings) == 0)
    (tmp_path / "log.jsonl").write_bytes(exported)
    cqrs(settings, "events", "import", str(tmp_path / "log.jsonl"))
    assert holds(settings) == 2 * 3000 + 1, "with one event that records the import"
