"""The end of a role that can't start: one line on stderr that says why, and exit code 1."""

import os
import sys
from typing import NoReturn

from pydantic import ValidationError

from shared.errors.visible import visible
from shared.settings import Settings

CODE = 1
"""The exit code."""


def end(why: str) -> NoReturn:
    """End the process at once with CODE, from any thread: on SystemExit uvicorn and Celery exit with other codes."""
    _say(why)
    os._exit(CODE)


def settings() -> Settings:
    """The settings from the environment. Ends the process if one is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        _say(wrong_setting(error))
        raise SystemExit(CODE) from None


def wrong_setting(error: ValidationError) -> str:
    """The variable of the first wrong setting, and what is wrong. Its value isn't shown: it may hold a password."""
    first = error.errors(include_input=False)[0]
    name = "_".join(["CQRS", *map(str, first["loc"])]).upper()
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def _say(why: str) -> None:
    sys.stderr.write(f"cqrs: {visible(why)}\n")
    sys.stderr.flush()
