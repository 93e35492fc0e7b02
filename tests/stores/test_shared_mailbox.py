"""Two users with one mailbox, as older rules let them: `cqrs init` finds them, and the service goes on."""

import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cli.stores.init import contested, init
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.domain.users import addresses
from shared.domain.users.messages import UserCreated, UserEmailUpdated
from shared.domain.users.read_models import emails
from shared.schemas.migrations.event_store.r0001_tables import APPEND_ONLY
from shared.settings import Settings
from shared.stores import outcomes
from tests.support.command_line import cqrs, told
from tests.support.service import clean_environment
from tests.support.stores import Stores, accept, create, elsewhere, hashed, update
from workers.handling.batch import Batch
from workers.projecting import runner
from workers.projecting.chunk import advance
from workers.projecting.shadow import shadow_of

pytestmark = pytest.mark.both_engines

MAILBOX = "a@xn--bcher-kva.example.org"
SPELLINGS = "a@bücher.example.org", "a@XN--BCHER-KVA.example.org", "A@ｂücher.example.org"  # noqa: RUF001

KILLED = """
import os, signal
from cli.stores.init import init
from shared.schemas.migrations import rekeying
from shared.schemas.migrations.event_store.r0001_tables import APPEND_ONLY
from shared.settings import Settings
rekeying.held.drop = lambda _: os.kill(os.getpid(), signal.SIGKILL)
init(Settings())
"""

WITHOUT_HASHES = {
    "sqlite": ["DROP TRIGGER events_refuse_update", "ALTER TABLE events DROP COLUMN hash", APPEND_ONLY["sqlite"][0]],
    "postgresql": ["DROP TRIGGER events_refuse_update ON events", "ALTER TABLE events DROP COLUMN hash"],
}


def handle(stores: Stores, *submissions: Any) -> list[str]:
    """How each command ended."""
    commands = accept(stores, *submissions)
    while stores.handler.handle():
        pass
    with stores.events.begin() as connection:
        found = outcomes.find(connection, [each.seq for each in commands])
    ends = [found[each.seq] for each in commands]
    return [each.problem["type"] if each.problem else each.status for each in ends]


def project(stores: Stores) -> None:
    for name, which in PROJECTIONS.items():
        engine = engines.writer(stores.settings.read_model_of(name), lock=name, durable=False)
        with engines.briefly(engine):
            while runner.catch_up(stores.events, engine, which):
                pass


def rows(url: str, query: str) -> set[tuple[Any, ...]]:
    with engines.reading(url) as connection:
        return {tuple(row) for row in connection.execute(text(query))}


def change(url: str, *statements: str) -> None:
    with engines.writing(url, lock="test") as connection:
        for statement in statements:
            connection.execute(text(statement))


def kept(stores: Stores) -> set[tuple[Any, ...]]:
    return rows(stores.settings.event_store, "SELECT value, stream FROM unique_keys")


def hashes(stores: Stores, *those: tuple[str, str]) -> set[tuple[str, str]]:
    """The rows of `kept` for these addresses and streams."""
    return {(hashed(stores.settings, email)[0], stream) for email, stream in those}


@pytest.fixture
def old(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """As the version before left it: user 2 has held the mailbox for longest, then users 1 and 3 came to it."""

    def key(email: str) -> str:
        return unicodedata.normalize("NFC", email).casefold()

    with monkeypatch.context() as before:
        before.setattr(addresses, "key", key)
        before.setattr(emails, "key", key)
        before.setattr(Batch, "_hashed", lambda _, keys: list(keys))
        for event in (UserCreated, UserEmailUpdated):
            before.setattr(event, "personal", ())
        first, second, third = SPELLINGS
        came = create("one@example.com"), create(first), create(third), update(1, second)
        assert handle(stores, *came, create("i@straße.example.de")) == ["succeeded"] * 5
        project(stores)
    change(
        stores.settings.event_store,
        *WITHOUT_HASHES[stores.events.name],
        "DROP TABLE contested_keys",
        "DROP TABLE access_keys",
        "DROP TABLE secret_copies",
        "UPDATE event_store_schema SET version_num='0003'",
    )
    for name in PROJECTIONS:
        made = [f"DROP TABLE IF EXISTS {table}" for table in ("advances", "rebuilds")]  # PostgreSQL has them once
        change(stores.settings.read_model_of(name), *made, "UPDATE read_model_schema SET version_num='0002'")
    return stores


@pytest.fixture
def shared(old: Stores) -> Stores:
    init(old.settings)
    return old


def test_keys_are_made_anew_and_who_shares_a_mailbox_is_told(old: Stores) -> None:
    first, second = told(old.settings, "init")["contested"]
    assert first.startswith("user-2 and user-3 hold the same email: it is kept for user-2")
    assert second.startswith("user-2 and user-1 hold the same email: it is kept for user-2")
    assert kept(old) == hashes(old, (MAILBOX, "user-2"), ("i@xn--strae-oqa.example.de", "user-4"))
    url = old.settings.read_model_of("emails")
    its = {(n, MAILBOX) for n in (1, 2, 3)} | {(4, "i@xn--strae-oqa.example.de")}
    assert rows(url, "SELECT user_id, key FROM emails") == its
    verdict = told(old.settings, "verify", code=1)
    assert verdict["wrong"] == "user-2 and user-3 hold the same email; user-2 and user-1 hold the same email"
    assert contested(old.settings) == [first, second]


def test_rows_of_a_table_that_gains_a_column_are_made_anew_too(old: Stores) -> None:
    url = old.settings.read_model_of("emails")
    change(url, "ALTER TABLE emails DROP COLUMN active")
    init(old.settings)
    assert (1, MAILBOX, 1) in rows(url, "SELECT user_id, key, active FROM emails")


def test_a_rebuild_that_an_older_version_began_does_not_bring_its_keys_back(old: Stores) -> None:
    url = old.settings.read_model_of("emails")
    place = shadow_of(url, "emails")
    place.make(emails.emails.tables)
    with engines.writing(place.url, lock=place.url) as connection, old.events.connect() as reading:
        assert not advance(connection, reading, emails.emails).more
    change(place.url, "UPDATE emails SET key = 'old'")
    init(old.settings)
    assert told(old.settings, "projections", "rebuild", "emails", "--resume")["from"] == 0
    assert rows(url, "SELECT key FROM emails WHERE user_id = 2") == {(MAILBOX,)}


@pytest.mark.processes
def test_an_init_that_is_killed_leaves_everything_as_it_was_and_runs_again(old: Stores) -> None:
    before = kept(old)
    given = old.settings.variables()
    folder = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED], env=clean_environment() | given, cwd=folder, check=False)
    assert killed.returncode == -9
    assert kept(old) == before
    assert rows(old.settings.event_store, "SELECT * FROM event_store_schema") == {("0003",)}
    init(old.settings)
    assert hashes(old, (MAILBOX, "user-2")) < kept(old)


@pytest.mark.sqlite_only
def test_a_stream_that_can_not_be_read_keeps_its_keys(old: Stores) -> None:
    lost = "INSERT INTO events VALUES (6, 'user-9', 1, 'UserCreated', '{}', '{}', '2026', 1)"
    change(old.settings.event_store, lost, "INSERT INTO unique_keys VALUES ('email', 'x@example.com', 'user-9')")
    init(old.settings)
    assert hashes(old, ("x@example.com", "user-9")) < kept(old)
    assert hashes(old, (MAILBOX, "user-2")) < kept(old)


def test_p5_who_moves_away_from_a_mailbox_that_is_kept_for_another_frees_nothing(shared: Stores) -> None:
    at_once = update(3, "three@example.com"), create(SPELLINGS[0]), create("three@example.com")
    assert handle(shared, *at_once) == ["succeeded", "email-taken", "email-taken"]
    assert handle(shared, create(SPELLINGS[0])) == ["email-taken"]
    assert hashes(shared, (MAILBOX, "user-2"), ("three@example.com", "user-3")) < kept(shared)
    project(shared)
    assert told(shared.settings, "verify", code=1)["wrong"] == "user-2 and user-1 hold the same email"


def test_p5_a_mailbox_that_is_given_up_is_kept_for_the_next_who_holds_it(shared: Stores) -> None:
    at_once = update(2, "two@example.com"), create(SPELLINGS[1]), update(2, "2@example.com"), update(2, SPELLINGS[0])
    assert handle(shared, *at_once) == ["succeeded", "email-taken", "succeeded", "email-taken"]
    assert hashes(shared, (MAILBOX, "user-3")) < kept(shared)
    assert [line.partition(" hold")[0] for line in contested(shared.settings)] == ["user-3 and user-1"]
    assert handle(shared, update(3, "three@example.com")) == ["succeeded"]
    assert handle(shared, create(SPELLINGS[0]), update(1, SPELLINGS[0])) == ["email-taken", "succeeded"]
    assert contested(shared.settings) == []
    project(shared)
    assert told(shared.settings, "verify")["well"]
    assert handle(shared, update(1, "one@example.com"), create(MAILBOX)) == ["succeeded", "succeeded"]


@pytest.mark.sqlite_only
def test_a_log_in_which_two_hold_one_mailbox_is_refused(
    old: Stores, made: Callable[[Path], Settings], tmp_path: Path
) -> None:
    init(old.settings)
    (tmp_path / "log.jsonl").write_text(cqrs(old.settings, "events", "export"))
    another = made(tmp_path / "another").model_copy(update={"subjects_url": old.settings.subjects})
    said = cqrs(another, "events", "import", str(tmp_path / "log.jsonl"), code=1)
    assert said == "cqrs: this is no log: user-2 (event 2) and user-1 (event 4) hold the same email\n"
    assert rows(another.event_store, "SELECT * FROM unique_keys") == rows(another.event_store, "SELECT * FROM events")


@pytest.mark.sqlite_only
def test_an_old_backup_in_which_two_share_a_mailbox_is_restored(old: Stores, tmp_path: Path) -> None:
    taken = cqrs(old.settings, "backup", str(tmp_path / "backup"))
    assert "5 events" in taken
    restored = elsewhere(old.settings, tmp_path / "restored")
    cqrs(restored, "restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "backup.keys"))
    assert len(contested(restored)) == 2
