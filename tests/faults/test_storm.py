"""The storm: what it finds in a service under kills, and that its judge sees what it is there to see."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite3
import pytest
from pydantic_core import to_json

from benchmarks.load.connections import Connections, Reply
from shared.settings import Settings
from tests.faults.storm import evidence
from tests.faults.storm.case import WORDS
from tests.faults.storm.clients import Client, World
from tests.faults.storm.faults import FREEZE, LONG_FREEZE, ROLES, Fault, schedule
from tests.faults.storm.judge import count, judge
from tests.faults.storm.ledger import Ledger
from tests.faults.storm.run import Storm
from tests.faults.storm.verdict import Recovery, Verdict


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("store", "kills", "faults"),
    [
        ("sqlite", 5, "5 of 5 kills, 1 FLUSHALL, 1 frozen"),
        pytest.param("sqlite", 9, "9 of 9 kills, 1 FLUSHALL, 1 frozen", marks=pytest.mark.long),
        pytest.param(
            "postgresql",
            10,
            "10 of 10 kills, 1 FLUSHALL, 1 frozen, 3 times all of a process's connections ended",
            marks=pytest.mark.long,
        ),
    ],
)
def test_kills_and_a_freeze_cost_nothing_but_seconds(store: str, kills: int, faults: str) -> None:
    command = [sys.executable, "-m", "tests.faults.storm", "--seed", "3", "--seconds", "120"]
    command += ["--store", store, "--kills", str(kills)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = dict(line.split() for line in ended.stdout.splitlines() if len(line.split()) == 2)
    assert {said[word] for word in WORDS} == {"0"}
    assert said["ok"] == said["acknowledged"]
    assert faults in ended.stdout


def test_postgresql_crashes_and_ends_connections_in_addition() -> None:
    faults = schedule(1, 100, "postgresql")
    assert sum(fault.kind == "crash" for fault in faults) == 10
    assert {fault.roles[0].rstrip("-123") for fault in faults if fault.kind == "cut"} == {
        "api",
        "command-worker",
        "projection-worker",
    }
    assert sum(fault.kills for fault in faults) == 100


def test_the_same_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert schedule(7, 200) == schedule(7, 200)
    assert schedule(7, 200) != schedule(8, 200)


@pytest.mark.parametrize("kills", [0, 1, 20, 37, 200])
def test_as_many_processes_are_killed_as_asked_for(kills: int) -> None:
    assert sum(fault.kills for fault in schedule(1, kills)) == kills


def test_every_role_is_killed_and_every_kind_of_fault_comes_up() -> None:
    short, long = schedule(1, 18), schedule(1, 180)
    assert {fault.roles[0] for fault in short if fault.kind == "kill" and fault.kills == 1} == set(ROLES)
    assert {fault.kind for fault in short} == {"kill", "forget", "flush", "freeze"}
    assert [fault.seconds for fault in short if fault.kind == "freeze"] == [FREEZE]
    assert sorted(fault.seconds for fault in long if fault.kind == "freeze") == [FREEZE] * 8 + [LONG_FREEZE] * 2


@pytest.mark.parametrize(("seconds", "holds"), [([1, 3, 9], True), ([1, 3, 10], False), ([1, 4, 5], False)])
def test_a_recovery_that_takes_too_long_breaks_the_verdict(seconds: list[float], holds: bool) -> None:
    recoveries = [Recovery(Fault("kill", ("api",)), each) for each in seconds]
    freeze = Recovery(Fault("freeze", ("command-worker-1",), seconds=12), 20.0)
    assert Verdict(dict.fromkeys(WORDS, 0), [], [*recoveries, freeze]).holds == holds


@pytest.mark.parametrize("word", WORDS)
def test_a_single_finding_breaks_the_verdict(word: str) -> None:
    assert not Verdict(dict.fromkeys(WORDS, 0) | {word: 1}, [], []).holds


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    """A storm without faults, for others to tamper with what it left."""
    storm = Storm(Settings(data_dir=tmp_path_factory.mktemp("quiet") / "data", _env_file=None), seed=1)
    verdict = asyncio.run(storm.go())
    assert verdict.holds, verdict.findings
    assert verdict.counts["ok"] == verdict.counts["acknowledged"] >= 300
    return storm


ERASED = "SELECT stream FROM events WHERE type = 'UserErased'"
UPDATED = f"(SELECT max(position) FROM events WHERE type = 'UserEmailUpdated' AND stream NOT IN ({ERASED}))"
ITS_STREAM = f"(SELECT stream FROM events WHERE position = {UPDATED})"
ITS_COMMAND = f"(SELECT metadata ->> 'command_id' FROM events WHERE position = {UPDATED})"
ITS_SEQ = f"(SELECT seq FROM commands WHERE command_id = {ITS_COMMAND})"
ITS_OUTCOME = f"UPDATE outcomes SET %s WHERE seq = {ITS_SEQ}"
ITS_EVENT = f"UPDATE events SET %s WHERE position = {UPDATED}"
TAKEN = "(SELECT min(seq) FROM outcomes WHERE problem ->> 'type' = 'email-taken')"
WITH_EVENTS = "(SELECT metadata ->> 'command_id' FROM events)"
ALREADY_SO = f"""(SELECT min(seq) FROM outcomes JOIN commands USING (seq)
    WHERE status = 'succeeded' AND command_id NOT IN {WITH_EVENTS})"""
SWAPPED = f"SELECT 3 - version AS version, metadata FROM events WHERE stream = {ITS_STREAM} AND version < 3"
AGAIN = f"""INSERT INTO events
    SELECT (SELECT max(position) + 1 FROM events), stream, version + 1, type, data, metadata, recorded_at, 1, hash
    FROM events WHERE position = {UPDATED}"""
COMMAND_AGAIN = """INSERT INTO commands
    SELECT seq + 1, 'another', stream, type, data, expected_version, accepted_at, NULL, NULL, metadata, NULL
    FROM commands ORDER BY seq DESC LIMIT 1"""
LEFT = "(SELECT max(position) FROM events WHERE type = 'UserDeactivated')"
REFUSED = "problem ->> 'type' = 'user-deactivated'"
ONE_ERASED = f"({ERASED} ORDER BY position LIMIT 1)"
SOMEBODY = "(SELECT min(user_id) FROM users.users)"
ANOTHERS = f"(SELECT email FROM users.users WHERE 'user-' || user_id <> {ITS_STREAM} LIMIT 1)"
IN_THE_CLEAR = "data = json_object('user_id', data -> '$.user_id', '%s', %s)"


@pytest.mark.parametrize(
    ("word", "finding", "statements"),
    [
        ("lost", "is not in the inbox", ["DELETE FROM commands WHERE seq = 1"]),
        ("lost", "commands in the inbox, the last is number", ["DELETE FROM commands WHERE seq = 1"]),
        ("lost", "has no outcome", [f"DELETE FROM outcomes WHERE seq = {ITS_SEQ}"]),
        ("lost", "should come to [('user-", [f"DELETE FROM events WHERE position = {UPDATED}"]),
        ("duplicated", "is not all", [AGAIN]),
        ("duplicated", "with the key None, which was sent False", [COMMAND_AGAIN]),
        (
            "reordered",
            "stands behind",
            [
                f"CREATE TEMP TABLE swapped AS {SWAPPED}",
                f"""UPDATE events SET metadata = swapped.metadata FROM swapped
                    WHERE stream = {ITS_STREAM} AND events.version = swapped.version""",
            ],
        ),
        ("torn", "belongs to None", [f"DELETE FROM outcomes WHERE seq = {ITS_SEQ}"]),
        ("torn", "belongs to Outcome(", [ITS_OUTCOME % "status = 'rejected'"]),
        ("torn", "ends in", [ITS_OUTCOME % "version = version + 1"]),
        ("torn", "ends in", [ITS_OUTCOME % "position = position - 1"]),
        ("torn", "its end is", [f"UPDATE outcomes SET version = 77 WHERE seq = {ALREADY_SO}"]),
        ("torn", "its end is", [f"UPDATE outcomes SET position = 0 WHERE seq = {ALREADY_SO}"]),
        ("torn", "should be at", [ITS_EVENT % "position = 1000000"]),
        ("torn", "should be at", [ITS_EVENT % "version = version + 1"]),
        ("torn", "should have the hash", [ITS_EVENT % "recorded_at = '2026'"]),
        ("torn", "should have the hash", [ITS_EVENT % "hash = NULL"]),
        ("torn", "the holder of", [f"DELETE FROM unique_keys WHERE stream = {ITS_STREAM}"]),
        ("torn", "belongs to no command", ["UPDATE outcomes SET seq = 1000000 WHERE seq = 1"]),
        ("torn", "is set aside as well", ["INSERT INTO set_aside (seq, stream, tries) VALUES (1, 'user-1', 0)"]),
        ("skipped", "is None, by the log it is {", [f"DELETE FROM users.users WHERE user_id = {SOMEBODY}"]),
        ("skipped", "users: ", [f"UPDATE users.users SET version = version - 1 WHERE user_id = {SOMEBODY}"]),
        ("skipped", "users: ", [f"UPDATE users.users SET active = NOT active WHERE user_id = {SOMEBODY}"]),
        ("skipped", "emails: ", [f"UPDATE emails.emails SET key = upper(key) WHERE user_id = {SOMEBODY}"]),
        ("skipped", "stats: ", ["UPDATE stats.daily SET changes = changes + 1"]),
        ("skipped", "the checkpoint of users is", ["UPDATE users.checkpoints SET position = position - 1"]),
        ("torn", "the holder of", [f"INSERT INTO unique_keys SELECT 'email', 'x', {ONE_ERASED}"]),
        ("torn", "by the keys it is otherwise", [f"DELETE FROM erasures WHERE stream = {ONE_ERASED}"]),
        (
            "torn",
            "by the keys it is otherwise",
            [f"INSERT INTO erasures SELECT max(number) + 1, {ITS_STREAM}, '2026' FROM erasures"],
        ),
        (
            "readable",
            "is erased and has a key",
            [f"INSERT INTO subject_keys SELECT {ONE_ERASED}, key FROM subject_keys LIMIT 1"],
        ),
        (
            "readable",
            "opens, and",
            [f"UPDATE events SET {IN_THE_CLEAR} WHERE stream = {ONE_ERASED} AND version = 1" % ("email", "'x@y.z'")],
        ),
        (
            "readable",
            "opens, and",
            [f"UPDATE commands SET {IN_THE_CLEAR} WHERE stream = {ONE_ERASED}" % ("email", "'x@example.com'")],
        ),
        (
            "readable",
            "is erased and stands in users",
            [f"UPDATE users.users SET user_id = substr({ONE_ERASED}, 6) WHERE user_id = {SOMEBODY}"],
        ),
        (
            "readable",
            "is erased and stands in emails",
            [f"UPDATE emails.emails SET user_id = substr({ONE_ERASED}, 6) WHERE user_id = {SOMEBODY}"],
        ),
        (
            "unexpected",
            "come to user-erased",
            [
                """UPDATE outcomes SET problem = json_object('type', 'user-not-found')
                    WHERE problem ->> 'type' = 'user-erased'"""
            ],
        ),
        ("forgotten", "doesn't open", [f"DELETE FROM subject_keys WHERE stream = {ITS_STREAM}"]),
        ("forgotten", "doesn't open", [ITS_EVENT % "version = version + 1"]),
        ("unexpected", "is another", ["UPDATE commands SET expected_version = 77 WHERE seq = 1"]),
        ("unexpected", "is another", ["UPDATE commands SET data = json_set(data, '$.user_id', 77) WHERE seq = 1"]),
        ("unexpected", "failed", [ITS_OUTCOME % "status = 'failed'"]),
        ("unexpected", "should come to", [ITS_EVENT % IN_THE_CLEAR % ("new_email", "'x@example.com'")]),
        ("unexpected", "that another held", [ITS_EVENT % IN_THE_CLEAR % ("new_email", ANOTHERS)]),
        (
            "unexpected",
            "come to version-conflict",
            [f"UPDATE commands SET expected_version = 77 WHERE seq = {ITS_SEQ}"],
        ),
        (
            "unexpected",
            "should come to",
            [f"UPDATE outcomes SET problem = json_object('type', 'user-not-found') WHERE seq = {TAKEN}"],
        ),
        (
            "unexpected",
            "should come to user-deactivated",
            [f"UPDATE outcomes SET problem = json_object('type', 'email-taken') WHERE {REFUSED}"],
        ),
        ("unexpected", "is not sealed", [ITS_EVENT % IN_THE_CLEAR % ("new_email", "'x@example.com'")]),
        ("lost", "'UserDeactivated'", [f"DELETE FROM events WHERE position = {LEFT}"]),
        (
            "unexpected",
            "nobody held the address",
            [f"UPDATE commands SET {IN_THE_CLEAR} WHERE seq = {TAKEN}" % ("email", "'free@example.com'")],
        ),
    ],
)
def test_the_judge_sees_a_store_that_was_tampered_with(
    word: str, finding: str, statements: list[str], quiet: Storm, tmp_path: Path
) -> None:
    copy(quiet, tmp_path)
    run(tmp_path, "DROP TRIGGER events_refuse_update", "DROP TRIGGER events_refuse_delete", *statements)
    findings = judge(quiet.ledger, evidence.read(Settings(data_dir=tmp_path, _env_file=None)))
    assert any(found.word == word and finding in found.what for found in findings), findings


@pytest.mark.parametrize("field", ["email", "last_name"])
def test_the_judge_sees_what_is_left_of_an_erased_user_in_a_file(field: str, quiet: Storm, tmp_path: Path) -> None:
    copy(quiet, tmp_path)
    erased = {request.user for request in quiet.ledger.acknowledged if request.erases and not request.problem}
    values = [each.body[field] for each in quiet.ledger.acknowledged if each.user in erased and field in each.body]
    (tmp_path / "left").write_text("".join(values).upper() if field == "email" else "".join(values))
    findings = judge(quiet.ledger, evidence.read(Settings(data_dir=tmp_path, _env_file=None)))
    assert any(found.word == "readable" and "stands in {'left'}" in found.what for found in findings), findings


def copy(storm: Storm, folder: Path) -> None:
    for file in (*storm.settings.data_dir.glob("*.db*"), storm.settings.master_file):
        shutil.copy(file, folder)


def run(data_dir: Path, *statements: str) -> None:
    """Each changes something, in whichever store has the table."""
    connection = sqlite3.connect(data_dir / "events.db", isolation_level=None)
    for file in data_dir.glob("*.db"):
        connection.execute(f"ATTACH '{file}' AS {file.stem.removeprefix('read-')}")
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.close()


def never_arrives(ledger: Ledger) -> None:
    ledger.acknowledged[0].key = "another"


def is_another_command(ledger: Ledger) -> None:
    next(request for request in ledger.acknowledged if request.command_id).command_id = "another"


def comes_too_late(ledger: Ledger) -> None:
    """The first update of a user that was updated twice is sent last of all, as far as its client can tell."""
    paths = [request.path for request in ledger.acknowledged if request.method == "PUT"]
    path = next(path for path in paths if paths.count(path) > 1)
    first = next(request for request in ledger.acknowledged if request.path == path)
    first.sent, first.acknowledged = first.sent + 1e6, (first.acknowledged or 0) + 1e6


def is_another_user(ledger: Ledger) -> None:
    next(request for request in ledger.acknowledged if request.user_id).user_id = 0


def is_not_found(ledger: Ledger) -> None:
    ledger.shown[next(iter(ledger.shown))] = None


def is_shown_otherwise(ledger: Ledger) -> None:
    ledger.shown[next(iter(ledger.shown))]["status"] = "accepted"


def is_seen_too_old(ledger: Ledger) -> None:
    next(request for request in ledger.acknowledged if request.version).version = 0


def is_told_no(ledger: Ledger) -> None:
    next(request for request in ledger.acknowledged if request.version).problem = "email-taken"


def was_out_of_place(ledger: Ledger) -> None:
    ledger.out_of_place.append(("unexpected", "500"))


@pytest.mark.parametrize(
    ("word", "finding", "tamper"),
    [
        ("lost", "is not in the inbox", never_arrives),
        ("lost", "is answered 404", is_not_found),
        ("duplicated", "in the inbox", is_another_command),
        ("reordered", "was sent after", comes_too_late),
        ("unexpected", "is another in the inbox", is_another_user),
        ("unexpected", "is shown of", is_shown_otherwise),
        ("unexpected", "saw an older user", is_seen_too_old),
        ("unexpected", "was told another end", is_told_no),
        ("unexpected", "500", was_out_of_place),
    ],
)
def test_the_judge_sees_what_clients_should_not_have_seen(
    word: str, finding: str, tamper: Callable[[Ledger], None], quiet: Storm
) -> None:
    ledger = deepcopy(quiet.ledger)
    tamper(ledger)
    findings = judge(ledger, evidence.read(quiet.settings))
    assert any(found.word == word and finding in found.what for found in findings), findings
    assert count(ledger, findings)["ok"] < count(ledger, findings)["acknowledged"] or tamper is was_out_of_place


COMMAND = {"command_id": "1", "user_id": 1, "status": "accepted", "position": 2, "version": 2}


@pytest.mark.parametrize(
    ("act", "word", "replies"),
    [
        (Client.create, "unexpected", [Reply(500, {}, b"")]),
        (Client.create, "unexpected", [Reply(503, {}, b""), Reply(202, {}, to_json(COMMAND))]),
        (Client.create, "unexpected", [Reply(202, {"idempotency-replayed": "true"}, to_json(COMMAND))]),
        (Client.send_again, "unexpected", [Reply(202, {}, to_json(COMMAND))]),
        (
            Client.send_again,
            "duplicated",
            [Reply(202, {"idempotency-replayed": "true"}, to_json(COMMAND | {"command_id": "2"}))],
        ),
        (Client.send_other, "unexpected", [Reply(202, {}, to_json(COMMAND))]),
        (Client.read, "lost", [Reply(404, {}, b"")]),
        (Client.read, "unexpected", [Reply(200, {}, to_json(COMMAND | {"status": "failed"}))]),
        (
            Client.read,
            "unexpected",
            [Reply(200, {}, to_json(COMMAND | {"status": "succeeded"})), Reply(200, {}, b'{"version": 1}')],
        ),
    ],
)
def test_a_client_sees_an_answer_that_is_out_of_place(
    act: Callable[[Client], Awaitable[None]], word: str, replies: list[Reply]
) -> None:
    class Scripted(Connections):
        async def request(self, *_: Any) -> Reply:
            return script.pop(0)

    async def go() -> None:
        client = Client(world, "client")
        await client.create()
        assert not world.ledger.out_of_place
        await act(client)

    script = [Reply(202, {}, to_json(COMMAND)), *replies]
    world = World(Scripted("", 0), seed=1)
    asyncio.run(go())
    assert [each[0] for each in world.ledger.out_of_place] == [word]
    assert not script
