"""Keys: their form, how long they count, and what the table and the log keep of them."""

import json
import re
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.stores.init import init
from shared.access.keys import Key, digest_of, id_in, key_of, new_key
from shared.access.principals import operator_here
from shared.database import engines
from shared.operations import key_table
from shared.operations.holders import holder_of, holders_of
from shared.operations.key_table import KnownKey
from shared.schemas import check, migrations
from shared.schemas.check import REVISIONS
from shared.settings import Settings
from shared.stores import event_store
from tests.support import keys
from tests.support.command_line import cqrs, told
from tests.support.processes import forking
from tests.support.stores import Stores, accept, create, elsewhere

KEY = new_key()


def known(settings: Settings) -> list[KnownKey]:
    with engines.reading(settings.event_store) as connection:
        return key_table.all_keys(connection)


def counts(settings: Settings, key: str) -> bool:
    """Whether a role that looks at the table now lets it in."""
    return holder_of(key, holders_of(known(settings))) is not None


def added(settings: Settings, name: str = "any", *more: str) -> str:
    return str(told(settings, "keys", "add", name, "--role", "reader", *more)["key"])


def past(settings: Settings, name: str) -> str:
    """A key that has expired."""
    return keys.add(settings, "reader", name=name, seconds=-1).text


def test_a_key_is_told_from_one_that_is_mistyped_or_cut() -> None:
    assert re.fullmatch("cqrs_[0-9a-f]{8}_[0-9a-f]{72}", KEY.text)
    assert key_of(KEY.text) == KEY
    assert id_in(KEY.text) == KEY.id
    for position, character in enumerate(KEY.text):
        other = "0" if character != "0" else "1"
        assert key_of(KEY.text[:position] + other + KEY.text[position + 1 :]) is None
    for wrong in ("", KEY.text[:-1], KEY.text[1:], f"{KEY.text}\n", f" {KEY.text}", KEY.text.upper(), KEY.text * 2):
        assert (key_of(wrong), id_in(wrong)) == (None, None)
    assert key_of(KEY.text.replace("_", "\uff3f")) is None


def test_a_shell_can_make_a_key() -> None:
    script = """
        id=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \\n'); secret=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n')
        text="cqrs_${id}_${secret}"; printf %s "$text$(printf %s "$text" | sha256sum | cut -c1-8)"
    """
    made = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert key_of(made) == Key(made[5:13], made)


def test_no_two_keys_are_alike() -> None:
    made = [new_key() for _ in range(1000)]
    assert len({key.text[14:-8] for key in made}) == 1000
    assert {each.id for each in (new_key("0123abcd") for _ in range(3))} == {"0123abcd"}


@pytest.mark.both_engines
def test_the_stores_never_hold_a_key_s_text(stores: Stores) -> None:
    first = added(stores.settings, "billing")
    second = told(stores.settings, "keys", "rotate", "billing", "--grace", "1h")["key"]
    secrets = [key[14:-8] for key in (first, second)]
    tables = "access_keys", "events"
    with stores.events.connect() as connection:
        rows = [str(row) for table in tables for row in connection.execute(text(f"SELECT * FROM {table}"))]
    assert len(rows) == 3
    assert digest_of(second) in rows[0]
    shown = [cqrs(stores.settings, *command) for command in (["keys", "list"], ["audit"], ["events", "tail"])]
    shown += [json.dumps(told(stores.settings, *command)) for command in (["keys", "list"], ["audit"])]
    assert not [secret for secret in secrets if secret in "".join([*rows, *shown])]
    files = [path.read_bytes() for path in stores.settings.data_dir.glob("*.db*")]
    assert not [secret for secret in secrets if any(secret.encode() in content for content in files)]


@pytest.mark.both_engines
def test_what_add_says_and_list_shows(stores: Stores) -> None:
    made = told(stores.settings, "keys", "add", "billing", "--role", "writer", "--role", "reader", "--expires", "90d")
    key = key_of(made.pop("key"))
    assert key
    [listed] = told(stores.settings, "keys", "list")
    assert listed == made
    assert (made["id"], made["name"], made["roles"]) == (key.id, "billing", ["reader", "writer"])
    assert (made["created_by"], made["state"], made["revoked_at"]) == (operator_here(), "active", None)
    expires = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert abs(expires - timedelta(days=90)) < timedelta(minutes=1)
    assert not [name for name in listed if "digest" in name]
    line = cqrs(stores.settings, "keys", "list").splitlines()[1]
    assert line.split()[:6] == [key.id, "billing", "reader", "writer", "active", f"{made['expires_at'][:19]}Z"]


@pytest.mark.both_engines
def test_an_expired_key_counts_no_more_and_is_not_rotated(stores: Stores) -> None:
    assert counts(stores.settings, added(stores.settings, "still", "--expires", "1m"))
    assert not counts(stores.settings, past(stores.settings, "over"))
    assert [each["state"] for each in told(stores.settings, "keys", "list")] == ["active", "expired"]
    assert "has expired" in cqrs(stores.settings, "keys", "rotate", "over", code=1)
    cqrs(stores.settings, "keys", "revoke", "over")


@pytest.mark.both_engines
@pytest.mark.parametrize("grace", [None, "1h"])
def test_a_rotated_key_keeps_its_id_and_its_text_before_counts_for_the_grace_alone(
    stores: Stores, grace: str | None
) -> None:
    first = added(stores.settings, "billing")
    rotate = ["keys", "rotate", "billing", *(["--grace", grace] if grace else [])]
    second = told(stores.settings, *rotate)
    assert id_in(second["key"]) == id_in(first) == second["id"]
    assert [counts(stores.settings, text) for text in (first, second["key"])] == [grace is not None, True]
    third = cqrs(stores.settings, "keys", "rotate", "billing").strip()
    assert [counts(stores.settings, text) for text in (first, second["key"], third)] == [False, False, True]
    assert len(told(stores.settings, "keys", "list")) == 1


@pytest.mark.both_engines
def test_a_key_is_revoked_by_its_name_or_its_id_and_with_it_the_text_before(stores: Stores) -> None:
    first, other = added(stores.settings, "billing"), added(stores.settings, "other")
    second = told(stores.settings, "keys", "rotate", "billing", "--grace", "1h")["key"]
    cqrs(stores.settings, "keys", "revoke", "billing")
    assert [counts(stores.settings, text) for text in (first, second, other)] == [False, False, True]
    cqrs(stores.settings, "keys", "revoke", str(id_in(other)))
    assert not counts(stores.settings, other)
    for again in ("billing", str(id_in(other)), "nobody"):
        for command in ("revoke", "rotate"):
            said = cqrs(stores.settings, "keys", command, again, code=1)
            assert said == f"cqrs: there is no key with the id or name {again}, or it is revoked\n"


@pytest.mark.both_engines
def test_of_several_keys_with_one_name_none_is_guessed(stores: Stores) -> None:
    ids = [id_in(added(stores.settings, "twin")) for _ in range(2)]
    said = cqrs(stores.settings, "keys", "revoke", "twin", code=1)
    assert said == f"cqrs: 2 keys are called twin: use the id, one of {', '.join(map(str, ids))}\n"
    cqrs(stores.settings, "keys", "revoke", str(ids[0]))
    cqrs(stores.settings, "keys", "revoke", "twin")  # of one that counts and one that is revoked it is the one
    assert {each["state"] for each in told(stores.settings, "keys", "list")} == {"revoked"}


@pytest.mark.both_engines
def test_a_name_that_is_another_key_s_id_means_that_key(stores: Stores) -> None:
    id = str(id_in(added(stores.settings, "one")))
    added(stores.settings, id)
    assert told(stores.settings, "keys", "revoke", id)["name"] == "one"


@pytest.mark.parametrize("name", ["", "a b", "a\x1b[31m", "a\n", "ü", "x" * 65, "'; --", "a=b", "\u202e", "{}", "%00"])
def test_names_that_would_be_odd_in_a_log_are_refused(stores: Stores, name: str) -> None:
    said = cqrs(stores.settings, "keys", "add", name, "--role", "reader", code=1)
    assert said == "cqrs: a key's name has letters, digits and ._@/- only, 64 at most\n"
    assert known(stores.settings) == []


@pytest.mark.parametrize(
    ("arguments", "told_"),
    [
        (["a", "--role", "admin"], "cqrs: there is no role admin: roles are reader, writer, auditor, operator, eraser"),
        *((["a", "--role", "reader", "--expires", each], "90d") for each in ("", "0d", "1y", "-1d", "1e3d", "999999d")),
    ],
)
def test_wrong_roles_and_times_are_told(stores: Stores, arguments: list[str], told_: str) -> None:
    code = 2 if "--expires" in arguments else 1
    assert told_ in cqrs(stores.settings, "keys", "add", *arguments, code=code)
    assert known(stores.settings) == []


@pytest.mark.both_engines
def test_each_change_raises_the_number_of_changes_and_a_failed_one_does_not(stores: Stores) -> None:
    seen: list[int] = []

    def look() -> None:
        with engines.reading(stores.settings.event_store) as connection:
            seen.append(key_table.changes(connection))

    look()
    for command in (
        ["add", "a", "--role", "reader"],
        ["rotate", "a"],
        ["revoke", "a"],
        ["add", "a", "--role", "reader"],
    ):
        cqrs(stores.settings, "keys", *command)
        look()
    cqrs(stores.settings, "keys", "revoke", "b", code=1)
    look()
    assert seen == [0, 1, 2, 3, 4, 4]


@pytest.mark.both_engines
def test_a_key_and_the_event_that_tells_of_it_come_together_or_not_at_all(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_table, "_insert", lambda *_: 1 / 0)
    cqrs_fails(stores.settings, "keys", "add", "a", "--role", "reader")
    with stores.events.connect() as connection:
        assert event_store.last_position(connection) == 0
    monkeypatch.undo()
    added(stores.settings, "a")
    [event] = told(stores.settings, "audit")
    assert (event["type"], event["by"], event["data"]["name"]) == ("KeyAdded", operator_here(), "a")


def cqrs_fails(settings: Settings, *arguments: str) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        cqrs(settings, *arguments)


@pytest.mark.both_engines
@pytest.mark.processes
def test_many_at_once_make_as_many_keys_while_commands_are_handled(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(300)))
    with ProcessPoolExecutor(3, forking()) as processes:
        begun = [processes.submit(added, stores.settings, "crowd") for _ in range(3)]
        while not all(each.done() for each in begun):
            if not stores.handler.handle():
                time.sleep(0.01)
    while stores.handler.handle():
        pass
    assert [counts(stores.settings, each.result()) for each in begun] == [True] * 3
    with stores.events.connect() as connection:
        assert event_store.last_position(connection) == 303
        assert key_table.changes(connection) == 3
    assert told(stores.settings, "verify")["well"]


@pytest.mark.both_engines
def test_a_key_is_revoked_while_commands_are_handled_at_full_speed(stores: Stores) -> None:
    accept(stores, *(create(f"{n}@example.com") for n in range(2000)))
    key = added(stores.settings, "leaked")
    with ThreadPoolExecutor(1) as thread:
        revoking = thread.submit(keys.revoke, stores.settings, Key(str(id_in(key)), key))
        while stores.handler.handle():
            pass
        assert revoking.done()
    assert not counts(stores.settings, key)
    assert told(stores.settings, "verify")["well"]


@pytest.mark.both_engines
def test_an_event_store_from_before_there_were_keys_keeps_its_data(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REVISIONS, "event_store", "0004")
    settings.data_dir.mkdir()
    for store, url in check.stores(settings):
        migrations.upgrade(url, store)
    with engines.writing(settings.event_store, lock="test") as connection:
        data = '{"user_id":1,"first_name":"A","last_name":"B","email":"a@example.com"}'
        row = {"data": data}
        connection.execute(text("INSERT INTO events VALUES (1,'user-1',1,'UserCreated',:data,'{}','2026',1)"), row)
        connection.execute(text("INSERT INTO unique_keys VALUES ('email', 'a@example.com', 'user-1')"))
    monkeypatch.undo()
    assert "run `cqrs init`" in cqrs(settings, "init", "--check", code=1)
    init(settings)
    assert known(settings) == []
    assert counts(settings, added(settings))
    with engines.reading(settings.event_store) as connection:
        events = event_store.read_all(connection)
    assert [(each.position, each.stream, each.version) for each in events] == [(1, "user-1", 1), (2, "operations-1", 1)]
    assert events[0].data_json == data
    assert told(settings, "verify")["well"]


def test_a_backup_and_an_export_hold_no_key(stores: Stores, tmp_path: Path) -> None:
    key = added(stores.settings, "billing")
    cqrs(stores.settings, "backup", str(tmp_path / "backup"))
    exported = cqrs(stores.settings, "events", "export")
    assert '"type":"KeyAdded"' in exported
    content = b"".join(path.read_bytes() for path in (tmp_path / "backup").iterdir())
    assert key[14:-8].encode() not in content + exported.encode()
    restored = elsewhere(stores.settings, tmp_path / "restored")
    cqrs(restored, "restore", str(tmp_path / "backup"))
    assert counts(restored, key), "keys are as they were"
