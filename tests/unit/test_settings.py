"""Where settings come from."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def redis_url(code: int = 0, **environment: str) -> str:
    """What a process says that warns of nothing."""
    command = [sys.executable, "-W", "error", "-c", ASK]
    own = clean_environment() | environment
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr
