"""`cqrs config`: every setting, its value, and where it came from; no password is shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.operations.configuration import HIDDEN, Setting, configuration, masked, told
from shared.settings import Settings
from tests.support.service import clean_environment


def config(folder: Path, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", "config", "--json"]
    env = clean_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True)
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.mark.processes
def test_each_setting_tells_where_it_came_from_and_the_first_source_wins(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "cqrs_redis_url").write_text("redis://workers:hunter2@redis:6379/0\n")
    (tmp_path / ".env").write_text("CQRS_API_PORT=8001\nCQRS_MAX_WAIT=5\n")
    shown = config(tmp_path, CQRS_API_PORT="8002", CQRS_SECRETS_DIR=str(tmp_path / "secrets"))
    assert shown["CQRS_API_PORT"] == {"value": 8002, "from": "environment"}
    assert shown["CQRS_MAX_WAIT"] == {"value": 5.0, "from": ".env"}
    assert shown["CQRS_REDIS_URL"] == {"value": "redis://workers:***@redis:6379/0", "from": "secret file"}
    assert shown["CQRS_INBOX_URL"] == {"value": f"sqlite:///{tmp_path}/data/inbox.db", "from": "default"}
    assert set(shown) == {f"CQRS_{name.upper()}" for name in Settings.model_fields} | {"CQRS_SECRETS_DIR"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://cqrs:p/a?s#s@db/cqrs", "postgresql+psycopg://cqrs:***@db/cqrs"),
        ("postgresql+psycopg://cqrs:p@ss@db/cqrs", "postgresql+psycopg://***"),
        ("postgresql+psycopg://cqrs:p@s/s@db/cqrs", "postgresql+psycopg://***"),
        ("postgresql+psycopg://cqrs:secret", "***"),
        ("postgresql+psycopg://db/cqrs?user=a&password=b", "postgresql+psycopg://db/cqrs?password=***&user=a"),
        ("redis://:secret@127.0.0.1:1/0", "redis://:***@127.0.0.1:1/0"),
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
        ("redis+socket:///a/b.sock?virtual_host=1", "redis+socket:///a/b.sock?virtual_host=1"),
        ("sqlite:////a:b@c?password=d/inbox.db", "sqlite:////a:b@c?password=d/inbox.db"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_secret_is_never_part_of_what_is_shown() -> None:
    shown = configuration(Settings(master_key=SecretStr("ab" * 32), _env_file=None))
    assert shown["CQRS_MASTER_KEY"] == Setting(HIDDEN, "default", is_secret=True)
    assert "abab" not in str(shown)
    assert shown["CQRS_OPERATOR_KEY"] == (None, "default", False)


def test_a_role_is_told_where_its_settings_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `cqrs up` passes on is all in the role's environment."""
    monkeypatch.setenv("CQRS_API_PORT", "8001")
    monkeypatch.setenv("CQRS_MAX_WAIT", "30")
    for name, value in told({"api_port": ".env"}).items():
        monkeypatch.setenv(name, value)
    shown = configuration(Settings(_env_file=None))
    assert (shown["CQRS_API_PORT"], shown["CQRS_MAX_WAIT"].source) == (Setting(8001, ".env"), "default")
