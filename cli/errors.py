"""What is wrong with the surroundings is told in one line, and exit code 1."""

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

from cli.events.cloud_events import Damaged
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
    """It can't be done, and why, in one line."""


class Group(TyperGroup):
    """What is wrong with a command line is told without what steers a terminal."""

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
    except TyperException as error:  # its lines are Typer's, which spells out C0 and C1 alone
        error.message = "\n".join(map(visible, error.message.split("\n")))
        raise


def in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with private():
                _flushed(command, *args, **kwargs)
        except BrokenPipeError:
            end_as_others_do()
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


def end_as_others_do() -> NoReturn:
    """Whoever read the output has enough: by the signal that ends `cat` and `grep` then, without a word."""
    with suppress(OSError):  # what is left of it must not be tried once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    raise typer.Exit(128 + signal.SIGPIPE)  # where it is blocked


def _flushed(command: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """What is written at the very end would fail where nobody can tell of it."""
    try:
        command(*args, **kwargs)
    finally:
        sys.stdout.flush()
