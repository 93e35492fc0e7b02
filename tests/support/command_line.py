"""`cqrs` in this process, for stores that a test has made."""

import json
from typing import Any

from typer.testing import CliRunner

from cli.main import app
from shared.settings import Settings
from tests.support.service import environment


def cqrs(settings: Settings, *arguments: str, code: int = 0, **more: str) -> str:
    """What it says, on stdout, or if it fails on stderr too."""
    env = environment(settings) | {"COLUMNS": "400"} | more
    done = CliRunner().invoke(app, list(arguments), env=env, prog_name="cqrs")
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output if code else done.stdout


def told(settings: Settings, *arguments: str, code: int = 0, **more: str) -> Any:
    """The same, of a command that tells JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"], env=environment(settings) | more, prog_name="cqrs")
    assert done.exit_code == code, done.output + repr(done.exception)
    return json.loads(done.stdout)
