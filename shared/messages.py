"""What every command and event is, and the JSON they are stored as."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, from_json, to_json
from pydantic_core.core_schema import no_info_after_validator_function

from shared.plain import Plain

T = TypeVar("T")

Data = dict[str, Any]
"""An event as JSON."""


def has_numbers_only(value: object) -> bool:
    """Whether each number in what JSON is made of is one: neither infinite nor NaN."""
    match value:
        case float():
            return isfinite(value)
        case BaseModel():
            return has_numbers_only(vars(value))
        case dict():
            return all(map(has_numbers_only, value.values()))
        case list() | tuple() | set() | frozenset():
            return all(map(has_numbers_only, value))
    return True


def _check_numbers(message: T) -> T:
    """Pydantic does so itself, but not where a field takes anything."""
    if not has_numbers_only(message):
        raise PydanticCustomError("finite_number", "Numbers should be finite")
    return message


def _takes_anything(schema: object) -> bool:
    """Whether there is a field, or an item of one, of no type: then it may be any."""
    match schema:
        case {"type": "any"}:
            return True
        case dict():
            its = (each for key, each in schema.items() if key not in {"metadata", "serialization"})
            return any(map(_takes_anything, its))
        case list() | tuple():
            return any(map(_takes_anything, schema))
    return False


class _Message(BaseModel):
    """JSON has no infinity and no NaN: they are refused, wherever in a message they stand."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return no_info_after_validator_function(_check_numbers, schema) if _takes_anything(schema) else schema


class Command(_Message):
    """Something to be done, in the imperative. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Event(_Message):
    """Something that happened, in the past tense. What was recorded stays as it is, in the shape it had then.

    For another shape raise `schema_version`, and add the upcaster that lifts what has the one before: a pure function.
    `class AccountOpened(Event, begins_stream=True)`: a stream begins with such an event, and has no other one.
    """

    model_config = ConfigDict(extra="ignore")

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


class UnknownShape(Plain):
    """An event of a type or a schema version that this version of the code doesn't know: a newer one recorded it."""

    def __init__(self, type: str, schema_version: int) -> None:
        super().__init__(f"{type} of schema version {schema_version} is not known to this version")


E = TypeVar("E", bound=Event)


Types = Mapping[str, type[E]]
"""Events by their names."""


class NewEvent(NamedTuple):
    """An event to append. `data` and `metadata` are anything that is a JSON object when serialised."""

    type: str
    data: Any
    metadata: Any
    schema_version: int = 1


class RecordedEvent(NamedTuple):
    """An event as it is stored; its JSON is decoded when it is asked for."""

    position: int
    stream: str
    version: int
    type: str
    data_json: str
    metadata_json: str
    recorded_at: str
    schema_version: int

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = from_json(self.data_json)
        return data

    @property
    def metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = from_json(self.metadata_json)
        return metadata

    def shown(self) -> dict[str, Any]:
        """As the API and the command show it."""
        return {
            "id": self.position,
            "type": self.type,
            "data": self.data,
            "schema_version": self.schema_version,
            "stream": self.stream,
            "version": self.version,
            "recorded_at": self.recorded_at,
            "metadata": self.metadata,
        }

    def model(self, events: Types[E]) -> E:
        """As one of these. Raises UnknownShape."""
        try:
            event = events[self.type]
        except KeyError:
            raise UnknownShape(self.type, self.schema_version) from None
        return event.recorded(self.schema_version, self.data_json)
