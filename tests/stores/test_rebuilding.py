"""A rebuild that operators ask for: the projection's worker does it, once, and whoever asks sees what becomes of it."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cli.projections.rebuild import rebuild as by_command
from shared.database import engines
from shared.domain.users.read_models.users import users
from shared.operations import rebuilds
from shared.operations.commands import RebuildProjection
from shared.operations.deeds import At, do
from shared.operations.rebuilds import Rebuild
from shared.operations.record import LogImported, record
from shared.projection import Projection
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from tests.support.service import eventually
from tests.support.stores import Stores, accept, create
from workers.projecting import rebuild as worker
from workers.projecting import runner
from workers.projecting.rebuild import UnderWay
from workers.projecting.rebuilding import Rebuilding
from workers.projecting.shadow import shadow_of

pytestmark = pytest.mark.both_engines


@pytest.fixture
def used(stores: Stores) -> Stores:
    """Three users, one of whom the read model shows wrongly."""
    happen(stores, *(f"{n}@example.com" for n in range(1, 4)))
    with stores.read_model.begin() as connection:
        connection.execute(text("UPDATE users SET email = 'wrong' WHERE user_id = 2"))
    return stores


def happen(stores: Stores, *emails: str) -> None:
    accept(stores, *map(create, emails))
    while stores.handler.handle():
        pass
    catch_up(stores)


def catch_up(stores: Stores) -> None:
    while runner.catch_up(stores.events, stores.read_model, users):
        pass


def ask(settings: Settings, projection: str = "users", *, by: str = "key:1") -> None:
    """As a command worker does what an operator asked for."""
    with engines.writing(settings.event_store, lock=event_store.LOCK) as log:
        do(At(log, engines.reader(settings.inbox), by), RebuildProjection(projection=projection))


def last(stores: Stores) -> Rebuild:
    with stores.read_model.connect() as connection:
        return rebuilds.find(connection, "users")


def emails(stores: Stores) -> list[str]:
    with stores.read_model.connect() as connection:
        return list(connection.scalars(text("SELECT email FROM users ORDER BY user_id")))


def work(stores: Stores, which: Projection = users) -> Rebuild:
    """What came of a worker's look."""
    Rebuilding(stores.settings, which, stores.read_model).look()
    return eventually(lambda: None if (found := last(stores)).is_due else found)


def test_p6_what_is_asked_for_is_rebuilt_beside_the_live_tables_and_told(used: Stores) -> None:
    ask(used.settings)
    assert last(used) == rebuilds.NEVER._replace(seen=3)
    catch_up(used)
    assert last(used)[1:4] == (True, "requested", "key:1")
    found = work(used)
    assert (found.stage, found.by, found.reached, found.upto, found.problem) == ("done", "key:1", 4, 4, None)
    assert found.shown()["differences"] == {"users": {"rows": 1, "columns": []}}
    assert emails(used) == ["1@example.com", "2@example.com", "3@example.com"]
    catch_up(used)
    assert not last(used).is_due


def test_what_was_asked_for_twice_is_done_once(used: Stores) -> None:
    ask(used.settings)
    catch_up(used)
    ask(used.settings, by="key:2")
    ask(used.settings, "stats")
    catch_up(used)
    assert (last(used).seen, last(used).by) == (5, "key:1")
    assert work(used).stage == "done"


def test_a_paused_or_a_stopped_projection_is_rebuilt_too_and_once(used: Stores) -> None:
    with used.read_model.begin() as connection:
        checkpoints.move(connection, "users", 3, paused=True)
    ask(used.settings)
    catch_up(used)
    assert work(used).stage == "done"
    catch_up(used)  # which sees the same request again
    assert not last(used).is_due
    with used.read_model.connect() as connection:
        assert checkpoints.progress(connection, "users") == (3, True, None)


def test_whoever_comes_second_waits_and_the_command_s_rebuild_does_for_what_was_asked(used: Stores) -> None:
    ask(used.settings)
    catch_up(used)
    rebuilding = Rebuilding(used.settings, users, used.read_model)
    with shadow_of(used.settings.read_model_of("users"), "users").alone():
        rebuilding.look()
        assert rebuilding._thread
        rebuilding._thread.join()
        assert last(used).stage == "requested"
        with pytest.raises(UnderWay):
            by_command(used.settings, users, check=False, resume=False, pause=False)
    assert last(used).is_due
    by_command(used.settings, users, check=False, resume=False, pause=False)
    assert (last(used).stage, last(used).is_due, emails(used)[1]) == ("done", False, "2@example.com")
    assert str(last(used).by).startswith("cli:")


def test_what_is_asked_for_in_the_last_moment_is_done_by_the_swap(
    used: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = worker._switch

    def meanwhile(*args: Any) -> Any:
        ask(used.settings)
        return switch(*args)

    monkeypatch.setattr(worker, "_switch", meanwhile)
    by_command(used.settings, users, check=False, resume=False, pause=False)
    catch_up(used)
    assert (last(used).stage, last(used).is_due) == ("done", False)


def test_a_rebuild_that_can_not_be_done_says_why_and_leaves_the_live_tables(used: Stores) -> None:
    def project(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    ask(used.settings)
    catch_up(used)
    found = work(used, replace(users, project=project))
    assert (found.stage, found.problem) == ("failed", "users can't apply event 1: ZeroDivisionError: a bug")
    assert emails(used) == ["1@example.com", "wrong", "3@example.com"]
    with used.read_model.connect() as connection:
        assert not shadow_of(used.settings.read_model_of("users"), "users").exists(connection)
    ask(used.settings)
    catch_up(used)
    assert work(used).stage == "done"


def test_one_that_meets_trouble_with_a_store_begins_again(used: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise OperationalError(None, None, TimeoutError())

    ask(used.settings)
    catch_up(used)
    rebuilding = Rebuilding(used.settings, users, used.read_model)
    with monkeypatch.context() as patched:
        patched.setattr(worker, "difference", silent)
        rebuilding.look()
        found = eventually(lambda: found if (found := last(used)).problem else None)
    assert (found.is_due, found.stage) == (True, "requested")
    assert work(used).stage == "done"


def test_a_read_model_that_begins_with_the_first_event_is_as_it_was_asked_for(used: Stores) -> None:
    ask(used.settings)
    with used.read_model.begin() as connection:
        for table in ("users", "checkpoints", "rebuilds"):
            connection.execute(text(f"DELETE FROM {table}"))
    catch_up(used)
    assert (last(used).is_due, emails(used)[1]) == (False, "2@example.com")
    ask(used.settings)
    catch_up(used)
    assert last(used).is_due


def test_what_was_asked_for_before_an_import_is_another_installation_s(used: Stores) -> None:
    ask(used.settings)
    with engines.writing(used.settings.event_store, lock=event_store.LOCK) as connection:
        record(connection, LogImported(events=4), by="test")
    catch_up(used)
    assert not last(used).is_due
