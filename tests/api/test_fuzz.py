"""schemathesis, a fuzzer that knows the OpenAPI document, finds nothing: with a key, without one, on an open API."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import Closed
from tests.support.keys import bearer
from tests.support.service import Service

pytestmark = pytest.mark.long

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 410, 412, 422]
"""
"""What fits the document may be refused all the same: for its tags, versions, positions and keys, or who was erased."""

SEED = "1"
"""So that a run of all tests fails for what was changed, and not by luck; another one may be tried by hand."""


def fuzz(folder: Path, url: str, seconds: int, *options: str) -> None:
    """Run schemathesis for so many seconds. Fails if it finds something."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).parent / "schemathesis"
    bounds = "--max-time", str(seconds), "--max-examples", "10", "--request-timeout", "10", "--seed", SEED
    done = subprocess.run(
        [program, "run", f"{url}/openapi.json", *bounds, "--no-color", *options],
        cwd=folder, env=os.environ | {"PATH": os.defpath}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "generated" in done.stdout


ENDING = "--exclude-path-regex", "/stream$|/pause$|^/keys/{"
"""Operations whose answers end, and that change nothing which other tests need."""


def test_p10_a_fuzzer_with_a_key_finds_nothing_and_nothing_that_ignores_it(closed: Closed, tmp_path: Path) -> None:
    header = ": ".join(*bearer(closed.all).items())
    fuzz(tmp_path, closed.service.url, 15, "-H", header, *ENDING)


def test_p10_a_fuzzer_with_one_role_finds_nothing(closed: Closed, tmp_path: Path) -> None:
    header = ": ".join(*bearer(closed.keys["reader"]).items())
    fuzz(tmp_path, closed.service.url, 4, "-H", header, *ENDING)


def test_p10_a_fuzzer_without_a_key_finds_nothing(closed: Closed, tmp_path: Path) -> None:
    fuzz(tmp_path, closed.service.url, 5)


def test_a_fuzzer_finds_nothing_on_an_open_api(shared_service: Service, tmp_path: Path) -> None:
    fuzz(tmp_path, shared_service.url, 10, *ENDING)
