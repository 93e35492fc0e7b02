"""What keeps the code easy to find one's way in."""

import re
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


def test_no_error_is_raised_twice() -> None:
    """Python adds the frames of each time to it, and they hold the requests with their keys."""
    constant = re.compile(r"raise ([A-Z_]+|.* if .* else [A-Z_]+)( from None)?")
    raised = [(path.name, line.strip()) for path in SOURCES for line in path.read_text().splitlines()]
    assert [each for each in raised if constant.fullmatch(each[1])] == []
