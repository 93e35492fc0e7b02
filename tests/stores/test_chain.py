"""The chain of hashes: whatever is changed in the log is found and named, and a log is held against kept heads."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as of_tests
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from cli.events import cloud_events
from cli.stores.init import init
from shared.chain import START
from shared.database import engines, sqlite
from shared.messages import NewEvent
from shared.schemas import chain, check, migrations
from shared.schemas.check import REVISIONS
from shared.schemas.folding import Wrong
from shared.settings import Settings
from shared.stores import event_store
from shared.stores.event_store import Append
from tests.stores.test_cli_verify import UNLOCK
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, elsewhere, heir, update

pytestmark = pytest.mark.both_engines

Made = Callable[[Path], Settings]

NUMBERS = {"position", "version", "schema_version"}
TEXTS = {"stream", "type", "data", "metadata", "recorded_at"}

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "tamper-evidence.md"

OLDER = """INSERT INTO events (position, stream, version, type, data, metadata, recorded_at)
    SELECT max(position) + 1, 'user-7', 1, 'UserCreated',
           '{"user_id"\\:7,"first_name"\\:"A","last_name"\\:"B","email"\\:"7@example.com"}', '{}', '2026'
    FROM events"""
"""As a worker of an older version appends."""


@pytest.fixture
def used(stores: Stores) -> Stores:
    accept(stores, *(create(f"ö{n}@example.com") for n in range(1, 6)), update(3, "new@example.com"))
    while stores.handler.handle():
        pass
    return stores


@pytest.fixture
def log(used: Stores) -> Iterator[Connection]:
    """A log that can be changed; what is changed is undone."""
    with used.events.connect() as connection, connection.begin() as undone:
        change(connection, *UNLOCK[used.events.name])
        yield connection
        undone.rollback()


def change(connection: Connection, *statements: str, **values: object) -> None:
    for statement in statements:
        connection.execute(text(statement), values)


def named(connection: Connection) -> str:
    with pytest.raises(Wrong) as wrong:
        list(chain.checked(connection))
    return str(wrong.value)


def make_anew(connection: Connection) -> None:
    """As somebody would who knows how hashes are made."""
    change(connection, "UPDATE events SET hash = NULL")
    event_store.seal(connection)


def head(settings: Settings) -> str:
    return cqrs(settings, "events", "head").strip()


def flipped(value: Any, bit: int) -> Any:
    match value:
        case int():
            return value ^ (1 << bit % 31)
        case bytes():
            place = bit % (8 * len(value))
            return bytes(byte ^ (1 << place % 8 if n == place // 8 else 0) for n, byte in enumerate(value))


def write_text(connection: Connection, position: int, column: str, value: bytes) -> None:
    """Write bytes in place of a text, whatever they are; PostgreSQL takes nothing but UTF-8."""
    if connection.dialect.name == "postgresql":
        assume(b"\0" not in value)
        try:
            new: object = value.decode()
        except UnicodeDecodeError:
            assume(False)
        change(connection, f"UPDATE events SET {column} = :new WHERE position = :position", new=new, position=position)
    else:
        new = f"CAST(x'{value.hex()}' AS TEXT)"
        change(connection, f"UPDATE events SET {column} = {new} WHERE position = :position", position=position)


@of_tests(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    position=st.integers(1, 6), column=st.sampled_from(sorted(NUMBERS | TEXTS | {"hash"})), bit=st.integers(0, 2**12)
)
def test_a_bit_that_flips_is_found_and_its_event_named(log: Connection, position: int, column: str, bit: int) -> None:
    with log.begin_nested() as undone:
        row = log.execute(text("SELECT * FROM events WHERE position = :position"), {"position": position}).one()
        value = getattr(row, column)
        try:
            if column in TEXTS:
                write_text(log, position, column, flipped(value.encode(), bit))
            else:
                statement = text(f"UPDATE events SET {column} = :new WHERE position = :position")
                log.execute(statement, {"new": flipped(value, bit), "position": position})
        except IntegrityError:
            assume(False)
        said = named(log)
        undone.rollback()
    if column == "position":
        assert re.fullmatch(r"the log: event -?\d+ follows \d", said)
    else:
        assert said == f"event {position} isn't as it was recorded: its hash doesn't fit"


def test_a_log_as_it_was_recorded_is_well(log: Connection) -> None:
    [page] = chain.checked(log)
    assert list(page) == [1, 2, 3, 4, 5, 6]
    assert event_store.head(log) == (6, page[6])


def test_the_end_of_a_log_is_checked_by_itself(log: Connection) -> None:
    [whole], [end] = chain.checked(log), chain.checked(log, past=4)
    assert end == {position: whole[position] for position in (5, 6)}
    assert [*chain.checked(log, past=6)] == []
    change(log, "UPDATE events SET type = 'Other' WHERE position = 4")
    assert len([*chain.checked(log, past=4)]) == 1
    change(log, "UPDATE events SET type = 'Other' WHERE position = 6")
    with pytest.raises(Wrong, match="event 6 isn't as it was recorded"):
        list(chain.checked(log, past=4))
    change(log, "UPDATE events SET hash = NULL WHERE position = 4")
    with pytest.raises(Wrong, match="event 4 has no hash"):
        list(chain.checked(log, past=4))


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", ["'x'", "1.5", "x'31'", "-1"])
def test_a_number_that_is_none_is_named(log: Connection, value: str) -> None:
    change(log, f"UPDATE events SET version = {value} WHERE position = 4")
    assert named(log).startswith("event 4 isn't as it was recorded")


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            [
                "UPDATE events SET position = -1 WHERE position = 2",
                "UPDATE events SET position = 2 WHERE position = 4",
                "UPDATE events SET position = 4 WHERE position = -1",
            ],
            "event 2 isn't as it was recorded",
        ),
        (["DELETE FROM events WHERE position = 3"], "the log: event 4 follows 2"),
        (["DELETE FROM events WHERE position = 1"], "the log: event 2 follows 0"),
        (
            ["DELETE FROM events WHERE position = 2", "UPDATE events SET position = 2 WHERE position = 6"],
            "event 2 isn't as it was recorded",
        ),
        (
            [
                """INSERT INTO events SELECT 0, 'user-9', 1, type, data, metadata, recorded_at, 1, hash
                   FROM events WHERE position = 1"""
            ],
            "the log: event 0 follows 0",
        ),
        (
            [
                """INSERT INTO events SELECT 7, 'user-9', 1, type, data, metadata, recorded_at, 1, hash
                   FROM events WHERE position = 6"""
            ],
            "event 7 isn't as it was recorded",
        ),
        (["UPDATE events SET hash = NULL WHERE position = 2"], "event 2 has no hash"),
    ],
    ids=["swapped", "removed", "the first", "moved", "before all", "appended", "no hash"],
)
def test_what_else_is_done_to_a_log_is_named(log: Connection, statements: list[str], said: str) -> None:
    change(log, *statements)
    assert named(log).startswith(said)


def test_verify_names_the_event(used: Stores) -> None:
    with used.events.begin() as connection:
        change(connection, *UNLOCK[used.events.name], "UPDATE events SET recorded_at = '2025' WHERE position = 5")
    verdict = told(used.settings, "verify", code=1)
    assert verdict["wrong"] == "event 5 isn't as it was recorded: its hash doesn't fit"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_that_went_on_is_the_one_whose_heads_were_kept(used: Stores, tmp_path: Path, as_json: bool) -> None:
    kept, more = tmp_path / "anchors.txt", ["--json"] if as_json else []
    kept.write_text(cqrs(used.settings, "events", "head", *more))
    for n in range(2):
        accept(used, create(f"later{n}@example.com"))
        assert used.handler.handle()
        with kept.open("a") as lines:
            lines.write(cqrs(used.settings, "events", "head", *more))
    assert len(kept.read_text().splitlines()) == 3
    assert "has all 3 heads" in cqrs(used.settings, "events", "head", "--check", str(kept))
    verdict = told(used.settings, "events", "head", "--check", str(kept))
    assert verdict["well"]
    assert f"{verdict['position']} {verdict['hash']}" == head(used.settings)


def test_the_head_of_an_empty_log_is_one_of_every_log(used: Stores, made: Made, tmp_path: Path) -> None:
    kept, empty = tmp_path / "anchors.txt", made(tmp_path / "empty")
    kept.write_text(cqrs(empty, "events", "head"))
    assert kept.read_text() == f"0 {START.hex()}\n"
    assert told(used.settings, "events", "head", "--check", str(kept))["position"] == 6
    kept.write_text(head(used.settings))
    assert "the log ends at event 0; it had event 6" in cqrs(empty, "events", "head", "--check", str(kept), code=1)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["DELETE FROM events WHERE position = 6"], "the log ends at event 5; it had event 6"),
        (
            ["UPDATE events SET data = '{}' WHERE position = 2"],
            "event 4 has another hash than was kept: the log isn't the one that it was",
        ),
    ],
    ids=["cut", "rewritten"],
)
def test_a_log_that_was_cut_or_rewritten_with_all_its_hashes_is_named(
    used: Stores, tmp_path: Path, statements: list[str], said: str
) -> None:
    with used.events.connect() as connection:
        fourth = event_store.hashes(connection, after=3, upto=4)[4]
    assert fourth
    (tmp_path / "anchors.txt").write_text(f"{head(used.settings)}\n4 {fourth.hex()}\n")
    with used.events.begin() as connection:
        change(connection, *UNLOCK[used.events.name], *statements)
        make_anew(connection)
        list(chain.checked(connection))
    assert said in cqrs(used.settings, "events", "head", "--check", str(tmp_path / "anchors.txt"), code=1)
    verdict = told(used.settings, "events", "head", "--check", str(tmp_path / "anchors.txt"), code=1)
    assert not verdict["well"]
    assert said in verdict["wrong"]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("", "the file has no head of a log"),
        ("\n \n", "the file has no head of a log"),
        ("6 abc\n", "line 1 is no head of a log"),
        (f"0 {START.hex()}\n-1 {START.hex()}\n", "line 2 is no head of a log"),
        ('{"position": 6}\n', "line 1 is no head of a log"),
        ("{\n", "line 1 is no head of a log"),
        (f"0 {START.hex()} 1\n", "line 1 is no head of a log"),
    ],
)
def test_a_file_that_has_no_head_is_refused(stores: Stores, tmp_path: Path, kept: str, said: str) -> None:
    (tmp_path / "anchors.txt").write_text(kept)
    assert said in cqrs(stores.settings, "events", "head", "--check", str(tmp_path / "anchors.txt"), code=1)


def test_an_event_is_shown_with_its_hash(used: Stores) -> None:
    assert told(used.settings, "events", "show", "6")["hash"] == head(used.settings).split()[1]


@pytest.mark.parametrize("older", [False, True], ids=["", "of an older version"])
def test_an_import_keeps_the_hashes(used: Stores, made: Made, tmp_path: Path, older: bool) -> None:
    exported, another = tmp_path / "log.jsonl", heir(used.settings, made(tmp_path / "another"))
    lines = [json.loads(line) for line in cqrs(used.settings, "events", "export").splitlines()]
    assert [line["hash"] for line in lines[:-1]][-1] == head(used.settings).split()[1]
    exported.write_text(without_hashes(lines[:-1]) if older else cqrs(used.settings, "events", "export"))
    (tmp_path / "anchors.txt").write_text(head(used.settings))
    cqrs(another, "events", "import", str(exported))
    assert told(another, "events", "head", "--check", str(tmp_path / "anchors.txt"))["position"] == 7
    with engines.reading(another.event_store) as copy, used.events.connect() as log:
        [hashes], [first] = chain.checked(copy), chain.checked(log)
        assert first == {position: hash for position, hash in hashes.items() if position <= 6}


def without_hashes(lines: list[dict[str, Any]]) -> str:
    return sealed("".join(json.dumps({n: v for n, v in line.items() if n != "hash"}) + "\n" for line in lines))


def sealed(lines: str) -> str:
    """An export of these lines, whose checksum is right."""
    return lines + cloud_events._end(len(lines.splitlines()), sha256(lines.encode()).hexdigest()).decode()


def test_an_import_refuses_what_was_changed_though_the_checksum_is_right(
    used: Stores, made: Made, tmp_path: Path
) -> None:
    exported, another = tmp_path / "log.jsonl", made(tmp_path / "another")
    *lines, _ = cqrs(used.settings, "events", "export").splitlines(keepends=True)
    lines[1] = lines[1].replace('"user_id":2', '"user_id":9')
    exported.write_text(sealed("".join(lines)))
    said = cqrs(another, "events", "import", str(exported), code=1)
    assert said == "cqrs: line 2 isn't as it was recorded: its hash doesn't fit\n"
    assert head(another) == f"0 {START.hex()}"


@pytest.mark.sqlite_only
def test_a_backup_keeps_the_hashes(used: Stores, tmp_path: Path) -> None:
    restored = elsewhere(used.settings, tmp_path / "restored")
    cqrs(used.settings, "backup", str(tmp_path / "backup"))
    (tmp_path / "anchors.txt").write_text(head(used.settings))
    cqrs(restored, "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "backup.keys"))
    assert told(restored, "events", "head", "--check", str(tmp_path / "anchors.txt"))["position"] == 7


@pytest.mark.sqlite_only
@pytest.mark.processes
def test_the_documentation_s_own_lines_make_the_same_hashes(used: Stores, tmp_path: Path) -> None:
    [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "head.py").write_text(script)
    log = sqlite.path_of(used.settings.event_store)

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", str(tmp_path / "head.py"), str(log)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run().stdout.strip() == head(used.settings)
    with used.events.begin() as connection:
        change(connection, *UNLOCK["sqlite"], "UPDATE events SET data = '{}' WHERE position = 2")
    assert "event 2 doesn't fit" in run().stderr


@pytest.mark.parametrize(
    "statement", ["UPDATE events SET hash = NULL", "UPDATE events SET hash = :hash", "UPDATE events SET hash = hash"]
)
def test_the_database_refuses_to_change_a_hash(used: Stores, statement: str) -> None:
    with used.events.connect() as connection, connection.begin(), pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement), {"hash": START} if ":hash" in statement else {})


@pytest.mark.parametrize("by", ["the next event", "init"])
def test_what_an_older_version_appends_gets_its_hashes(used: Stores, by: str) -> None:
    with used.events.begin() as connection:
        change(connection, OLDER)
        change(connection, OLDER.replace("'user-7', 1", "'user-7', 2"))
    for said in (told(used.settings, "verify", code=1)["wrong"], cqrs(used.settings, "events", "head", code=1)):
        assert re.search(r"event [78] has no hash", said)
    with used.events.connect() as connection, connection.begin(), pytest.raises(DBAPIError, match="append-only"):
        change(connection, "UPDATE events SET data = '{}' WHERE position = 7")
    if by == "init":
        init(used.settings)
    else:
        accept(used, create("new@example.org"))
        assert used.handler.handle()
    with used.events.connect() as connection:
        [page] = chain.checked(connection)
    assert list(page)[6:] == ([7, 8] if by == "init" else [7, 8, 9])


def test_an_older_log_gets_its_hashes_when_it_is_upgraded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REVISIONS, "event_store", "0005")
    settings.data_dir.mkdir()
    for store, url in check.stores(settings):
        migrations.upgrade(url, store)
    monkeypatch.undo()
    with engines.writing(settings.event_store, lock="event_store") as connection:
        for n in range(1, 5001):
            statement = f"INSERT INTO events VALUES ({n}, 'user-{n}', 1, 'UserCreated', '{{}}', '{{}}', '2026', 1)"
            connection.exec_driver_sql(statement)
    with monkeypatch.context() as patched:
        patched.setattr(event_store, "PAGE_SIZE", 4000)
        patched.setattr(event_store, "_seal", text("garbage"))
        with pytest.raises(Exception, match=r"garbage|compile"):
            migrations.upgrade(settings.event_store, "event_store")
    with engines.reading(settings.event_store) as connection:
        needed = f"this version needs {REVISIONS['event_store']}: run `cqrs init`"
        assert str(check.compare(connection, "event_store")).endswith(needed)
    migrations.upgrade(settings.event_store, "event_store")
    with engines.reading(settings.event_store) as connection:
        assert sum(map(len, chain.checked(connection))) == 5000
    with engines.writing(settings.event_store, lock="event_store") as connection:
        event_store.append(connection, Append("user-1", [NewEvent("A", {}, {})], 1))
    with engines.reading(settings.event_store) as connection:
        assert sum(map(len, chain.checked(connection))) == 5001
