"""Log lines: one line for each thing that happens, in one format, whether our code or a library writes it.

At level info a batch has one line, which names the command if the batch has only one; at debug each command has a line.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from structlog.dev import ConsoleRenderer
from structlog.processors import ExceptionRenderer, TimeStamper
from structlog.stdlib import ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

from shared.clock import now
from shared.errors.reasons import reason_of
from shared.errors.tracebacks import traceback_of
from shared.errors.visible import visible, visible_json, without_secrets
from shared.settings import Settings

T = TypeVar("T")

common: ContextVar[Mapping[str, str]] = ContextVar("common", default=MappingProxyType({}))
"""Fields that every line of the current task has, such as a request's correlation id."""


class Stderr:
    """Where all log lines go: standard error, without keys and tokens.

    A line for which there is no room or no reader is dropped.
    """

    def write(self, line: str) -> None:
        with suppress(OSError):
            os.write(2, f"{without_secrets(line)}\n".encode(errors="backslashreplace"))

    debug = info = warning = error = critical = write


class Handler(logging.Handler):
    """Writes the lines of libraries, without the message of any error: it may hold what a client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, BaseException):
            record.msg = reason_of(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(reason_of(each) if isinstance(each, BaseException) else each for each in record.args)
        if record.name == "asyncio":  # the repr of a task or a callback follows, with its arguments and errors
            record.msg, record.args = re.split(r"[\n(<]", record.getMessage())[0].strip(), ()
        try:
            Stderr().write(self.format(record))
        except Exception:
            self.handleError(record)


def set_up(role: str, settings: Settings) -> None:
    """Set up logging as the settings say. `role`, such as `api@host`, stands in each line of JSON."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    render = _json(role) if settings.log_format == "json" else _console()
    _processors[:] = [_with_common, *render]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
        processors=_processors,
    )
    _set_up_libraries(max(level, logging.WARNING), render)
    _log_what_ends_the_process_or_a_thread()


def logger() -> FilteringBoundLogger:
    """A logger. Each module has one; it may be made before `set_up` is called."""
    made: FilteringBoundLogger = structlog.get_logger()
    return made


def tell(
    log: FilteringBoundLogger, what: str, each: Sequence[T], fields: Callable[[T], Mapping[str, Any]], **of_all: Any
) -> None:
    """Log a batch in one line with `of_all`, and `fields` of its only item; at level debug, many have a line each."""
    if len(each) == 1:
        log.info(what, **{**of_all, **fields(each[0])})
        return
    if log.is_enabled_for(logging.DEBUG):
        for one in each:
            log.debug(what, **fields(one))
    log.info(what, **of_all)


def silence() -> None:
    """Log nothing in this process from now on."""
    logging.disable()
    _processors[:] = [_drop]


def in_json(role: str, level: str, fields: Mapping[str, Any]) -> str:
    """One line of JSON, with the time now."""
    return visible_json(json.dumps({"timestamp": now(), "level": level, "role": role, **fields}, default=str))


def _json(role: str) -> list[Processor]:
    def render(_: Any, level: str, fields: EventDict) -> str:
        return in_json(role, level, {"event": fields.pop("event"), **fields})

    return [ExceptionRenderer(_traceback), render]


def _console() -> list[Processor]:
    def write(to: Any, error: ExcInfo) -> None:
        to.write(f"\n{_traceback(error)}")

    plain = ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=0, exception_formatter=write)
    return [add_log_level, TimeStamper("iso"), _visible, plain]


def _traceback(exc_info: ExcInfo) -> str:
    return traceback_of(exc_info[1])


def _visible(_: Any, __: str, fields: EventDict) -> EventDict:
    return {name: visible(value) if isinstance(value, str) else value for name, value in fields.items()}


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
    for name in ("uvicorn", "uvicorn.access"):  # uvicorn may have set up its own before
        library = logging.getLogger(name)
        library.handlers, library.propagate, library.level = [], True, logging.NOTSET


def _log_what_ends_the_process_or_a_thread() -> None:
    """Log uncaught errors in the format of all lines, unless something else has taken Python's hooks already."""

    def write(error: BaseException | None) -> None:
        if isinstance(error, Exception):
            logger().critical("ended by a bug", thread=threading.current_thread().name, exc_info=error)

    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _, error, __: write(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda its: write(its.exc_value)


_processors: list[Processor] = [_with_common, *_console()]
"""One list, changed in place: loggers keep it."""

structlog.configure(
    processors=_processors,
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=lambda *_: Stderr(),
    cache_logger_on_first_use=False,  # the role's level and format are set up later
)
