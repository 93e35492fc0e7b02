"""Where settings come from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.access.roles import ROLES
from shared.errors.refusal import wrong_setting
from shared.settings import Settings
from tests.support.service import clean_environment

ASK = "from shared.settings import Settings; print(Settings().redis_url)"


@pytest.mark.processes
def test_a_setting_may_stand_in_a_file_and_one_in_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / "cqrs_redis_url").write_text("redis://api:secret@redis:6379/0\n")
    assert redis_url(CQRS_SECRETS_DIR=str(tmp_path)) == "redis://api:secret@redis:6379/0\n"
    own = "redis://localhost:6379/0"
    assert redis_url(CQRS_SECRETS_DIR=str(tmp_path), CQRS_REDIS_URL=own) == f"{own}\n"
    assert redis_url() == "\n"


@pytest.mark.processes
def test_a_setting_that_is_not_right_is_refused_without_being_shown(tmp_path: Path) -> None:
    for name, url in (
        ("redis_url", "redis://api:secret@redis:port/0"),
        ("redis_url", "redis://:secret?@redis/0"),
        ("inbox_url", "postgresql+psycopg://cqrs:secret"),
    ):
        (tmp_path / f"cqrs_{name}").write_text(url)
        refusal = redis_url(CQRS_SECRETS_DIR=str(tmp_path), code=1)
        assert name in refusal
        assert "secret" not in refusal
        (tmp_path / f"cqrs_{name}").unlink()


def test_what_a_setting_is_written_as_is_read_as_the_same() -> None:
    for networks in ("", "10.0.0.0/8,::1/128"):
        settings = Settings(trusted_proxies=networks, _env_file=None)
        again = Settings(trusted_proxies=settings.model_dump()["trusted_proxies"], _env_file=None)
        assert again.trusted_proxies == settings.trusted_proxies


PROVIDER: dict[str, Any] = {"oidc_issuer": "https://id.example/realms/acme", "oidc_audience": "users-api"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"oidc_issuer": "https://id.example"}, "CQRS_OIDC_AUDIENCE: must be set if CQRS_OIDC_ISSUER is"),
        (PROVIDER | {"oidc_issuer": "http://id.example"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "https://"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "id.example"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "https://me:secret@id.example"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "https://id.example/#a"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "https://id.example/a b"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_issuer": "https://id.example:port"}, "CQRS_OIDC_ISSUER: must look like https://"),
        (PROVIDER | {"oidc_jwks": "http://id.example/keys"}, "CQRS_OIDC_JWKS: must look like https://"),
        (PROVIDER | {"oidc_jwks": "file:///keys"}, "CQRS_OIDC_JWKS: must look like https://"),
        (PROVIDER | {"oidc_roles": "staff:admin"}, "CQRS_OIDC_ROLES: must look like staff:reader"),
        (PROVIDER | {"oidc_roles": "reader"}, "CQRS_OIDC_ROLES: must look like staff:reader"),
        (PROVIDER | {"oidc_roles": ":reader"}, "CQRS_OIDC_ROLES: must look like staff:reader"),
    ],
)
def test_a_provider_that_would_not_be_safe_is_refused_in_one_line(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**settings, _env_file=None)
    line = wrong_setting(refused.value)
    assert line.startswith(why)
    assert "secret" not in line


def test_what_a_provider_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for issuer in (
        "https://tenant.auth0.com/",
        "http://127.0.0.1:8080/realms/a",
        "http://localhost",
        "http://[::1]:80",
    ):
        assert Settings(oidc_issuer=issuer, oidc_audience="a", _env_file=None).oidc_issuer == issuer
    assert Settings(oidc_jwks="keys.json", _env_file=None).oidc_jwks == str(tmp_path / "keys.json")
    assert Settings(_env_file=None).claimed_roles == {role: {role} for role in ROLES}
    mapped = Settings(oidc_roles=" staff:reader , staff:auditor, urn:x:admin:operator,", _env_file=None)
    assert mapped.oidc_roles == "staff:reader,staff:auditor,urn:x:admin:operator"
    assert mapped.claimed_roles == {"staff": {"reader", "auditor"}, "urn:x:admin": {"operator"}}


def redis_url(code: int = 0, **environment: str) -> str:
    """What a process says that warns of nothing."""
    command = [sys.executable, "-W", "error", "-c", ASK]
    own = clean_environment() | environment
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr
