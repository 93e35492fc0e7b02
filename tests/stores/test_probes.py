"""Whether stores can be written is found out without writing anything, on both engines."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from shared.database import engines
from shared.database.probes import LOCK_WITHIN, Probes
from shared.database.sqlite import path_of
from shared.schemas.check import locks
from shared.settings import Settings
from shared.stores.inbox import LOCK
from tests.support.postgresql import Postgres
from tests.support.stores import Stores, accept, create
from tests.support.trouble import locked

LOCKED = "locked by another process"


def troubles(stores: Stores, times: int = 1) -> dict[str, str]:
    with closing(Probes(locks(stores.settings))) as probes:
        return [probes.troubles() for _ in range(times)][-1]


@contextmanager
def held(stores: Stores) -> Iterator[None]:
    """Another process has the inbox to itself."""
    if engines.is_local(stores.settings.inbox):
        with locked(path_of(stores.settings.inbox)):
            yield
    else:
        with engines.briefly(engines.writer(stores.settings.inbox, lock=LOCK)) as other, other.begin():
            yield


@pytest.mark.both_engines
def test_a_store_that_is_well_has_no_trouble_however_often_it_is_looked_at(stores: Stores) -> None:
    accept(stores, create())
    with stores.inbox.connect() as connection:
        before = connection.exec_driver_sql("SELECT * FROM commands").all()
    assert troubles(stores, times=3) == {}
    with stores.inbox.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM commands").all() == before


@pytest.mark.both_engines
def test_a_lock_that_one_holds_all_the_time_is_trouble_of_its_store_alone(stores: Stores) -> None:
    with held(stores):
        assert troubles(stores) == {"inbox": LOCKED}
    assert troubles(stores) == {}


@pytest.mark.both_engines
def test_a_lock_that_changes_hands_is_none(stores: Stores) -> None:
    enough = threading.Event()

    def write() -> None:
        while not enough.is_set():
            accept(stores, create())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert troubles(stores, times=5) == {}
    finally:
        enough.set()
        thread.join()


def psql(stores: Stores, sql: str) -> None:
    url = make_url(stores.settings.inbox)
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.format(url.database))


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_database_that_is_read_only_is_trouble_of_all_that_is_in_it(stores: Stores) -> None:
    psql(stores, 'ALTER DATABASE "{}" SET default_transaction_read_only = on')
    assert troubles(stores) == dict.fromkeys(("inbox", "event_store", "read_model", "subjects"), "read-only")


@pytest.mark.processes
def test_a_server_in_recovery_is_trouble_of_all_that_is_in_it() -> None:
    server = Postgres()
    try:
        settings = Settings(**server.start().stores(), _env_file=None)
        server.stop()
        (server.folder / "data/standby.signal").touch()
        server.start()
        with closing(Probes(locks(settings))) as probes:
            assert set(probes.troubles().values()) == {"in recovery, so read-only"}
    finally:
        server.remove()


def test_a_probe_waits_for_a_lock_no_longer_than_it_says(stores: Stores) -> None:
    with held(stores), closing(Probes(locks(stores.settings))) as probes:
        timer = threading.Timer(LOCK_WITHIN / 2, lambda: None)
        timer.start()
        probes.troubles()
        assert not timer.is_alive(), "it did wait"


def test_who_can_not_be_asked_is_told_of_in_words_of_ours(stores: Stores) -> None:
    path = path_of(stores.settings.event_store)
    path.write_bytes(b"not a database" * 1000)
    assert troubles(stores) == {"event_store": "not a database"}
    path.unlink()
    assert troubles(stores) == {"event_store": "its file can't be opened"}
