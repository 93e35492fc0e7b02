"""A role that can't start says why in one line and ends with exit code 1, on every Python."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.stores.init import init
from shared.database import engines
from shared.schemas import check
from shared.settings import Settings
from tests.support.service import clean_environment, environment, free_port

CELERY = ["celery", "--quiet", "--app", "workers.app"]
ROLES = {
    "api": ["api"],
    "uvicorn": ["uvicorn", "api.main:app", "--log-level", "warning"],
    "command worker": [*CELERY, "worker", "-Q", "commands"],
    "projection worker": [*CELERY, "worker", "-Q", "projections"],
}
CANARY = "canary-7f3a"


BUG = f"""
from shared import tuning

def start(sent="{CANARY}"):
    raise ValueError(sent + " is wrong")

tuning.collect_less = start
"""


def refusal(role: str, folder: Path, *, traceback: bool = False, **more: str) -> list[str]:
    """What it says before it ends with 1, but for Celery's warning to root."""
    own = {"CQRS_DATA_DIR": str(folder), "CQRS_API_PORT": str(free_port())} | more
    python = [sys.executable, "-W", "ignore", "-m", *ROLES[role]]
    done = subprocess.run(
        python,
        env=clean_environment() | own,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert ("Traceback" in done.stdout) == traceback
    return done.stdout.splitlines()


@pytest.mark.parametrize("role", ROLES)
def test_a_setting_that_is_not_right(role: str, tmp_path: Path) -> None:
    [line] = refusal(role, tmp_path, CQRS_REDIS_URL=f"http://:{CANARY}@redis", CQRS_MAX_WAIT=CANARY)
    assert line.startswith("cqrs: CQRS_")
    assert CANARY not in line


@pytest.mark.parametrize(
    ("role", "revision"),
    [("api", "0001"), ("uvicorn", "9999"), ("command worker", "0001"), ("projection worker", "9999")],
)
def test_a_schema_of_another_version(role: str, revision: str, tmp_path: Path) -> None:
    settings = made(tmp_path, f"UPDATE event_store_schema SET version_num = '{revision}'")
    *_, line = refusal(role, tmp_path, **environment(settings))
    assert line.startswith(f"cqrs: the event store is at revision {revision}")


@pytest.mark.parametrize("role", ["command worker", "projection worker"])
def test_an_event_that_can_not_be_read(role: str, tmp_path: Path) -> None:
    row = "(1, 'user-1', 1, 'UserCreated\x1b[31m', '{}', '{}', '2026-01-01T00:00:00.000000Z', 9, NULL)"
    settings = made(tmp_path, f"INSERT INTO events VALUES {row}")
    *_, line = refusal(role, tmp_path, **environment(settings))
    assert line.startswith("cqrs: the log has 1 UserCreated\\x1b[31m of schema version 9")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    made(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        *_, line = refusal("api", tmp_path, CQRS_API_PORT=str(port))
    assert line == f"cqrs: port {port} on 127.0.0.1 can't be had: CQRS_API_PORT and CQRS_API_HOST name another"


@pytest.mark.parametrize("role", ["api", "uvicorn"])
def test_a_bug_at_the_start_is_told_without_values(role: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUG)
    made(tmp_path)
    said = "\n".join(refusal(role, tmp_path, traceback=True, PYTHONPATH=str(tmp_path)))
    assert ("in start" in said, CANARY in said) == (True, False)
    assert said.splitlines()[-1].startswith("cqrs: ValueError in start, ")


def made(folder: Path, *statements: str) -> Settings:
    settings = Settings(data_dir=folder, _env_file=None)
    init(settings)
    url = dict(check.stores(settings))["event_store"]
    with engines.writing(url, lock="test") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return settings
