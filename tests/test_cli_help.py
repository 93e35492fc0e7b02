"""The help of `cqrs`, and its completion."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app


def commands(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield *before, name


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_each_command_s_help_has_an_example_of_it(command: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
    assert f"cqrs {' '.join(command)}" in said.partition("Example: ")[2]


def test_the_shell_completes_commands() -> None:
    asked = {"_CQRS_COMPLETE": "complete_bash", "COMP_WORDS": "cqrs ev", "COMP_CWORD": "1"}
    assert CliRunner().invoke(app, [], env=asked, prog_name="cqrs").output.split() == ["events"]
