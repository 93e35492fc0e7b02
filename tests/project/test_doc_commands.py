"""Every command in the documentation is there: verbs of make, commands of cqrs and their options, files, routes."""

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main
from starlette.routing import Match

from api.main import app
from cli.main import app as cqrs
from tests.support.pages import CODE, CURRENT, GUIDE, ROOT, blocks, name, prose

ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
SERVICE = re.compile(r"^  ([a-z-]+):", re.MULTILINE)

OTHERS = {"cd", "chmod", "cp", "export", "git", "head", "pg_dump", "pg_restore"}
"""Commands that name nothing of ours."""


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page's sh blocks, and those of cqrs and make in its prose, as words."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in CODE.findall(prose(page)) if code.startswith(("cqrs ", "make "))]
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        yield from split(words)


def split(words: Iterable[str]) -> Iterator[list[str]]:
    """The commands of one line, without variables that are set before them."""
    command: list[str] = []
    for word in [*words, ";"]:
        if word[0] in "|&;":
            if command:
                yield command
            command = []
        elif command or not ASSIGNMENT.fullmatch(word):
            command.append(word)


def absent(words: list[str], *, routes: bool) -> str:
    """What a command names that isn't there. `routes`: the API has those that it asks for."""
    program, *rest = words
    match program.removeprefix(".venv/bin/"), rest:
        case "make", _:
            verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            named = [each for each in rest if not ASSIGNMENT.fullmatch(each)]
            found = missing(named, verbs)
        case "cqrs", _:
            found = absent_of_cqrs(rest)
        case "docker", ["compose", *options]:
            found = absent_of_compose(options)
        case ("python", ["-m", module, *_]) | ("celery", ["-A", module, *_]):
            found = "" if is_module(module) else module
        case "curl", _:
            found = absent_of_api(rest) if routes else ""
        case "pip", ["install", *_]:
            extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
            found = missing(re.findall(r"(?<=\.\[)\w+", " ".join(rest)), extras)
        case _:
            found = missing([program], OTHERS)
    return found


def missing(named: Iterable[str], there: Iterable[str]) -> str:
    return ", ".join(sorted(set(named) - set(there)))


def is_module(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def absent_of_cqrs(words: list[str]) -> str:
    command: Any = typer.main.get_command(cqrs)
    while words and hasattr(command, "commands") and words[0][0] != "-":
        if words[0] not in command.commands:
            return words[0]
        command, *words = command.commands[words[0]], *words[1:]
    options = {option for each in command.params for option in each.opts} | {"--help", "--install-completion"}
    return missing([word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z].*", word)], options)


def absent_of_compose(words: list[str]) -> str:
    files = [after for word, after in pairwise(words) if word == "-f"] or ["docker-compose.yml"]
    if gone := [each for each in files if not (ROOT / each).exists()]:
        return ", ".join(gone)
    services = {service for file in files for service in SERVICE.findall((ROOT / file).read_text())}
    named = [word.partition("=")[0] for word in words if re.fullmatch(r"[a-z-]+=\d+", word)]
    if "run" in words:
        after_run = pairwise(words[words.index("run") :])
        named += [word for before, word in after_run if word[0] != "-" and before != "--entrypoint"][:1]
    return missing(named, services)


def absent_of_api(words: list[str]) -> str:
    method = next((after for word, after in pairwise(words) if word == "-X"), "POST" if "-d" in words else "GET")
    for url in (urlsplit(word) for word in words if word.startswith("http://")):
        scope = {"type": "http", "path": url.path, "method": method}
        if not any(route.matches(scope)[0] is Match.FULL for route in app.routes):
            return f"{method} {url.path}"
    return ""


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_every_command_is_there(page: Path) -> None:
    routes = GUIDE not in page.parents
    assert not [f"{what} in {' '.join(each)}" for each in commands(page) if (what := absent(each, routes=routes))]
