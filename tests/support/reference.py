"""The page docs/reference/command.md, made from the help of `cqrs`; `make reference` writes it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command.md"

HEAD = """# The `cqrs` command

For operators. `make reference` makes this page from the command's own help; a test says when it is stale.

In a checkout the command is `.venv/bin/cqrs`; in Docker it is `docker compose run --rm cqrs …`. `--json` prints JSON
for programs. `cqrs --install-completion` completes commands in your shell.

The exit code is 0 if all is well, 1 if something is wrong or can't be done, and 2 for a command line that isn't
understood. What is wrong is one line on stderr.
"""


def page() -> str:
    """The page as it should be."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(app), "cqrs")])


def _sections(command: Any, name: str) -> Iterator[str]:
    for each in getattr(command, "commands", {}).values():
        yield from _sections(each, f"{name} {each.name}")
    if hasattr(command, "commands"):
        return
    yield f"## `{name}`\n\n{inspect.cleandoc(command.help)}\n\n    {' '.join([name, *map(_usage, command.params)])}\n"
    rows = [
        f"| `{_spelled(each)}` | {_meaning(each)} |"
        for each in command.params
        if each.name != "as_json" and _meaning(each)
    ]
    if rows:
        yield "\n".join(["| | |", "|---|---|", *rows, ""])
    example = command.epilog.removeprefix("Example: ")
    yield f"Example: `{example}`\n"


def _usage(param: Any) -> str:
    return _spelled(param) if param.required else f"[{_spelled(param)}]{'…' if param.multiple else ''}"


def _spelled(param: Any) -> str:
    value = param.metavar or param.name.upper().rstrip("_")
    if not param.opts[0].startswith("-"):
        return str(value)
    names = ", ".join(sorted(param.opts, key=len))
    return names if param.is_flag else f"{names} {value}"


def _meaning(param: Any) -> str:
    parts = [param.help]
    if type(param.default) is int:
        parts.append(f"{param.default} unless given")
    if None not in {param.min, param.max}:
        parts.append(f"{param.min} to {param.max}")
    return "; ".join(filter(None, parts))


if __name__ == "__main__":
    PAGE.write_text(page())
