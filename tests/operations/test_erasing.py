"""An erasure by a running service: what was a user's is in no file, no table and no answer, now and after a restart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.erasing.search import Search
from cli.erasing.values import given
from cli.main import app
from cli.status import unrecorded_erasures
from shared.settings import Settings
from shared.stores.subjects import Subjects
from tests.support.command_line import cqrs, told
from tests.support.service import Service, environment, eventually
from tests.support.stores import JOHN, Stores, accept, create, erase

WAIT = {"Prefer": "wait=20"}

USER = {"first_name": "Jöhnathan", "last_name": "Dœringer", "email": "former@example.com"}


@pytest.mark.long
@pytest.mark.both_engines
def test_what_was_a_user_s_is_in_no_place_of_the_installation_after_the_erasure_nor_after_a_restart(
    settings: Settings, service: Callable[..., Service]
) -> None:
    urls = {name: value for name, value in environment(settings).items() if name.endswith(("_URL", "_KEY"))}
    running = service(**urls).ready()
    running.http.post("/users/", json=USER, headers=WAIT).raise_for_status()
    running.http.post("/users/", json=JOHN, headers=WAIT).raise_for_status()
    running.http.put("/users/1", json={"email": "present@example.com"}, headers=WAIT).raise_for_status()
    eventually(lambda: running.http.get("/users/?email=present@example.com").json())
    done = told(settings, "users", "erase", "1", "--verify", CQRS_API_PORT=str(running.port))
    on_server = settings.inbox.startswith("postgresql")
    stored = {"public.users", "public.emails"} if on_server else {"read-users.db", "read-emails.db"}
    before = {each if "GET" in each else Path(each).name.removesuffix("-wal") for each in done["found_before"]}
    shown = {"GET /users/1", "GET /users/1/history", "GET /users/?after=0&limit=1", "GET /events/?stream=user-1"}
    assert before == stored | shown
    assert (done["found"], done["left_out"], done["waiting"], done["proved"]) == ([], {}, {}, True)
    assert running.http.get("/users/1").status_code == 410
    running.stop()
    again = service(**urls).ready()
    after = Search(settings, given([*USER.values(), "present@example.com"]), {})
    assert [each.place for each in after.look() if each.found] == []
    assert JOHN["email"] in again.http.get("/users/").text


def test_whoever_was_erased_earlier_is_looked_for_by_values_from_stdin_in_backups_too(
    shared_service: Service, tmp_path: Path
) -> None:
    made = shared_service.http.post("/users/", json=USER, headers=WAIT).json()
    number = str(made["user_id"])
    own = {"CQRS_API_PORT": str(shared_service.port), **environment(shared_service.settings)}
    cqrs(shared_service.settings, "users", "erase", number)
    assert "has no value of" in cqrs(shared_service.settings, "users", "erase", number, "--verify", code=1)
    words = ["users", "erase", number, "--verify", "--values", "--also", str(tmp_path)]
    clean = CliRunner().invoke(app, [*words, "--json"], env=own, input="former@example.com\n")
    assert (clean.exit_code, json.loads(clean.stdout)["found"]) == (0, [])
    (tmp_path / "old.jsonl").write_text(json.dumps(USER))
    found = CliRunner().invoke(app, words, env=own, input="former@example.com\n")
    assert found.exit_code == 1
    assert f"cqrs: found in {tmp_path / 'old.jsonl'}: value 1 at byte" in found.stdout
    assert "former@example.com" not in found.stdout


def test_an_erasure_whose_command_failed_in_between_is_named(stores: Stores) -> None:
    accept(stores, create())
    stores.handler.handle()
    assert unrecorded_erasures(stores.settings) == []
    Subjects.of(stores.settings).erase(["user-1", "user-2"])  # there is no user 2
    assert unrecorded_erasures(stores.settings) == ["user-1 is erased, and no event says so: erase it once more"]
    accept(stores, erase(1))
    stores.handler.handle()
    assert unrecorded_erasures(stores.settings) == []
