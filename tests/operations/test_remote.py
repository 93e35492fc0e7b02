"""The command against an API elsewhere: `CQRS_API_URL` and `CQRS_API_KEY`."""

import json
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.access import audit, remote
from shared.access.keys import Key, new_key
from shared.access.roles import ROLES
from shared.settings import Settings
from tests.support import keys
from tests.support.command_line import cqrs
from tests.support.service import Service, clean_environment, environment, eventually, free_port, up
from tests.support.stores import JOHN, fail

NOWHERE = Settings(data_dir=Path("/nowhere"), _env_file=None)
"""A machine without stores."""


class Elsewhere:
    """A closed service, and a command on a machine that has no stores."""

    def __init__(self, service: Service, keys_: dict[str, Key]) -> None:
        self.service = service
        self.keys = keys_

    def cqrs(self, role: str | None, *arguments: str, code: int = 0, **more: str) -> str:
        """What the command says with the key of a role, or without one."""
        given = {"CQRS_API_URL": self.service.url} | ({"CQRS_API_KEY": self.keys[role].text} if role else {})
        said = cqrs(NOWHERE, *arguments, code=code, **given, **more)
        assert not role or self.keys[role].text[14:-8] not in said
        return said

    def told(self, role: str | None, *arguments: str) -> Any:
        return json.loads(self.cqrs(role, *arguments, "--json"))


@pytest.fixture(scope="module")
def elsewhere(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = shutil.copytree(files, tmp_path_factory.mktemp("elsewhere") / "data")
    settings = Settings(data_dir=folder, _env_file=None)
    made = {role: keys.add(settings, role, name=role) for role in ROLES} | {"unknown": new_key()}
    with up(folder, CQRS_AUTH="on") as service:
        eventually(lambda: service.http.get("/", headers=keys.bearer(made["reader"])).status_code == 200)
        yield Elsewhere(service, made)


def test_an_operator_sees_how_well_everything_is_and_others_whether_it_is(elsewhere: Elsewhere) -> None:
    eventually(lambda: elsewhere.told("operator", "status")["well"], within=30)
    status = elsewhere.told("operator", "status")
    assert set(status) == {"well", "api", "status", "dependencies", "projections"}
    assert set(status["dependencies"].values()) == {"ok"}
    said = elsewhere.cqrs("operator", "status")
    assert [word in said for word in ("ready", "event_store", "events behind", "emails", "running")] == [True] * 5
    for role in (None, "reader", "writer", "auditor", "eraser"):
        assert elsewhere.told(role, "status") == {"well": True, "api": elsewhere.service.url, "status": "ready"}
        said = elsewhere.cqrs(role, "status")
        assert (remote.BARE in said, "emails" in said) == (True, False)


def test_a_key_that_counts_for_nobody_is_told(elsewhere: Elsewhere) -> None:
    for command in (["status"], ["audit"], ["commands", "show", "x"]):
        said = elsewhere.cqrs("unknown", *command, code=1)
        why = "The key is not known, or is revoked, replaced or expired"
        assert said == f"cqrs: {elsewhere.service.url} answers 401: {why}\n"


def test_without_a_key_the_setting_is_named(elsewhere: Elsewhere) -> None:
    said = elsewhere.cqrs(None, "audit", code=1)
    assert said == f"cqrs: {elsewhere.service.url} answers 401: it needs a key or a token in CQRS_API_KEY\n"


def test_a_projection_that_is_paused_is_not_well(elsewhere: Elsewhere) -> None:
    cqrs(elsewhere.service.settings, "projections", "pause", "stats")
    said = eventually(lambda: is_not_well(elsewhere))
    assert "paused" in said
    assert "degraded" in elsewhere.cqrs("reader", "status", code=1)
    cqrs(elsewhere.service.settings, "projections", "resume", "stats")
    eventually(lambda: elsewhere.service.answers("/readyz"), within=30)


def is_not_well(elsewhere: Elsewhere) -> str:
    try:
        return elsewhere.cqrs("operator", "status", code=1)
    except AssertionError:
        return ""


def test_a_status_is_watched(elsewhere: Elsewhere) -> None:
    given = {"CQRS_API_URL": elsewhere.service.url, "CQRS_API_KEY": elsewhere.keys["operator"].text}
    command = [sys.executable, "-m", "cli", "status", "--watch", "--json"]
    with subprocess.Popen(command, env=clean_environment() | given, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        seen = [json.loads(watching.stdout.readline())["api"] for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    assert seen == [elsewhere.service.url] * 3


def test_watching_goes_on_while_there_is_no_answer() -> None:
    given = {"CQRS_API_URL": f"http://127.0.0.1:{free_port()}"}
    command = [sys.executable, "-m", "cli", "status", "--watch"]
    with subprocess.Popen(command, env=clean_environment() | given, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        seen = [line.strip() for line in (watching.stdout.readline() for _ in range(4)) if line.strip()]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    assert seen == [f"{given['CQRS_API_URL']} gives no answer: Connection refused"] * len(seen)


def test_a_command_is_shown_to_its_sender_and_to_auditors(elsewhere: Elsewhere) -> None:
    sent = elsewhere.service.http.post("/users/", json=JOHN, headers=keys.bearer(elsewhere.keys["writer"]))
    id = sent.json()["command_id"]
    for role in ("writer", "auditor"):
        assert elsewhere.told(role, "commands", "show", id)["principal"] == keys.principal(elsewhere.keys["writer"])
    for path in (id, f"../commands/{id}", f"{id}/stream", f"{id}?x", "ü", "a b"):
        assert "answers 404: " in elsewhere.cqrs("reader", "commands", "show", path, code=1)
    assert "answers 404: " in elsewhere.cqrs("operator", "commands", "show", id, code=1)
    assert f"No command {id} was accepted" in elsewhere.cqrs("eraser", "commands", "show", id, code=1)


def test_an_operator_makes_rotates_and_revokes_keys(elsewhere: Elsewhere) -> None:
    def works(text: str) -> bool:
        return elsewhere.service.http.get("/", headers=keys.bearer(text)).status_code == 200

    made = elsewhere.told("operator", "keys", "add", "far", "--role", "reader", "--expires", "1d")
    assert (made["name"], made["roles"], made["state"]) == ("far", ["reader"], "active")
    assert made["created_by"] == keys.principal(elsewhere.keys["operator"])
    eventually(lambda: works(made["key"]))
    second = elsewhere.told("operator", "keys", "rotate", "far", "--grace", "1h")["key"]
    eventually(lambda: works(second))
    assert works(made["key"])
    assert elsewhere.told("operator", "keys", "revoke", "far")["state"] == "revoked"
    eventually(lambda: not works(second) and not works(made["key"]))
    [listed] = [each for each in elsewhere.told("operator", "keys", "list") if each["id"] == made["id"]]
    assert (listed["state"], "key" in listed) == ("revoked", False)
    assert "far" in elsewhere.cqrs("operator", "keys", "list")
    said = elsewhere.cqrs("operator", "keys", "revoke", "far", code=1)
    assert said == "cqrs: there is no key with the id or name far, or it is revoked\n"
    for command in (["list"], ["add", "a", "--role", "reader"]):
        said = elsewhere.cqrs("auditor", "keys", *command, code=1)
        assert said == f"cqrs: {elsewhere.service.url} answers 403: This needs the role operator.\n"


def test_an_operator_retries_commands(elsewhere: Elsewhere) -> None:
    headers = keys.bearer(elsewhere.keys["writer"]) | {"Prefer": "wait=10"}
    refused = elsewhere.service.http.put("/users/4711", json={"email": "a@example.com"}, headers=headers)
    id = refused.json()["instance"].removeprefix("/commands/")
    for path, why in (("nothing", "404: No command nothing was accepted."), (id, "409: The command ")):
        said = elsewhere.cqrs("operator", "commands", "retry", path, code=1)
        assert said.startswith(f"cqrs: {elsewhere.service.url} answers {why}")
    fail(elsewhere.service.settings, id)
    assert elsewhere.cqrs("operator", "commands", "retry", id) == f"cqrs: {id} is handled again within seconds\n"
    eventually(lambda: elsewhere.told("auditor", "commands", "show", id)["status"] == "rejected")
    last = elsewhere.told("auditor", "audit")[-1]
    by = keys.principal(elsewhere.keys["operator"])
    assert (last["type"], last["by"], last["data"]) == ("CommandRetried", by, {"command_id": id})


def test_auditors_see_what_operators_did(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    here = json.loads(cqrs(elsewhere.service.settings, "audit", "--limit", "1000", "--json"))
    assert len(here) >= 5
    for page in (2, 3, 1000):
        monkeypatch.setattr(audit, "PAGE", page)
        assert elsewhere.told("auditor", "audit", "--limit", "1000") == here
        assert elsewhere.told("auditor", "audit", "--limit", "3") == here[-3:]
    assert elsewhere.cqrs("auditor", "audit", "--limit", "1").count("\n") == 1
    said = elsewhere.cqrs("operator", "audit", code=1)
    assert said == f"cqrs: {elsewhere.service.url} answers 403: This needs the role auditor.\n"


def test_p10_an_auditor_lists_the_commands_of_all_callers_and_nobody_else_does(elsewhere: Elsewhere) -> None:
    writer = {"Authorization": f"Bearer {elsewhere.keys['writer'].text}"}
    answer = elsewhere.service.http.post("/users/", json=JOHN, headers=writer | {"Prefer": "wait=10"})
    assert answer.status_code in (202, 409)
    first, *_ = listed = elsewhere.told("auditor", "commands", "list", "--limit", "2")
    assert (first["type"], first["principal"]) == ("CreateUser", f"key:{elsewhere.keys['writer'].id}")
    assert len(listed) <= 2
    line = elsewhere.cqrs("auditor", "commands", "list", "--limit", "1")
    assert line.startswith(f"{first['command_id']}  ")
    assert f"CreateUser {first['links']['user']}" in line
    assert elsewhere.told("auditor", "commands", "list", "--failed") == []
    said = elsewhere.cqrs("writer", "commands", "list", code=1)
    assert said == f"cqrs: {elsewhere.service.url} answers 403: This needs the role auditor.\n"


@pytest.mark.parametrize(
    "command",
    [
        "projections status",
        "projections pause users",
        "projections resume users",
        "projections rebuild users",
        "events tail",
        "events show 1",
        "events export",
        "users show 1",
        "verify",
        "backup x",
        "restore x",
    ],
)
def test_what_works_on_the_stores_refuses_while_the_api_is_elsewhere(command: str) -> None:
    said = cqrs(NOWHERE, *command.split(), code=1, CQRS_API_URL="http://127.0.0.1:1")
    assert said == "cqrs: this command works on the stores of this machine only: unset CQRS_API_URL first\n"


def test_init_and_config_are_about_this_machine(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", _env_file=None)
    cqrs(settings, "init", CQRS_API_URL="http://127.0.0.1:1")
    assert (tmp_path / "data" / "events.db").exists()
    text = new_key().text
    secrets = dict.fromkeys(("CQRS_API_KEY", "CQRS_OPERATOR_KEY", "CQRS_PROMETHEUS_KEY"), text)
    for as_json in ([], ["--json"]):
        said = cqrs(settings, "config", *as_json, code=0, **secrets)
        assert text[14:-8] not in said
        assert said.count("***") == len(secrets)


@pytest.mark.parametrize("url", ["foo", "ftp://host", "http://", "http://[::1", "http://user:pw@host", "http://h/ x"])
def test_a_url_that_is_none_is_told(url: str) -> None:
    said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=url)
    assert said.startswith("cqrs: CQRS_API_URL takes a URL like ")
    assert cqrs(NOWHERE, "status", "--api", url, code=1).startswith("cqrs: --api takes a URL like ")


@pytest.mark.parametrize("key", ["a b", "a\nb", "ü", "a\x1b[31m"])
def test_a_key_that_can_be_none_is_told_without_it(key: str) -> None:
    said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL="http://127.0.0.1:1", CQRS_API_KEY=key)
    assert said == "cqrs: CQRS_API_KEY is no key and no token: it has characters that neither has\n"


class Stub:
    """A server that answers everything alike, and keeps the headers of what it was asked."""

    def __init__(self, status: int, media_type: str, body: bytes) -> None:
        self.asked: list[tuple[str, str | None]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@contextmanager
def answering(status: int, media_type: str, body: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
    stub = Stub(status, media_type, body)
    if tls:
        stub.server.socket = tls.wrap_socket(stub.server.socket, server_side=True)
    Thread(target=stub.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()


PROBLEM = b'{"type":"/problems/no-api","title":"x","status":503,"detail":"No API takes requests\\u001b[31m."}'


@pytest.mark.parametrize(
    ("status", "media_type", "body", "told"),
    [
        (200, "text/html", b"<html>", "answers 200: no answer of this API"),
        (200, "application/json", b"[]", "answers 200: no answer of this API"),
        (200, "application/json", b"{", "answers 200: no answer of this API"),
        (301, "text/html", b"", "answers 301: no answer of this API"),
        (503, "application/problem+json", PROBLEM, "answers 503: No API takes requests"),
        (429, "application/problem+json", PROBLEM, "answers 429: No API takes requests"),
    ],
)
def test_what_is_no_answer_of_an_api_is_told_in_one_line(status: int, media_type: str, body: bytes, told: str) -> None:
    with answering(status, media_type, body) as stub:
        said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=f"http://127.0.0.1:{stub.port}")
    assert told in said
    assert (said.count("\n"), "\x1b" in said) == (1, False)


ALIVE = b'{"status":"alive"}'


def test_the_key_goes_where_it_is_told_to_alone(elsewhere: Elsewhere) -> None:
    """`--api` names an API beside this machine's stores; an API that nobody named is not sent the key."""
    settings, key = elsewhere.service.settings, new_key()
    with answering(200, "application/json", ALIVE) as stub:
        cqrs(settings, "status", "--api", f"http://127.0.0.1:{stub.port}/at/", CQRS_API_KEY=key.text)
        cqrs(settings, "status", CQRS_API_KEY=key.text, CQRS_API_PORT=str(stub.port))
    assert stub.asked == [("/at/livez", f"Bearer {key.text}"), ("/livez", None)]


def test_a_key_that_others_can_read_on_its_way_is_warned_of() -> None:
    remote._warn.cache_clear()
    port, key = free_port(), new_key().text
    warned = f"cqrs: whoever is on the way to http://0.0.0.0:{port} can read the key: use https\n"
    for url, given, expected in (
        (f"http://0.0.0.0:{port}", key, True),
        (f"http://0.0.0.0:{port}", "", False),
        (f"http://127.0.0.1:{port}", key, False),
        (f"http://localhost:{port}", key, False),
        (f"http://[::1]:{port}", key, False),
        (f"https://0.0.0.0:{port}", key, False),
    ):
        said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=url, CQRS_API_KEY=given)
        assert (said.startswith(warned), said.count("\n")) == (expected, 1 + expected), said
        assert key not in said


def test_a_certificate_that_does_not_count_is_told_before_the_key_is_sent(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path / "server.pem"))
    with answering(200, "application/json", b'{"status":"ready"}', context) as stub:
        url = f"https://localhost:{stub.port}"
        said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=url, CQRS_API_KEY=new_key().text)
        assert said == f"cqrs: {url} gives no answer: its certificate is not valid: self-signed certificate\n"
        assert stub.asked == []
        trusted = {"CQRS_API_URL": url, "SSL_CERT_FILE": str(tmp_path / "server.pem")}
        assert json.loads(cqrs(NOWHERE, "status", "--json", code=0, **trusted))["well"]
    said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=f"https://127.0.0.1:{free_port()}")
    assert said.endswith("gives no answer: Connection refused\n")


def certificate(path: Path) -> Path:
    """A certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return path


def test_https_against_a_port_that_speaks_http_is_told(elsewhere: Elsewhere) -> None:
    url = elsewhere.service.url.replace("http:", "https:")
    said = cqrs(NOWHERE, "status", code=1, CQRS_API_URL=url)
    assert said == f"cqrs: {url} gives no answer: no agreement on TLS\n"


@pytest.mark.long
def test_p10_roles_never_get_the_keys_of_whoever_starts_them(tmp_path: Path) -> None:
    operator, own = new_key(), new_key()
    given = {
        "CQRS_OPERATOR_KEY": operator.text,
        "CQRS_PROMETHEUS_KEY": own.text,
        "CQRS_API_KEY": own.text,
        "CQRS_API_URL": "http://127.0.0.1:1",
    }
    with up(tmp_path / "data", CQRS_AUTH="on", **given) as service:
        assert service.http.get("/metrics", headers=keys.bearer(operator)).status_code == 200
        roles = service.process.children(recursive=True)
        assert len(roles) >= 4
        for role in roles:
            environ = role.environ()
            assert not {name: environ[name] for name in given if environ.get(name)}, role.cmdline()
            assert not [each for each in (operator, own) if each.text[14:-8] in "".join(environ.values())]
        assert operator.text[14:-8] not in service.log.read_text()


def test_the_keys_may_come_from_files(tmp_path: Path, elsewhere: Elsewhere) -> None:
    (tmp_path / "cqrs_api_key").write_text(f"{elsewhere.keys['operator'].text}\n")
    given = {"CQRS_SECRETS_DIR": str(tmp_path), "CQRS_API_URL": elsewhere.service.url}
    command = [sys.executable, "-m", "cli", "status", "--json"]
    env = clean_environment() | environment(NOWHERE) | given
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "dependencies" in json.loads(done.stdout)
