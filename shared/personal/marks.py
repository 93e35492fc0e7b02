"""The mark of personal fields."""

from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

T = TypeVar("T")


class _Mark:
    """Stands in the annotation of a personal field."""


MARK = _Mark()

Personal = Annotated[T | None, MARK]
"""A field that tells something about a person, `first_name: Personal[str]`, as a command or an event declares it.

It is encrypted wherever it is stored, under the key of the person whose stream it is. Once that person is erased, the
field is None for whoever reads the message; what is merely not known is something else, such as "".
"""


def personal_fields(fields: dict[str, FieldInfo]) -> tuple[str, ...]:
    """The names of those fields that are marked. Raises TypeError for a mark within a field, where none is heeded."""
    for name, field in fields.items():
        if _is_marked_within(field.annotation):
            raise TypeError(f"{name}: a personal field is marked as a whole, as in Personal[list[str]]")
    return tuple(name for name, field in fields.items() if MARK in field.metadata)


def _is_marked_within(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.values()
        return any(MARK in each.metadata or _is_marked_within(each.annotation) for each in fields)
    return any(each is MARK or _is_marked_within(each) for each in get_args(annotation))
