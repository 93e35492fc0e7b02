"""Keys while the table that has them can't be read: what was known of them serves for half a minute, and no longer."""

import shutil
import time
from pathlib import Path

import pytest

from cli.stores.init import init
from shared.access.keys import new_key
from shared.access.roles import ROLES
from shared.settings import Settings
from tests.support import keys
from tests.support.follower import Follower
from tests.support.keys import bearer, forgets_and_knows_again
from tests.support.postgresql import running_postgres
from tests.support.service import api, environment, eventually

ROOT = Path(__file__).parents[2]

CLOSED = {"CQRS_AUTH": "on"}


def test_p10_an_api_that_starts_while_its_keys_can_not_be_read_waits_for_them(files: Path, tmp_path: Path) -> None:
    """It can't know that there is none, and doesn't say so."""
    folder = shutil.copytree(files, tmp_path / "data")
    away = {
        "CQRS_EVENT_STORE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
        "CQRS_SUBJECTS_URL": f"sqlite:///{folder / 'subjects.db'}",
    }
    with api(folder, **CLOSED, **away) as http:
        refused = http.get("/", headers=bearer(new_key()))
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/credentials-unavailable")
        assert http.get("/").status_code == 401
    assert "there is none" not in folder.with_suffix(".log").read_text()


@pytest.mark.postgresql
def test_p10_a_server_that_is_killed_is_survived_for_a_while(tmp_path: Path) -> None:
    with running_postgres() as server:
        (tmp_path / "data").mkdir()
        settings = Settings(data_dir=tmp_path / "data", _env_file=None, **server.stores())
        init(settings)
        key = keys.add(settings, *ROLES)
        quick = environment(settings) | CLOSED | {"PYTHONPATH": str(ROOT)}
        with api(settings.data_dir, "tests.support.quick_keys", **quick) as http:
            eventually(lambda: http.get("/", headers=bearer(key)).status_code == 200)
            stream = Follower(f"{http.base_url}/events/stream", **bearer(key))
            forgets_and_knows_again(http, key, lambda: server.stop(at_once=True), server.start, stream)


@pytest.mark.long
def test_p10_what_was_known_of_keys_serves_for_thirty_seconds(files: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "data")
    key = keys.add(Settings(data_dir=folder, _env_file=None), *ROLES)
    store = folder / "events.db"
    with api(folder, **CLOSED) as http:
        assert http.get("/", headers=bearer(key)).status_code == 200
        store.rename(store.with_suffix(".away"))
        began = time.monotonic()
        while time.monotonic() < began + 28:
            assert http.get("/", headers=bearer(key)).status_code == 200
            time.sleep(1)
        eventually(lambda: http.get("/", headers=bearer(key)).status_code == 503, within=5)
        store.with_suffix(".away").rename(store)
        eventually(lambda: http.get("/", headers=bearer(key)).status_code == 200, within=3)
