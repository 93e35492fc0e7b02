"""`cqrs backup` takes all stores at one point while the service runs; `cqrs restore` looks before it replaces."""

from pathlib import Path

import pytest
from sqlalchemy import text

from shared.clock import now
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.operations import backups
from shared.stores import checkpoints, sessions
from shared.stores.sessions import Session
from tests.support.command_line import cqrs, told
from tests.support.stores import Stores, accept, create, elsewhere
from workers.projecting import runner
from workers.projecting.shadow import has_tables, shadow_of


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Three users, whom the read models show."""
    accept(stores, *(create(f"{n}@example.com") for n in range(3)))
    stores.handler.handle()
    for name, which in PROJECTIONS.items():
        with engines.briefly(engines.writer(stores.settings.read_model_of(name), lock=name)) as engine:
            while runner.catch_up(stores.events, engine, which):
                pass
    return stores


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.db")}


def test_what_came_after_the_backup_is_gone_when_it_is_restored(used: Stores, tmp_path: Path) -> None:
    cqrs(used.settings, "backup", str(tmp_path / "backup"))
    accept(used, create("later@example.com"))
    used.handler.handle()
    place = shadow_of(used.settings.read_model_of("users"), "users")
    place.make(PROJECTIONS["users"].tables)
    for each in (used.inbox, used.events, used.read_model):
        each.dispose()
    used.handler._inbox.dispose()
    cqrs(used.settings, "restore", str(tmp_path / "backup"))
    assert not has_tables(place, [])
    checked = told(used.settings, "verify")["checked"]
    assert checked["positions and hashes"] == 4, "with one that records the restore"
    assert not list(used.settings.data_dir.glob("*.new*"))


def test_p10_a_restore_ends_every_session_of_the_console(used: Stores, tmp_path: Path) -> None:
    """One that was ended after the backup would be back."""
    with used.inbox.begin() as connection:
        sessions.begin(connection, Session("digest", "key:0a1b2c3d", "credential", now(), "2999-01-01T00:00:00Z"))
    cqrs(used.settings, "backup", str(tmp_path / "backup"))
    for each in (used.inbox, used.events, used.read_model):
        each.dispose()
    used.handler._inbox.dispose()
    cqrs(used.settings, "restore", str(tmp_path / "backup"))
    with engines.reading(used.settings.inbox) as connection:
        assert sessions.of_principal(connection, "key:0a1b2c3d") == []


def test_the_last_backups_are_known(used: Stores, tmp_path: Path) -> None:
    known: list[tuple[str, int, str]] = []
    for name in ("first", "second"):
        taken = told(used.settings, "backup", str(tmp_path / name))
        known.insert(0, (taken["taken_at"], 3, str(tmp_path / name)))
        assert backups.noted(used.settings) == known
    for number in range(backups.KEPT):
        backups.note(used.settings, backups.Taken("2026-01-01T00:00:00Z", number, "elsewhere"))
    assert [each.last_event for each in backups.noted(used.settings)] == [*range(backups.KEPT)][::-1]
    for broken in ("{", "[{}]", "{}", "[1]", "1"):
        (used.settings.data_dir / backups.NOTE).write_text(broken)
        assert backups.noted(used.settings) == []
    (used.settings.data_dir / backups.NOTE).unlink()
    (used.settings.data_dir / "backups.new").mkdir()  # so that nothing can be noted
    assert told(used.settings, "backup", str(tmp_path / "third"))["last_event"] == 3


@pytest.mark.parametrize("name", ["inbox.db", "events.db", "read-stats.db"])
def test_a_store_that_is_open_is_not_replaced(used: Stores, tmp_path: Path, name: str) -> None:
    cqrs(used.settings, "backup", str(tmp_path / "backup"))
    for each in (used.inbox, used.events, used.read_model):
        each.dispose()
    used.handler._inbox.dispose()
    with engines.reading(f"sqlite:///{used.settings.data_dir / name}") as connection:
        connection.execute(text("SELECT * FROM sqlite_schema"))
        said = cqrs(used.settings, "restore", str(tmp_path / "backup"), code=1)
    assert f"{name} is in use: stop the service first" in said


def test_a_backup_that_is_not_whole_replaces_nothing(used: Stores, tmp_path: Path) -> None:
    backup, target = tmp_path / "backup", elsewhere(used.settings, tmp_path / "target")
    cqrs(used.settings, "backup", str(backup))
    keys = "--keys", str(tmp_path / "backup.keys")
    cqrs(target, "restore", str(backup), *keys)
    before = content(target.data_dir)
    whole = (backup / "events.db").read_bytes()
    for broken in (whole[:-1], whole[:5000] + b"?" + whole[5001:], b""):
        (backup / "events.db").write_bytes(broken)
        assert "events.db" in cqrs(target, "restore", str(backup), *keys, code=1)
    (backup / "backup.json").unlink()
    assert "is no backup" in cqrs(target, "restore", str(backup), *keys, code=1)
    assert content(target.data_dir) == before


def test_a_backup_that_does_not_hold_together_replaces_nothing(used: Stores, tmp_path: Path) -> None:
    with used.events.begin() as connection:
        connection.execute(text("DELETE FROM unique_keys"))
    backup, target = tmp_path / "backup", elsewhere(used.settings, tmp_path / "target")
    cqrs(used.settings, "backup", str(backup))
    keys = "--keys", str(tmp_path / "backup.keys")
    assert "and kept for nobody" in cqrs(target, "restore", str(backup), *keys, code=1)
    assert content(target.data_dir) == {}


@pytest.mark.parametrize("at_rename", range(6))
def test_a_restore_that_is_interrupted_leaves_no_mix_that_would_start(
    used: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_rename: int
) -> None:
    backup, target = tmp_path / "backup", elsewhere(used.settings, tmp_path / "target")
    cqrs(used.settings, "backup", str(backup))
    keys = "--keys", str(tmp_path / "backup.keys")
    cqrs(target, "restore", str(backup), *keys)
    with engines.writing(target.read_model_of("users"), lock="users") as connection:
        checkpoints.move(connection, "users", 3)  # as the service does
    renames = iter(range(6))

    def rename(path: Path, to: Path) -> None:
        if next(renames) == at_rename:
            raise OSError("interrupted")
        path.replace(to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        assert "interrupted" in cqrs(target, "restore", str(backup), *keys, code=1)
    assert "aren't a pair" in cqrs(target, "init", code=1)
    cqrs(target, "restore", str(backup), *keys)
    assert told(target, "verify")["well"]


def test_a_folder_that_exists_is_no_place_for_a_backup(used: Stores, tmp_path: Path) -> None:
    assert "exists already" in cqrs(used.settings, "backup", str(tmp_path), code=1)


@pytest.mark.both_engines
def test_on_postgresql_its_own_tools_are_named(engine: str, stores: Stores, tmp_path: Path) -> None:
    if engine == "postgresql":
        assert "pg_dump" in cqrs(stores.settings, "backup", str(tmp_path / "backup"), code=1)
        assert "pg_restore" in cqrs(stores.settings, "restore", str(tmp_path / "backup"), code=1)
