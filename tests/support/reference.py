"""Pages made from the code, of the command `cqrs` and of roles; `make reference` writes them."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from api.http.access import Roles, named
from api.http.routing import Route
from api.main import app as api
from cli.main import app
from shared.access.roles import MEANINGS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

ROLES_HEAD = """# Roles

For whoever gives somebody a key or a token. `make reference` makes this page from the routes themselves; a test says
when it is stale. [Access](../operations/access.md) says how roles are given.

No role implies another. A key may have several, and needs one of those that a route names. HEAD is answered wherever
GET is, and needs the same.
"""

WORDS = {"any": "any role", "public": "none", "docs": "any role; none where the API listens on loopback"}
"""What a route asks for that names no role."""

HEAD = """# The `cqrs` command

For operators. `make reference` makes this page from the command's own help; a test says when it is stale.

In a checkout the command is `.venv/bin/cqrs`; in Docker it is `docker compose run --rm cqrs …`. `--json` prints JSON
for programs. `cqrs --install-completion` completes commands in your shell.

The exit code is 0 if all is well, 1 if something is wrong or can't be done, and 2 for a command line that isn't
understood. What is wrong is one line on stderr.
"""


def pages() -> dict[Path, str]:
    """The pages as they should be, by their files."""
    return {REFERENCE / "command.md": _command(), REFERENCE / "roles.md": _roles()}


def _roles() -> str:
    meanings = [f"| `{role}` | {meaning} |" for role, meaning in MEANINGS.items()]
    routes = [route for route in api.routes if isinstance(route, Route)]
    rows = [f"| `{' '.join([*(route.methods or ()), route.path])}` | {_needs(route.role)} |" for route in routes]
    head = ROLES_HEAD, "| role | what it may do |", "|---|---|", *meanings
    return "\n".join([*head, "\n## Routes\n", "| request | needs |", "|---|---|", *rows, ""])


def _needs(role: Roles) -> str:
    return " or ".join(f"`{each}`" for each in named(role)) or WORDS[str(role)]


def _command() -> str:
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
    for page, text in pages().items():
        page.write_text(text)
