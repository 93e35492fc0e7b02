"""Errors of commands: one line on stderr and exit code 1 for what is wrong with the surroundings."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli.output import complain
from cli.stores.private import private
from shared.errors.reasons import reason_of
from shared.errors.refusal import wrong_setting
from shared.errors.visible import visible
from shared.schemas.check import WrongSchema
from shared.schemas.event_shapes import Unreadable
from shared.schemas.folding import Wrong
from shared.schemas.projection_tables import WrongTable

P = ParamSpec("P")


class Refused(Exception):
    """The command can't be done. The message says why, in one line."""


class Damaged(Exception):
    """An import's lines aren't what was exported. The message says why, in one line."""


class Group(TyperGroup):
    """Typer's commands; an error of the command line is shown without anything that steers a terminal."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _visible():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _visible():
            return super().invoke(ctx)


@contextmanager
def _visible() -> Iterator[None]:
    try:
        yield
    except TyperException as error:  # Typer spells out C0 and C1 alone
        error.message = "\n".join(map(visible, error.message.split("\n")))
        raise


def in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    """Have a command end with one line on stderr and exit code 1 for all errors but bugs. Its files are private."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with private():
                _flushed(command, *args, **kwargs)
        except BrokenPipeError:
            end_by_sigpipe()
        except ValidationError as error:
            message = wrong_setting(error)
        except DBAPIError as error:
            message = f"a store can't be used: {reason_of(error)}"
        except UnicodeDecodeError:
            message = "a setting is not UTF-8: look at .env, and at the files in CQRS_SECRETS_DIR"
        except UnicodeEncodeError:
            message = "what was given is not UTF-8"
        except (Refused, Damaged, Wrong, WrongSchema, WrongTable, Unreadable, OSError) as error:
            message = str(error)
        else:
            return
        complain(message)
        raise typer.Exit(1)

    return wrapped


def end_by_sigpipe() -> NoReturn:
    """End as `cat` and `grep` do when the reader of their output is gone: by SIGPIPE, without a word."""
    with suppress(OSError):  # Python would try to write the rest at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    raise typer.Exit(128 + signal.SIGPIPE)  # where it is blocked


def _flushed(command: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run a command and flush its output, so that an error of writing is caught here and not at Python's end."""
    try:
        command(*args, **kwargs)
    finally:
        sys.stdout.flush()
