"""What a role says: one line for each thing, of one format and with its time, whoever says it.

At info there is a line for a batch, which tells whose it is if it is of one command; at debug one for each command.
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
from structlog.stdlib import ProcessorFormatter, add_logger_name
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from shared.clock import now
from shared.errors.reasons import reason_of
from shared.errors.tracebacks import traceback_of
from shared.errors.visible import visible, visible_json
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
        if isinstance(record.msg, BaseException):
            record.msg = reason_of(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(reason_of(each) if isinstance(each, BaseException) else each for each in record.args)
        if record.name == "asyncio":  # a task, a callback and its arguments follow, as repr has them, errors too
            record.msg, record.args = re.split(r"[\n(<]", record.getMessage())[0].strip(), ()
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
    _say_what_ends_a_process_or_a_thread()


def _say_what_ends_a_process_or_a_thread() -> None:
    """As other lines, unless somebody else has it said already."""

    def say(error: BaseException | None) -> None:
        if isinstance(error, Exception):
            logger().critical("ended by a bug", thread=threading.current_thread().name, exc_info=error)

    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _, error, __: say(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda its: say(its.exc_value)


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
    return visible_json(json.dumps({"timestamp": now(), "level": level, "role": role, **fields}, default=str))


def _json(role: str) -> list[Processor]:
    def render(_: Any, level: str, fields: EventDict) -> str:
        if "exc_info" in fields and (error := _error(fields.pop("exc_info"))):
            fields["exception"] = traceback_of(error)
        return in_json(role, level, {"event": fields.pop("event"), **fields})

    return [render]


def _console() -> list[Processor]:
    plain = ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=0)

    def render(logger: Any, level: str, fields: EventDict) -> str:
        error = _error(fields.pop("exc_info")) if "exc_info" in fields else None
        its = {"timestamp": now(), "level": level, **fields}
        for name, value in fields.items():
            if isinstance(value, str) and not value.isprintable():
                its[name] = visible(value)
        line = str(plain(logger, level, its))
        return f"{line}\n{traceback_of(error)}" if error else line

    return [render]


def _error(exc_info: Any) -> BaseException | None:
    """As `logging` takes it: an error, or what sys.exc_info() says, or whether that is meant."""
    if isinstance(exc_info, BaseException):
        return exc_info
    its = exc_info if isinstance(exc_info, tuple) else sys.exc_info() if exc_info else (None,)
    error: BaseException | None = its[1] if len(its) > 1 else None
    return error


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
