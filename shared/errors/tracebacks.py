"""Tracebacks without values: where an error was raised, and its class. A message may hold what a client sent."""

from collections.abc import Iterator
from traceback import format_tb

from shared.errors.reasons import words_of
from shared.errors.visible import visible
from shared.plain import Plain


def traceback_of(error: BaseException) -> str:
    """The error's traceback as Python writes it, causes first, with only those messages known to hold no values."""
    return "\n".join(visible(line) for line in _lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before and id(before) not in seen:
        yield from _lines(before, seen)
        yield "which led to" if error.__cause__ else "and meanwhile"
    if error.__traceback__:
        yield "Traceback (most recent call last):"
        for each in format_tb(error.__traceback__):
            yield from each.splitlines()
    words = words_of(error)
    yield f"{type(error).__name__}: {words}" if words else type(error).__name__
    if isinstance(error, Plain):
        yield from "\n".join(getattr(error, "__notes__", [])).splitlines()
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _lines(part, seen)
