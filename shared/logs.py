"""What a role says: one line for each thing, of one format and with its time, whoever says it.

At info there is a line for a batch, which tells whose it is if it is of one command; at debug one for each command.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import format_exc_info
from structlog.stdlib import ProcessorFormatter, add_logger_name
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from shared.messages import now
from shared.settings import Settings

T = TypeVar("T")

common: ContextVar[Mapping[str, str]] = ContextVar("common", default=MappingProxyType({}))
"""What stands in each line of what is under way, a request, say."""


class Stderr:
    """Where lines go. On a full disk, or when nobody reads any more, the line is lost, and not what it tells of."""

    def say(self, line: str) -> None:
        with suppress(OSError):
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))

    debug = info = warning = error = critical = say


class Handler(logging.Handler):
    """For the lines of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            Stderr().say(self.format(record))
        except Exception:
            self.handleError(record)


def set_up(role: str, settings: Settings) -> None:
    """For this process, from now on. `role` is its name, an @ and its host, and stands in each line of JSON."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    render = _json(role) if settings.log_format == "json" else _console()
    _processors[:] = [_with_common, *render]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
        processors=_processors,
    )
    _set_up_libraries(max(level, logging.WARNING), render)


def logger() -> FilteringBoundLogger:
    its: FilteringBoundLogger = structlog.get_logger()
    return its


def tell(
    log: FilteringBoundLogger, what: str, each: Sequence[T], fields: Callable[[T], Mapping[str, Any]], **of_all: Any
) -> None:
    """Of a batch. `fields` tells of one; it isn't asked about each of many unless somebody wants to know."""
    if len(each) == 1:
        log.info(what, **{**of_all, **fields(each[0])})
        return
    if log.is_enabled_for(logging.DEBUG):
        for one in each:
            log.debug(what, **fields(one))
    log.info(what, **of_all)


def silence() -> None:
    """In this process, from now on."""
    logging.disable()
    _processors[:] = [_drop]


def in_json(role: str, level: str, fields: Mapping[str, Any]) -> str:
    return json.dumps({"timestamp": now(), "level": level, "role": role, **fields}, default=str)


def _json(role: str) -> list[Processor]:
    def render(_: Any, level: str, fields: EventDict) -> str:
        return in_json(role, level, {"event": fields.pop("event"), **fields})

    return [format_exc_info, render]


def _console() -> list[Processor]:
    def stamp(_: Any, level: str, fields: EventDict) -> EventDict:
        return {"timestamp": now(), "level": level, **fields}

    colours = sys.stderr.isatty()
    return [
        stamp,
        ConsoleRenderer(colors=colours, sort_keys=False, pad_event_to=0, exception_formatter=plain_traceback),
    ]


def _with_common(_: Any, __: str, fields: EventDict) -> EventDict:
    return {**common.get(), **fields}


def _drop(*_: Any) -> EventDict:
    raise structlog.DropEvent


def _set_up_libraries(level: int, render: Sequence[Processor]) -> None:
    handler = Handler()
    before: list[Processor] = [add_logger_name, _with_common]
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=before, processors=[ProcessorFormatter.remove_processors_meta, *render])
    )
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, Handler)] + [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.access"):  # it may have set up its own before
        its = logging.getLogger(name)
        its.handlers, its.propagate, its.level = [], True, logging.NOTSET


_processors: list[Processor] = [_with_common, *_console()]
"""One list, changed in place: loggers keep it."""

structlog.configure(
    processors=_processors,
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=lambda *_: Stderr(),
    cache_logger_on_first_use=False,  # the role's level and format may come yet
)
