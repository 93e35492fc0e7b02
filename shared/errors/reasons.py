"""Why something failed, in words that hold nothing that was sent, no password, and none of a driver's own text."""

from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from pydantic import ValidationError

from shared.errors.surroundings import of_surroundings
from shared.errors.visible import visible
from shared.plain import Plain

ROOT = Path(__file__).parents[2]


def reason_of(error: BaseException) -> str:
    """One line. Of a store, a broker and the system their words alone, else the kind of the error before it.

    A message is shown only if it is known to hold no values; else it is told where the error came from.
    """
    error = origin(error)
    if surroundings := of_surroundings(error):
        return surroundings
    words = words_of(error)
    return f"{_kind(error)}: {words}" if words else f"{_kind(error)}{_where(error.__traceback__)}"


def words_of(error: BaseException) -> str:
    """Its message, as far as it is known to hold no values: it is ours, or stands in the code that raised it."""
    error = origin(error)
    if surroundings := of_surroundings(error):
        return surroundings
    if isinstance(error, Plain):
        return visible(str(error))
    if isinstance(error, ValidationError):
        return _of_validation(error)
    if len(error.args) == 1 and isinstance(error.args[0], str) and error.args[0] in _constants(error.__traceback__):
        return visible(error.args[0])
    return ""


def origin(error: BaseException) -> BaseException:
    """SQLAlchemy and Kombu give the driver's error another name."""
    orig = getattr(error, "orig", None)
    if isinstance(orig, BaseException):
        return orig
    if type(error).__module__.startswith("kombu.") and isinstance(error.__cause__, BaseException):
        return origin(error.__cause__)
    return error


def _of_validation(error: ValidationError) -> str:
    """Each field with the type of its error: messages of validators, and names that were sent, may hold anything."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(dict.fromkeys(_of_field(each["type"], each["loc"]) for each in found))


def _of_field(type: str, loc: tuple[int | str, ...]) -> str:
    return type if type == "extra_forbidden" or not loc else f"{visible(str(loc[0]))}: {type}"


def _constants(traceback: TracebackType | None) -> tuple[object, ...]:
    """Of the code that raised."""
    frames = [frame for frame, _ in walk_tb(traceback)]
    return frames[-1].f_code.co_consts if frames else ()


def _where(traceback: TracebackType | None) -> str:
    frames = [(frame.f_code, line) for frame, line in walk_tb(traceback)]
    if not frames:
        return ""
    code, line = frames[-1]
    path = Path(code.co_filename)
    ours = path.is_relative_to(ROOT) and "site-packages" not in path.parts
    shown = path.relative_to(ROOT) if ours else Path(*path.parts[-2:])
    return f" in {code.co_name}, {shown}:{line}"


def _kind(error: BaseException) -> str:
    return visible(type(error).__name__)
