"""Errors of commands: one line on stderr and exit code 1 for what is wrong with the surroundings."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli.output import complain
from cli.stores.private import private
from shared.decider import Rejected
from shared.errors.reasons import reason_of
from shared.errors.refusal import wrong_setting
from shared.errors.visible import visible
from shared.plain import Plain
from shared.schemas.folding import Wrong


class Refused(Exception):
    """The command can't be done. The message says why, in one line."""


class Damaged(Exception):
    """An import's lines aren't what was exported. The message says why, in one line."""


class Group(TyperGroup):
    """The commands, whose errors are one line and exit code 1, or Typer's without anything that steers a terminal.

    Files that commands make are private.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _visible():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _visible(), _one_line():
            return super().invoke(ctx)


@contextmanager
def _visible() -> Iterator[None]:
    try:
        yield
    except TyperException as error:  # Typer spells out C0 and C1 alone
        error.message = "\n".join(map(visible, error.message.split("\n")))
        raise


@contextmanager
def _one_line() -> Iterator[None]:
    """Complain in one line of an error that isn't a bug. Output is flushed, so that its errors come here, too."""
    try:
        with private():
            try:
                yield
            finally:
                sys.stdout.flush()
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
    except (Refused, Damaged, Wrong, Plain, OSError) as error:
        message = str(error)
    except Rejected as no:
        message = f"{no.detail[:1].lower()}{no.detail[1:].removesuffix('.')}"
    else:
        return
    complain(message)
    raise typer.Exit(1)


def end_by_sigpipe() -> NoReturn:
    """End as `cat` and `grep` do when the reader of their output is gone: by SIGPIPE, without a word."""
    with suppress(OSError):  # Python would try to write the rest at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    raise typer.Exit(128 + signal.SIGPIPE)  # where it is blocked
