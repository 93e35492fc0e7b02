"""The output of commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from socket import gethostname
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from shared.errors.visible import visible, visible_json
from shared.settings import Settings
from shared.telemetry import logs

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON")]


def print_anything() -> None:
    """Have stdout and stderr write a character that their encoding lacks as an escape, such as xfc for an ü."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Write one line to stdout, whatever is in it."""
    typer.echo(visible(line))


def complain(line: str) -> None:
    """Write what is wrong to stderr, in one line."""
    typer.secho(f"cqrs: {visible(line)}", fg="red", err=True)


def show_json(value: Any) -> None:
    """Write a value to stdout as JSON, for reading."""
    typer.echo(visible_json(json.dumps(value, indent=2)))


def show_line(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    typer.echo(visible_json(json.dumps(value, separators=(",", ":"))))


def line(settings: Settings, event: str, **more: str) -> str:
    """A line of this command's own among the log lines of roles, in their format."""
    if settings.log_format == "json":
        return logs.in_json(f"cqrs@{gethostname()}", "info", {"event": event, **more})
    return visible(" ".join([f"cqrs: {event}", *(f"{name}={value}" for name, value in more.items())]))


def table(*columns: str, rows: Iterable[Iterable[str]]) -> Table:
    """A table without a frame; a cell's text is one line of it, whatever is in it."""
    made = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        made.add_row(*map(visible, row))
    return made


def state(progress: Mapping[str, Any]) -> str:
    """The state of a projection in words."""
    if progress["paused"]:
        return "paused"
    stopped = progress["stopped"]
    return f"stopped by event {stopped['event']}: {stopped['error']}" if stopped else "running"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process, and in another thread not even that."""
        raise BrokenPipeError


def console() -> Console:
    """The console on stdout: without markup, and no line is broken."""
    return _Console(soft_wrap=True, markup=False, highlight=False)


def example(line: str) -> str:
    """A line for the end of a command's help."""
    return f"Example: {line}"


def progress(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """Yield the items, while a bar shows how many went by, how fast, and the time left."""
    with bar(what, TextColumn("{task.completed:,}"), Rate()) as show:
        for count, item in enumerate(items, 1):
            yield item
            if count % 1000 == 0:
                show(count, total)


@contextmanager
def bar(what: str, *columns: ProgressColumn) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, if that is a terminal; call what it yields with how much is done, and of how much."""
    screen = Console(stderr=True)
    columns = (_label(what), BarColumn(), TaskProgressColumn(), *columns, TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _label(what: str) -> TextColumn:
    """A column with this text; it may be a file's name, with anything in it, braces too."""
    return TextColumn(visible(what).replace("{", "{{").replace("}", "}}"), markup=False)


class Rate(ProgressColumn):
    """The speed, in steps a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
