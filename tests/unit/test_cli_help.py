"""The help of `cqrs`, and its completion."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app
from shared.errors.visible import visible


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


@pytest.mark.parametrize("command", [[], ["events", "show"], ["events", "import"], ["projections", "pause"]], ids=str)
@pytest.mark.parametrize("argument", ["a\x1b[31m\x07\x9b\n\u2028\u202e", "--a\x1b[31m\x9b\u2028\u202e"], ids=ascii)
def test_a_wrong_command_line_is_told_without_what_steers(command: list[str], argument: str) -> None:
    done = CliRunner().invoke(app, [*command, argument])
    assert done.exit_code
    assert not [line for line in done.output.split("\n") if visible(line) != line]


def test_a_bug_in_the_command_is_told_without_values(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    sent = "canary"

    def broken() -> None:
        raise LookupError(f"{sent}\x1b")

    monkeypatch.setattr("cli.main.configuration", lambda _: broken())
    with pytest.raises(SystemExit) as end:
        app(["config"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert ("in broken" in said, "canary" in said) == (True, False)
    assert said.endswith("LookupError\n")
