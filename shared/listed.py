"""What is listed by its name, `module:name` as uvicorn and celery have it: one line lists one more."""

from pkgutil import resolve_name
from typing import TypeVar

T = TypeVar("T")


def listed(name: str, kind: type[T]) -> T:
    """Raises ImportError or TypeError, with the name, if there is no such thing."""
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(f"{name} is listed and can't be imported: {error}") from error
    if not isinstance(found, kind):
        raise TypeError(f"{name} is listed and is no {kind.__name__}")
    return found
