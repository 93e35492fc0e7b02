"""Reasons: why something failed, in words that hold no password, nothing a client sent, and no driver's own text."""

from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from pydantic import ValidationError

from shared.errors.surroundings import of_surroundings
from shared.errors.visible import visible
from shared.plain import Plain

ROOT = Path(__file__).parents[2]


def reason_of(error: BaseException) -> str:
    """The reason in one line: what is wrong with the store, the broker or the system, if the error is one of theirs.

    For any other error: its class, and its message if that is known to hold no values, else where it was raised.
    """
    error = origin(error)
    if surroundings := of_surroundings(error):
        return surroundings
    kind, words = visible(type(error).__name__), words_of(error)
    return f"{kind}: {words}" if words else f"{kind}{_where(error.__traceback__)}"


def words_of(error: BaseException) -> str:
    """The error's message if it holds no values: it is our own, or a constant of the code that raised it; else ""."""
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


def place(function: str, file: str, line: int) -> str:
    """A place in code: the file as it is called within this project, or with its folder's name alone."""
    path = Path(file)
    shown = path.relative_to(ROOT) if is_ours(file) else Path(*path.parts[-2:])
    return f"{function}, {shown}:{line}"


def is_ours(file: str) -> bool:
    """Whether a file of code is this project's, and no library's."""
    path = Path(file)
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def origin(error: BaseException) -> BaseException:
    """The driver's error if SQLAlchemy or Kombu wrapped it in one of theirs, else the error itself."""
    orig = getattr(error, "orig", None)
    if isinstance(orig, BaseException):
        return orig
    if type(error).__module__.startswith("kombu.") and isinstance(error.__cause__, BaseException):
        return origin(error.__cause__)
    return error


def _of_validation(error: ValidationError) -> str:
    """Each field with the type of its error. Not validators' messages and unknown fields: they hold values."""
    found = [(each["type"], each["loc"]) for each in error.errors(include_url=False, include_context=False)]
    fields = (
        type if type == "extra_forbidden" or not loc else f"{visible(str(loc[0]))}: {type}" for type, loc in found
    )
    return "; ".join(dict.fromkeys(fields))


def _constants(traceback: TracebackType | None) -> tuple[object, ...]:
    """The constants of the code that raised."""
    frames = [frame for frame, _ in walk_tb(traceback)]
    return frames[-1].f_code.co_consts if frames else ()


def _where(traceback: TracebackType | None) -> str:
    """The function, file and line that raised."""
    frames = [(frame.f_code, line) for frame, line in walk_tb(traceback)]
    if not frames:
        return ""
    code, line = frames[-1]
    return f" in {place(code.co_name, code.co_filename, line)}"
