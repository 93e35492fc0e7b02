"""A closed API whose callers have tokens of an identity provider, and the provider's keys rotate meanwhile."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import desc, select

from shared.database import engines
from shared.settings import Settings
from shared.stores import inbox
from tests.support.provider import AUDIENCE, IdentityProvider, answered, jwk, private, running_provider
from tests.support.service import api, eventually, free_port, start
from tests.support.stores import JOHN

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider("/realms/acme") as provider:
        yield provider


@pytest.fixture(scope="module")
def folder(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(files, tmp_path_factory.mktemp("closed") / "data")


@pytest.fixture(scope="module")
def http(folder: Path, provider: IdentityProvider) -> Iterator[httpx.Client]:
    settings = {
        "CQRS_AUTH": "on",
        "CQRS_OIDC_ISSUER": provider.issuer,
        "CQRS_OIDC_AUDIENCE": AUDIENCE,
        "CQRS_OIDC_ROLES_CLAIM": "realm_access.roles",
        "CQRS_OIDC_ROLES": "staff:reader,clerk:writer",
    }
    with api(folder, "tests.support.quick_keys", PYTHONPATH=str(ROOT), **settings) as http:
        eventually(lambda: provider.fetches)  # before a token comes
        yield http


def bearer(provider: IdentityProvider, *roles: str, key: Any = None, kid: str = "es", **claims: Any) -> dict[str, str]:
    token = provider.token(key, kid, realm_access={"roles": [*roles]}, **claims)
    return {"Authorization": f"Bearer {token}"}


def refused(answer: httpx.Response, status: int, name: str, challenge: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}")
    assert challenge in answer.headers.get("www-authenticate", "")


def test_a_token_may_do_what_its_roles_allow(http: httpx.Client, provider: IdentityProvider) -> None:
    assert http.get("/users/", headers=bearer(provider, "staff")).status_code == 200
    assert http.post("/users/", json=JOHN, headers=bearer(provider, "clerk")).status_code == 202
    both = bearer(provider, "staff", "clerk")
    accepted = http.post("/users/", json=JOHN, headers=both)
    assert (accepted.status_code, http.get("/users/", headers=both).status_code) == (202, 200)
    assert http.get(accepted.headers["location"], headers=both).status_code == 200


def test_a_token_without_the_role_is_answered_403(http: httpx.Client, provider: IdentityProvider) -> None:
    for roles, method, path, missing in (
        (["clerk"], "GET", "/users/", "reader"),
        (["staff"], "POST", "/users/", "writer"),
        ([], "GET", "/users/", "reader"),
        (["operator", "reader"], "GET", "/users/", "reader"),  # names of ours count for nothing here
        (["staff", "clerk"], "GET", "/events/", "auditor"),
    ):
        body = JOHN if method == "POST" else None
        answer = http.request(method, path, json=body, headers=bearer(provider, *roles))
        refused(answer, 403, "missing-role", f'error="insufficient_scope", scope="{missing}"')


def test_a_token_that_does_not_count_is_answered_401(http: httpx.Client, provider: IdentityProvider) -> None:
    for headers, why in (
        (bearer(provider, "staff", exp=int(time.time()) - 60), "The token has expired."),
        (bearer(provider, "staff", aud="billing"), "The token is for another audience."),
        (bearer(provider, "staff", key=private("ES256", "of the forger")), "The token's signature is wrong."),
        (bearer(provider, "staff", kid="unknown"), "The token's key is not one of the identity provider's."),
        ({"Authorization": "Bearer abc"}, "The token is malformed."),
    ):
        answer = http.get("/users/", headers=headers)
        refused(answer, 401, "invalid-credentials", f'error="invalid_token", error_description="{why}"')
        assert answer.json()["detail"] == why
    refused(http.get("/users/"), 401, "unauthenticated", "Bearer")


def test_a_command_is_stored_with_who_sent_it(http: httpx.Client, provider: IdentityProvider, folder: Path) -> None:
    assert http.post("/users/", json=JOHN, headers=bearer(provider, "clerk", sub="anna")).status_code == 202
    with engines.reading(Settings(data_dir=folder, _env_file=None).inbox) as connection:
        metadata = connection.execute(select(inbox.commands.c.metadata).order_by(desc("seq"))).scalar()
    assert f'"oidc:{provider.issuer}#anna"' in str(metadata)


def test_a_stream_ends_when_its_token_expires(http: httpx.Client, provider: IdentityProvider) -> None:
    anna: dict[str, Any] = {
        "sub": "anna-of-the-stream",
        "exp": int(time.time()) - 25,
    }  # which counts for five seconds more
    headers = bearer(provider, "clerk", **anna)
    command = http.post("/users/", json=JOHN, headers=headers).headers["location"]  # which no worker handles
    start = time.monotonic()
    with http.stream("GET", f"{command}/stream", headers=headers, timeout=30) as stream:
        assert stream.status_code == 200
        for _ in stream.iter_raw():
            assert time.monotonic() - start < 30
    assert time.monotonic() - start < 30


def test_keys_rotate_while_the_api_serves(http: httpx.Client, provider: IdentityProvider) -> None:
    new = private("ES256", "rotated")
    before = bearer(provider, "staff", sub="before")
    assert http.get("/users/", headers=before).status_code == 200
    provider.keys.append(jwk(new, "new"))
    rotated = bearer(provider, "staff", key=new, kid="new")
    eventually(lambda: http.get("/users/", headers=rotated).status_code == 200)
    assert http.get("/users/", headers=bearer(provider, "staff", sub="old key")).status_code == 200
    del provider.keys[0]
    time.sleep(0.3)
    unknown = bearer(provider, "staff", key=new, kid="newer")  # which has the keys fetched again
    assert http.get("/users/", headers=unknown).status_code == 401
    assert http.get("/users/", headers=before).status_code == 200  # for a minute at most
    late = bearer(provider, "staff", sub="too late")
    assert http.get("/users/", headers=late).status_code == 401
    provider.answers = {"/keys": answered(503)}
    assert http.get("/users/", headers=bearer(provider, "staff", key=new, kid="new", sub="x")).status_code == 200


def test_while_no_key_is_known_the_answer_is_503(folder: Path, tmp_path: Path) -> None:
    issuer = {"CQRS_OIDC_ISSUER": "http://127.0.0.1:1", "CQRS_OIDC_AUDIENCE": AUDIENCE}
    provider = IdentityProvider("http://127.0.0.1:1")
    with api(folder, CQRS_AUTH="on", **issuer) as http:
        answer = http.get("/users/", headers=bearer(provider, "staff"))
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/credentials-unavailable")
        assert "retry-after" in answer.headers
        assert http.get("/livez").status_code == 200


def test_without_the_extra_the_api_refuses_to_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "jwt.py").write_text("raise ImportError")
    data_dir = shutil.copytree(folder, tmp_path / "data")
    environment = {"CQRS_DATA_DIR": str(data_dir), "CQRS_API_PORT": str(free_port()), "PYTHONPATH": str(tmp_path)}
    issuer = {"CQRS_OIDC_ISSUER": "https://id.example", "CQRS_OIDC_AUDIENCE": AUDIENCE}
    assert start(["api"], data_dir, environment | issuer).wait(20) == 1
    line = data_dir.with_suffix(".log").read_text().splitlines()[-1]
    assert line == "cqrs: CQRS_OIDC_ISSUER is set, which needs more than is installed: pip install 'cqrs[oidc]'"
