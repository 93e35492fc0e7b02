"""What keeps the code easy to find one's way in."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from shared.domain.users.messages import UserEvent

ROOT = Path(__file__).parents[2]
SOURCES = [path for package in ("api", "workers", "shared", "cli") for path in (ROOT / package).rglob("*.py")]


def test_no_part_imports_what_it_must_not() -> None:
    contracts = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert contracts.returncode == 0, contracts.stdout


@pytest.mark.parametrize("event", [event.__name__ for event in get_args(UserEvent)])
def test_an_event_is_named_in_its_three_files_only(event: str) -> None:
    naming = [path.name for path in SOURCES if event in path.read_text()]
    assert sorted(naming) == ["decider.py", "messages.py", "users.py"]
