"""Stores and services of their own for the tests that need them: real files, real processes, real Valkey."""

import gc
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from cli.stores.init import init
from shared.database import engines
from shared.domain.users import decider
from shared.schemas.known import AGGREGATES
from shared.settings import Settings
from shared.stores.subjects import Subjects, heed
from tests.support.command_line import told
from tests.support.postgresql import Postgres, running_postgres
from tests.support.service import Service, up
from tests.support.stores import Stores, accept, create, new_handler
from workers.handling import handler


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_engines` run on both, unless they are about a file."""
    marked = metafunc.definition.get_closest_marker
    if "engine" in metafunc.fixturenames and marked("both_engines") and not marked("sqlite_only"):
        again = pytest.param("postgresql", marks=pytest.mark.again)
        metafunc.parametrize("engine", ["sqlite", again], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a PostgreSQL server and what is under faults; leaves out cases that are for SQLite alone."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.faults)
        callspec = getattr(item, "callspec", None)
        if "postgres" in getattr(item, "fixturenames", ()) or (
            callspec and callspec.params.get("engine") == "postgresql"
        ):
            item.add_marker(pytest.mark.postgresql)
    marked = pytest.Item.get_closest_marker
    items[:] = [each for each in items if not (marked(each, "postgresql") and marked(each, "sqlite_only"))]


def pytest_collection_finish() -> None:
    """What is there by now stays: it is neither collected again and again nor copied by processes that are forked."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the tests that make their own databases."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data dir as `cqrs init` leaves it."""
    folder = tmp_path_factory.mktemp("files") / "data"
    init(Settings(data_dir=folder, _env_file=None))
    return folder


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """A database as `cqrs init` leaves it, by its name."""
    urls = postgres.stores()
    init(Settings(**urls, _env_file=None))
    return make_url(urls["inbox_url"]).database or ""


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes databases for all stores, empty or as a template is. They are gone after the test."""
    servers, made = [], []

    def make(*template: str) -> dict[str, Any]:
        servers.append(request.getfixturevalue("postgres"))
        made.append(servers[0].stores(*template))
        return dict(made[-1])

    yield make
    for urls in made:
        servers[0].drop(urls["inbox_url"])


@pytest.fixture
def made(
    request: pytest.FixtureRequest, engine: str, new_database: Callable[..., dict[str, Any]]
) -> Callable[[Path], Settings]:
    """Makes stores in a folder, or in a database of their own, as `cqrs init` leaves them."""

    def make(folder: Path) -> Settings:
        if engine == "postgresql":
            urls = new_database(request.getfixturevalue("template"))
            return Settings(data_dir=folder, **urls, _env_file=None)
        shutil.copytree(request.getfixturevalue("files"), folder, dirs_exist_ok=True)
        return Settings(data_dir=folder, _env_file=None)

    return make


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    engine: str,
    new_database: Callable[..., dict[str, Any]],
    made: Callable[[Path], Settings],
) -> Settings:
    """Of stores that are made, for a test that asks for `stores`; else of a place for them."""
    folder = tmp_path / "data"
    if "stores" in request.fixturenames:
        return made(folder)
    urls = new_database() if engine == "postgresql" else {}
    return Settings(data_dir=folder, **urls, _env_file=None)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    subjects = Subjects.of(settings)
    inbox = heed(engines.writer(settings.inbox, lock="inbox"), subjects)
    events = heed(engines.writer(settings.event_store, lock="event_store"), subjects)
    read_model = engines.writer(settings.read_model_of("users"), lock="users", durable=False)
    yield Stores(settings, inbox, events, read_model, new_handler(settings, events))
    for engine in (inbox, events, read_model):
        engine.dispose()


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule with a bug that one address brings out."""

    def decide(command: Any, user: Any) -> Any:
        if getattr(command, "email", None) == "poison@example.com":
            raise ZeroDivisionError("a bug")
        return decider.decide(command, user)

    broken = replace(decider.users, decide=decide)
    monkeypatch.setattr(handler, "AGGREGATES", {**AGGREGATES, "user": broken})


@pytest.fixture
def failed(stores: Stores, poison: None) -> str:
    """The id of a command that failed."""
    [command] = accept(stores, create("poison@example.com"))
    for _ in range(3):
        stores.handler.handle()
        stores.handler.retry()
    assert told(stores.settings, "commands", "show", command.command_id)["status"] == "failed"
    return command.command_id


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services, and stops them at the end."""
    started: list[Service] = []

    def start(*arguments: str, port: int | None = None, **environment: str) -> Service:
        started.append(Service(tmp_path / "data", *arguments, port=port, **environment))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that only talk to it."""
    with up(tmp_path_factory.mktemp("service") / "data") as service:
        yield service
