"""What an erasure leaves in the files and tables of the stores: nothing that can be read."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, text

from cli.projections.rebuild import rebuild
from shared.database import engines, scrubbing, sqlite
from shared.database.scrubbing import Scrubbing
from shared.database.statements import insert_rows
from shared.domain.projections import PROJECTIONS
from shared.domain.users.read_models.emails import emails
from shared.stores.subjects import Subjects, keys
from tests.support.service import eventually
from tests.support.stores import JOHN, Stores, accept, create, erase
from workers.projecting import rebuild as rebuild_
from workers.projecting import runner
from workers.projecting.chunk import advance
from workers.projecting.forgetting import Forgetting
from workers.projecting.shadow import Shadow, shadow_of

pytestmark = pytest.mark.both_engines

EMAIL = JOHN["email"]


def handle(stores: Stores) -> None:
    while stores.handler.handle():
        pass


@contextmanager
def writing(stores: Stores, name: str) -> Iterator[Engine]:
    with engines.briefly(engines.writer(stores.settings.read_model_of(name), lock=name, durable=False)) as engine:
        yield engine


def catch_up(stores: Stores, name: str) -> None:
    with writing(stores, name) as engine:
        while runner.catch_up(stores.events, engine, PROJECTIONS[name]):
            pass


def scrubbed(stores: Stores, name: str) -> bool:
    with writing(stores, name) as engine:
        return Scrubbing(engine, PROJECTIONS[name].tables).look()


def files(stores: Stores, name: str) -> bytes:
    """What a projection's files hold."""
    path = sqlite.path_of(stores.settings.read_model_of(name))
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


def dead_rows(stores: Stores, table: str) -> int:
    with engines.reading(stores.settings.read_model) as connection:
        statement = text("SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = to_regclass(:name)")
        return int(connection.execute(statement, {"name": table}).scalar_one())


@pytest.fixture
def erased(stores: Stores) -> Iterator[Stores]:
    """Of two users one is erased, and every read model knows; nothing is scrubbed yet."""
    with ExitStack() as idle:  # readers, without whom the last to close a file would empty its log
        for name in PROJECTIONS:
            idle.enter_context(engines.reading(stores.settings.read_model_of(name))).execute(text("SELECT 1")).all()
        yield _erased(stores)


def _erased(stores: Stores) -> Stores:
    accept(stores, create(EMAIL), create("other@example.com"))
    handle(stores)
    for name in PROJECTIONS:
        catch_up(stores, name)
    accept(stores, erase(1))
    handle(stores)
    for name in PROJECTIONS:
        catch_up(stores, name)
    return stores


@pytest.mark.parametrize("name", ["users", "emails"])
@pytest.mark.sqlite_only
def test_an_erased_user_s_rows_are_in_no_file_of_the_read_model(erased: Stores, name: str) -> None:
    assert EMAIL.encode() in files(erased, name)
    assert scrubbed(erased, name)
    assert EMAIL.encode() not in files(erased, name)
    assert b"other@example.com" in files(erased, name)


@pytest.mark.sqlite_only
def test_a_reader_holds_the_scrub_up_and_the_next_look_does_it(erased: Stores) -> None:
    with engines.snapshot(erased.settings.read_model_of("users")) as long:
        assert long.execute(text("SELECT count(*) FROM users")).scalar() == 1
        assert not scrubbed(erased, "users")
        assert EMAIL.encode() in files(erased, "users")
    assert scrubbed(erased, "users")
    assert EMAIL.encode() not in files(erased, "users")


@pytest.mark.sqlite_only
def test_a_row_that_moved_to_another_page_leaves_no_copy(stores: Stores) -> None:
    chance = random.Random(1)
    numbers = chance.sample(range(1, 5001), 5000)
    rows = [(number, "A", "B", value := f"v{chance.getrandbits(64):016x}z", 1, value, True) for number in numbers]
    with writing(stores, "emails") as engine:
        with engine.begin() as connection:
            for row in rows:
                insert_rows(connection, emails.tables[0], [row])
        with engine.connect() as connection:
            assert scrubbing._empty_log(connection)
        copies = Counter(re.findall(rb"v[0-9a-f]{16}z", files(stores, "emails")))
        [(value, count)] = copies.most_common(1)
        assert count > 3  # its row has two, its entry in the index one
        with engine.begin() as connection:
            connection.execute(delete(emails.tables[0]).where(emails.tables[0].c.email == value.decode()))
            scrubbing.mark(connection)
        with engine.connect() as connection:
            assert scrubbing._empty_log(connection)
        assert value in files(stores, "emails")  # secure_delete alone isn't enough
        assert Scrubbing(engine, emails.tables).look()
    assert value not in files(stores, "emails")


def test_no_dead_row_of_an_erased_user_is_left_once_no_snapshot_sees_it(engine: str, stores: Stores) -> None:
    if engine == "sqlite":
        return
    accept(stores, create(EMAIL), create("other@example.com"))
    handle(stores)
    catch_up(stores, "emails")
    accept(stores, erase(1))
    handle(stores)
    with writing(stores, "emails") as its:
        scrub = Scrubbing(its, emails.tables)
        with engines.snapshot(stores.settings.read_model) as long:
            long.execute(text("SELECT count(*) FROM emails"))
            catch_up(stores, "emails")
            assert not scrub.look()
            assert dead_rows(stores, "emails") == 1
        eventually(scrub.look)
    assert dead_rows(stores, "emails") == 0


def test_a_destroyed_key_is_in_no_file(stores: Stores, engine: str) -> None:
    people = Subjects.of(stores.settings)
    accept(stores, create(EMAIL))
    handle(stores)
    with engines.reading(stores.settings.subjects) as connection:
        key = connection.execute(select(keys.c.key).where(keys.c.stream == "user-1")).scalar_one()

        def resting() -> bytes:
            return b"".join(each.read_bytes() for each in Path(stores.settings.data_dir).glob("subjects.db*"))

        assert engine == "postgresql" or key in resting()
        people.erase(["user-1"])
        eventually(people.scrub)
        assert engine == "postgresql" or key not in resting()


def shadow(stores: Stores) -> Shadow:
    """What a rebuild of the addresses leaves that is interrupted when it has seen all events."""
    made = shadow_of(stores.settings.read_model_of("emails"), "emails")
    made.make(emails.tables)
    with (
        engines.briefly(engines.writer(made.url, lock=made.url, durable=False)) as engine,
        engine.begin() as anew,
        stores.events.connect() as log,
    ):
        assert not advance(anew, log, emails).more
    return made


def addresses(made: Shadow) -> list[str]:
    with engines.reading(made.url) as connection:
        return list(connection.execute(text("SELECT email FROM emails ORDER BY user_id")).scalars())


@contextmanager
def forgetting(stores: Stores) -> Iterator[Forgetting]:
    url = stores.settings.read_model_of("emails")
    with writing(stores, "emails") as engine:
        yield Forgetting(url, emails, Subjects.of(stores.settings), stores.events, engine)


def test_what_an_interrupted_rebuild_left_of_an_erased_user_is_emptied(stores: Stores, engine: str) -> None:
    accept(stores, create(EMAIL), create("other@example.com"))
    handle(stores)
    catch_up(stores, "emails")
    left = shadow(stores)
    with forgetting(stores) as its:
        its.clear_shadow()
        assert addresses(left) == [EMAIL, "other@example.com"]  # for a rebuild that goes on
        accept(stores, erase(1))
        handle(stores)
        catch_up(stores, "emails")
        with left.alone():
            its.clear_shadow()
            assert addresses(left) == [EMAIL, "other@example.com"]  # the rebuild that is at it will apply the erasure
        its.clear_shadow()
    if engine == "sqlite":
        assert not list(stores.settings.data_dir.glob("*-rebuild*[!k]"))
    else:
        assert addresses(left) == []
    done = rebuild(stores.settings, emails, check=False, resume=True, pause=False)
    assert (done["from"], done["differ"], done["switched"] is None) == (0, False, False)


def test_a_user_who_is_erased_during_a_rebuild_is_not_in_what_it_swaps_in(
    stores: Stores, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(stores, create(EMAIL), create("other@example.com"))
    handle(stores)
    catch_up(stores, "emails")
    switch = rebuild_._switch

    def meanwhile(work: rebuild_.Work, compared: dict[str, Any]) -> Any:
        assert addresses(work.shadow) == [EMAIL, "other@example.com"]
        accept(stores, erase(1))
        handle(stores)
        return switch(work, compared)

    monkeypatch.setattr(rebuild_, "_switch", meanwhile)
    rebuild(stores.settings, emails, check=False, resume=False, pause=False)
    with engines.reading(stores.settings.read_model_of("emails")) as connection:
        assert list(connection.execute(text("SELECT email FROM emails")).scalars()) == ["other@example.com"]
    if engine == "sqlite":
        assert EMAIL.encode() not in files(stores, "emails")
    else:
        assert dead_rows(stores, "emails") == 0


def test_a_projection_worker_that_has_nothing_to_do_forgets_an_erased_user_s_key(stores: Stores) -> None:
    accept(stores, create(EMAIL))
    handle(stores)
    with forgetting(stores) as its:
        people = its._people
        assert people.ciphers(["user-1"])["user-1"]
        accept(stores, erase(1))
        handle(stores)
        its.look()
        assert people._known["user-1"] is None
