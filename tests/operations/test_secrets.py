"""A key's text is nowhere but with its holder: logs, traces, metrics, backups, exports and stores are searched."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from shared.access.keys import digest_of
from shared.access.roles import ROLES
from shared.settings import Settings
from tests.support.collector import collector
from tests.support.keys import bearer
from tests.support.raw import exchange, request
from tests.support.service import environment, eventually, up
from tests.support.stores import JOHN
from tests.support.trouble import new_email

pytestmark = pytest.mark.long

SECRET = slice(len("cqrs_12345678_"), -8)
"""The random part of a key's text."""

SAID = ("status", "config", "keys list", "projections list", "commands list", "verify", "audit")
"""Commands whose words are searched."""


class Ran:
    """What is left of a run in which keys were made, used, misplaced, rotated and revoked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder / "data", _env_file=None)
        self.texts: list[str] = []
        self.spans: list[Any] = []
        self.answers: list[str] = []
        self.said = ""

    def cqrs(self, *arguments: str, shows: bool = False) -> str:
        env = environment(self.settings) | {"COLUMNS": "300"}
        done = CliRunner().invoke(app, list(arguments), env=env, prog_name="cqrs")
        if not shows:
            self.said += done.output
        return done.stdout

    def make(self, *arguments: str) -> str:
        """A key's text, which the command shows this once."""
        text = str(json.loads(self.cqrs("keys", *arguments, "--json", shows=True))["key"])
        self.texts.append(text)
        return text


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    run = Ran(tmp_path_factory.mktemp("secrets"))
    run.cqrs("init")
    key = run.make("add", "everything", *(word for role in ROLES for word in ("--role", role)))
    lost, turned = run.make("add", "lost", "--role", "reader"), run.make("add", "turned", "--role", "reader")
    given = {"CQRS_AUTH": "on", "CQRS_LOG_FORMAT": "json", "CQRS_LOG_LEVEL": "debug", "PYTHONDEVMODE": "1"}
    with collector() as (endpoint, spans):
        with up(run.settings.data_dir, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **given) as service:
            use(service.http, service.port, key, run)
            run.cqrs("keys", "revoke", "lost")
            run.make("rotate", "turned", "--grace", "1h")
            for text in (lost, turned):
                run.answers.append(shown(service.http.get("/users/", headers=bearer(text))))
            run.answers += [shown(service.http.get(path, headers=bearer(key))) for path in ("/metrics", "/readyz")]
            eventually(lambda: {each["lag"] for each in lags(service.http, key)} == {0})
            for words in SAID:
                run.cqrs(*words.split())
                run.cqrs(*words.split(), "--json")
            run.cqrs("backup", str(run.folder / "backup"))
            (run.folder / "export.jsonl").write_text(run.cqrs("events", "export"))
        run.spans = spans
    return run


def lags(http: httpx.Client, key: str) -> Any:
    return http.get("/readyz", headers=bearer(key)).json()["projections"].values()


def shown(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.headers} {answer.text}"


def use(http: httpx.Client, port: int, key: str, run: Ran) -> None:
    """Use a key as one should, and in most of the ways in which one should not."""
    john: Any = {"json": {**JOHN, "email": new_email()}, "headers": bearer(key) | {"Prefer": "wait=10"}}
    assert http.post("/users/", **john).status_code == 201
    assert http.get("/users/1", headers=bearer(key)).status_code == 200
    typo = key[:30] + ("0" if key[30] != "0" else "1") + key[31:]
    wrong = typo[:-1]
    for text in (key, typo, wrong):
        run.texts.append(text)
        for path in (
            f"/users/?key={text}",
            f"/{text}",
            f"/users/?access_token={text}",
            f"/users/{text}",
            f"/docs/{text}",
        ):
            http.get(path)
            http.get(path, headers=bearer(typo))
        http.get(f"/commands/{text}", headers=bearer(key))
        for headers in misplaced(text):
            http.get("/users/1", headers=bearer(key) | headers)
            more: Any = {
                "json": {**JOHN, "email": new_email()},
                "headers": bearer(key) | {"Prefer": "wait=10"} | headers,
            }
            http.post("/users/", **more)
        http.post("/users/", json={text: text}, headers=bearer(key))  # a field that there isn't
        http.post("/users/", content=f'{{"{text}', headers=bearer(key) | {"Content-Type": "application/json"})
        http.request(text[:9].upper(), "/users/", headers=bearer(text))
        for raw in (
            request(f"GET /{text}", "Connection: close", host=text),
            request("GET /users/", "Connection: close", f"{text}: x"),
            f"{text} / HTTP/1.1\r\n\r\n".encode(),
            request("GET /users/", f"Authorization: Bearer {text}", "Transfer-Encoding: x"),
        ):
            with suppress(OSError):
                exchange(port, raw)


def misplaced(text: str) -> list[dict[str, str]]:
    """Headers in which a key has nothing to do."""
    names = ["X-Request-ID", "Idempotency-Key", "X-Api-Key", "Cookie", "User-Agent", "Referer", "traceparent"]
    names += ["tracestate", "baggage", "If-Match", "If-None-Match", "Prefer", "Last-Event-ID", "X-Forwarded-For"]
    names += ["Origin", "Forwarded"]
    return [{name: text} for name in names] + [{"X-Request-ID": f"k={text}"}, {"Authorization": f"Basic {text}"}]


def found(ran: Ran, where: str, text: str, *, digests: bool = True) -> list[str]:
    """What of any key stands in the text."""
    parts = {part for each in ran.texts for part in (each, each[SECRET], each[SECRET][:16], each.upper())}
    parts |= {digest_of(each) for each in ran.texts} if digests else set()
    return [f"{part} in {where}" for part in parts if part in text]


def files(folder: Path) -> dict[str, str]:
    paths = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    return {
        str(path): path.read_bytes().decode("latin-1") for path in paths if path.is_file() and not path.is_symlink()
    }


def test_p10_no_key_is_in_a_log(ran: Ran) -> None:
    log = ran.settings.data_dir.with_suffix(".log").read_text()
    assert '"level": "debug"' in log
    assert not found(ran, "the log", log)


def test_p10_no_key_is_in_a_trace(ran: Ran) -> None:
    text = "\n".join(map(str, ran.spans))
    assert "url.query" in text
    assert f"key:{ran.texts[0][5:13]}" in text  # but who it was is there
    assert not found(ran, "a span", text)


def test_p10_no_key_is_in_a_metric_or_an_answer_to_somebody_else(ran: Ran) -> None:
    assert "cqrs_commands_accepted_total" in "".join(ran.answers)
    assert not found(ran, "an answer", "".join(ran.answers))


def test_p10_no_key_is_in_what_the_command_says(ran: Ran) -> None:
    for word in ("everything", "lost", "turned", "revoked", "UserCreated"):
        assert word in ran.said
    assert not found(ran, "the words of cqrs", ran.said)


def test_p10_no_key_is_in_an_export(ran: Ran) -> None:
    export = (ran.folder / "export.jsonl").read_text()
    assert "KeyRotated" in export
    assert not found(ran, "the export", export)


@pytest.mark.parametrize("which", ["data", "backup"])
def test_p10_a_store_or_a_backup_has_hashes_of_keys_alone(ran: Ran, which: str) -> None:
    """The table of keys has a SHA-256 of each, from which 32 random bytes can't be found; nothing else has it."""
    its = files(ran.folder / which)
    assert any(name.endswith("events.db") for name in its)
    for name, text in its.items():
        assert not found(ran, name, text, digests="events.db" not in name)
