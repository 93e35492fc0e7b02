"""What every command and event is, and the JSON they are stored as."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

Data = dict[str, Any]
"""An event as JSON."""


class Command(BaseModel):
    """Something to be done, in the imperative. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(BaseModel):
    """Something that happened, in the past tense. What was recorded stays as it is, in the shape it had then.

    For another shape raise `schema_version`, and add the upcaster that lifts what has the one before: a pure function.
    `class UserCreated(Event, begins_stream=True)`: a stream begins with such an event, and has no other one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: ClassVar[int] = 1
    upcasters: ClassVar[Mapping[int, Callable[[Data], Data]]] = {}
    """By the schema version that they lift to the next one: each below `schema_version`."""
    begins_stream: ClassVar[bool] = False

    def __init_subclass__(cls, *, begins_stream: bool = False, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.begins_stream = begins_stream

    @classmethod
    def recorded(cls, schema_version: int, data_json: str) -> Self:
        """One that was recorded in any shape up to this one. Raises UnknownShape beyond."""
        if schema_version == cls.schema_version or cls is Event:  # that one reads nothing of it
            validated: Self = cls.__pydantic_validator__.validate_json(data_json)  # model_validate_json is 0.3 µs more
            return validated
        if schema_version > cls.schema_version:
            raise UnknownShape(cls.__name__, schema_version)
        data = from_json(data_json)
        for version in range(schema_version, cls.schema_version):
            data = cls.upcasters[version](data)
        return cls.model_validate_json(to_json(data))


class UnknownShape(Exception):
    """An event of a type or a schema version that this version of the code doesn't know: a newer one recorded it."""

    def __init__(self, type: str, schema_version: int) -> None:
        super().__init__(f"{type} of schema version {schema_version} is not known to this version")


def now() -> str:
    """The time as stored and shown."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """RFC 3339, with microseconds, so that order is that of time; it must be in UTC."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(time: str) -> datetime:
    """When it was; in UTC unless it says otherwise, and now if it is no time: once, logs were imported with any."""
    try:
        its = datetime.fromisoformat(time)
    except ValueError:
        return datetime.now(UTC)
    return its if its.tzinfo else its.replace(tzinfo=UTC)
