"""An erasure by a running service: what was a user's is in no file, no table and no answer, now and after a restart."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cli.erasing.proof import prove
from cli.erasing.search import search
from cli.status import unrecorded_erasures
from shared.database import engines
from shared.settings import Settings
from shared.stores import inbox
from shared.stores.subjects import Subjects, heed
from tests.support.service import Service, environment, eventually
from tests.support.stores import JOHN, Stores, accept, create, erase

WAIT = {"Prefer": "wait=20"}


def give_in(settings: Settings, user_id: int) -> bool:
    """Have a user erased by whoever works on these stores."""
    with (
        closing(Subjects.of(settings)) as people,
        engines.briefly(heed(engines.writer(settings.inbox, lock=inbox.LOCK), people)) as engine,
        engine.begin() as connection,
    ):
        inbox.accept(connection, [erase(user_id)])
    return True


@pytest.mark.both_engines
def test_what_was_a_user_s_is_in_no_place_of_the_installation_after_the_erasure_nor_after_a_restart(
    settings: Settings, service: Callable[..., Service]
) -> None:
    urls = {name: value for name, value in environment(settings).items() if name.endswith(("_URL", "_KEY"))}
    running = service(**urls).ready()
    user = {"first_name": "Jöhnathan", "last_name": "Dœringer", "email": "former@example.com"}
    running.http.post("/users/", json=user, headers=WAIT).raise_for_status()
    running.http.post("/users/", json=JOHN, headers=WAIT).raise_for_status()
    moved = running.http.put("/users/1", json={"email": "present@example.com"}, headers=WAIT)
    position = int(moved.json()["version"]) + 1
    eventually(lambda: running.http.get("/users/?email=present@example.com", params={"min_position": position}).json())
    found = search(settings, "user-1", paths=["/users/1", "/users/"], ask=lambda path: running.http.get(path).content)
    assert found.left_out == {}
    proof = prove(found, lambda: give_in(settings, 1))
    on_server = settings.inbox.startswith("postgresql")
    stored = {"public.users", "public.emails"} if on_server else {"read-users.db", "read-emails.db"}
    before = {each if "GET" in each else Path(each).name.removesuffix("-wal") for each in proof.shown()["found_before"]}
    assert before == {*stored, "GET /users/1", "GET /users/"}
    assert (proof.shown()["found"], proof.holds, proof.waiting) == ([], True, {})
    running.stop()
    again = service(**urls).ready()
    after = replace(found, ask=lambda path: again.http.get(path).content)
    assert [each.place for each in after.look() if each.found] == []
    assert JOHN["email"] in again.http.get("/users/").text


def test_an_erasure_whose_command_failed_in_between_is_named(stores: Stores) -> None:
    accept(stores, create())
    stores.handler.handle()
    assert unrecorded_erasures(stores.settings) == []
    Subjects.of(stores.settings).erase(["user-1", "user-2"])  # there is no user 2
    assert unrecorded_erasures(stores.settings) == ["user-1 is erased, and no event says so: erase it once more"]
    accept(stores, erase(1))
    stores.handler.handle()
    assert unrecorded_erasures(stores.settings) == []
