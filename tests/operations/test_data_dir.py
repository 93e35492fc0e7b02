"""A data dir is data, and its owner's alone: nothing in it is run, nobody else reads it, no name near it is trusted."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.up import roles
from shared.broker.address import socket_of
from shared.settings import Settings
from tests.support.command_line import cqrs
from tests.support.service import Service, up
from tests.support.stores import JOHN

LONG = "x" * 120
"""A data dir's name that leaves no room for a socket's path."""


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> set[str]:
    every = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)) for path in every if not path.is_symlink() and path.stat().st_mode & 0o077}


@pytest.mark.long
@pytest.mark.usefixtures("open_to_all")
def test_nothing_in_a_data_dir_is_run_or_read_as_settings_and_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    data_dir = tmp_path / LONG
    for name in ("api", "workers", "shared", "celery"):
        (data_dir / name).mkdir(parents=True)
        (data_dir / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (data_dir / "celeryconfig.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (data_dir / ".env").write_text("CQRS_MAX_WAIT=0\nCQRS_LOG_FORMAT=json\n")
    strange = open_to_others(data_dir) - {"."}
    with up(data_dir) as running:
        created = running.http.post("/users/", json=JOHN, headers={"Prefer": "wait=20"})
        assert created.status_code == 201
        cqrs(running.settings, "projections", "rebuild", "stats")
        cqrs(running.settings, "backup", str(tmp_path / "backup"))
        assert not (tmp_path / "ran").exists()
        assert "{" not in running.log.read_text()
        assert (data_dir / "events.db-wal").exists()
        assert (data_dir / "events.db-deciding").exists()
        assert open_to_others(data_dir) == strange
        assert open_to_others(tmp_path / "backup") == set()
        assert "files that others might read are private now" in running.log.read_text()
        the_folder_of_a_socket_goes_with_the_service(running)


def the_folder_of_a_socket_goes_with_the_service(running: Service) -> None:
    folder = socket_of(running.settings).parent
    assert folder != running.data_dir
    assert open_to_others(folder) == set()
    assert running.stop() == 0
    assert not folder.exists()


@pytest.mark.usefixtures("open_to_all")
def test_stores_elsewhere_are_their_owner_s_alone_and_the_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    settings = Settings(
        data_dir=tmp_path / "data", inbox_url=f"sqlite:///{tmp_path / 'elsewhere' / 'inbox.db'}", _env_file=None
    )
    (tmp_path / "elsewhere" / "another.db").touch()
    cqrs(settings, "init")
    assert open_to_others(tmp_path / "data") == set()
    assert open_to_others(tmp_path / "elsewhere") == {".", "another.db"}


def test_what_an_older_version_left_open_is_closed_and_told_once(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", _env_file=None)
    cqrs(settings, "init")
    (tmp_path / "mine").write_text("")
    (tmp_path / "data" / "events.db-link").symlink_to(tmp_path / "mine")
    for path in (tmp_path / "mine", tmp_path / "data", tmp_path / "data" / "events.db"):
        path.chmod(0o755)
    assert "are private now" in cqrs(settings, "events", "import", str(tmp_path / "mine"), code=1)
    assert open_to_others(tmp_path / "data") == set()
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o755
    assert "its owner's" not in cqrs(settings, "events", "import", str(tmp_path / "mine"), code=1)


def test_strange_names_where_metrics_are_kept_stop_nobody_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(roles, "gettempdir", lambda: str(tmp_path))
    dead = 4_194_303  # the highest number of a process on Linux is one lower
    strange = ["x-y", "-", "", f"{2**70}-abcdefgh", f"-{dead}-abcdefgh", "0-abcdefgh", "\u0661-abcdefgh", f"{dead}-a.b"]
    for name in strange:
        (tmp_path / f"cqrs-counts-{name}").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / f"cqrs-counts-{dead}-link").symlink_to(tmp_path / "mine")
    (tmp_path / f"cqrs-counts-{dead}-file").touch()
    (tmp_path / f"cqrs-counts-{os.getpid()}-alive").mkdir()
    before = set(tmp_path.rglob("*"))
    left = tmp_path / f"cqrs-counts-{dead}-abc_efg1"
    left.mkdir()
    with roles._memory() as counts:
        assert set(tmp_path.rglob("*")) == before | {counts}
        assert stat.S_IMODE(counts.stat().st_mode) == 0o700
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("squatter", ["folder", "file", "link"])
def test_a_socket_s_folder_that_is_somebody_else_s_is_refused(tmp_path: Path, squatter: str) -> None:
    settings = Settings(data_dir=tmp_path / LONG, _env_file=None)
    cqrs(settings, "init")
    folder = socket_of(settings).parent
    try:
        match squatter:
            case "folder":
                folder.mkdir()
                folder.chmod(0o777)
            case "file":
                folder.touch()
            case "link":
                folder.symlink_to(settings.data_dir)
        told = f"cqrs: {folder}, where the embedded Valkey is to listen, is open to others\n"
        assert cqrs(settings, "config", code=1) == told
        assert cqrs(settings, "up", code=1) == told
    finally:
        folder.rmdir() if squatter == "folder" else folder.unlink()


def test_a_data_dir_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make one")
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, -1)
    (tmp_path / "data").chmod(0o777)
    settings = Settings(data_dir=tmp_path / "data", _env_file=None)
    cqrs(settings, "init")
    assert open_to_others(tmp_path / "data") == {"."}
