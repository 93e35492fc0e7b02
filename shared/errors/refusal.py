"""How a role ends that can't start: with one line on stderr that says why, and exit code 1."""

import os
import sys
from typing import NoReturn

from pydantic import ValidationError

from shared.errors.visible import visible
from shared.settings import Settings

CODE = 1


def end(why: str) -> NoReturn:
    """From whichever thread, at once and without a traceback: whoever started this one may make another code of it."""
    _say(why)
    os._exit(CODE)


def settings() -> Settings:
    """As they are told from outside. Ends the process if one isn't right."""
    try:
        return Settings()
    except ValidationError as error:
        _say(wrong_setting(error))
        raise SystemExit(CODE) from None


def wrong_setting(error: ValidationError) -> str:
    """The first that isn't right, by its variable; its value isn't shown: it may have a password."""
    first = error.errors(include_input=False)[0]
    name = "_".join(["CQRS", *map(str, first["loc"])]).upper()
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def _say(why: str) -> None:
    sys.stderr.write(f"cqrs: {visible(why)}\n")
    sys.stderr.flush()
