"""What commands print: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
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
    """What an encoding lacks is written as its number: in ASCII an ü is a backslash and `xfc`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """One line on stdout, whatever is in it."""
    typer.echo(visible(line))


def complain(line: str) -> None:
    """What is wrong, in one line on stderr."""
    typer.secho(f"cqrs: {visible(line)}", fg="red", err=True)


def show_json(value: Any) -> None:
    typer.echo(visible_json(json.dumps(value, indent=2)))


def show_line(value: Any) -> None:
    """As one line, for what has no end."""
    typer.echo(visible_json(json.dumps(value, separators=(",", ":"))))


def line(settings: Settings, event: str, **more: str) -> str:
    """What is told beside the lines of roles, in their format."""
    if settings.log_format == "json":
        return logs.in_json(f"cqrs@{gethostname()}", "info", {"event": event, **more})
    return visible(" ".join([f"cqrs: {event}", *(f"{name}={value}" for name, value in more.items())]))


class Rows(Table):
    def add(self, *cells: str) -> None:
        """A row; a cell's text is one line of it, whatever is in it."""
        self.add_row(*map(visible, cells))


def table(*columns: str) -> Rows:
    return Rows(*columns, box=None, pad_edge=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process, and in another thread not even that."""
        raise BrokenPipeError


def console() -> Console:
    """No markup, no line broken."""
    return _Console(soft_wrap=True, markup=False, highlight=False)


def example(line: str) -> str:
    """For the end of a command's help."""
    return f"Example: {line}"


def progress(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """The items, with a bar on stderr of how many went by, how fast, and the time left; none where nobody looks."""
    screen = Console(stderr=True)
    columns = (_label(what), BarColumn(), TextColumn("{task.completed:,}"), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        for count, item in enumerate(items, 1):
            yield item
            if count % 1000 == 0:
                bar.update(task, completed=count)


@contextmanager
def bar(what: str, *columns: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    """The same, for who tells how much is done of how much; with more columns, if any are given."""
    screen = Console(stderr=True)
    columns = (_label(what), BarColumn(), TaskProgressColumn(), *columns, TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _label(what: str) -> TextColumn:
    """A file's name may have anything in it, braces too."""
    return TextColumn(visible(what).replace("{", "{{").replace("}", "}}"), markup=False)


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")
