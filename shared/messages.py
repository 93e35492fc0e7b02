"""Messages: the base classes of commands and events, and events as they are stored."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, from_json, to_json
from pydantic_core.core_schema import no_info_after_validator_function

from shared import chain
from shared.personal.marks import personal_fields
from shared.plain import Plain

T = TypeVar("T")

Data = dict[str, Any]
"""An event's data, decoded from JSON."""


def has_numbers_only(value: object) -> bool:
    """Whether no number in a value, however deep it stands, is infinite or NaN."""
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
    # Pydantic refuses such numbers itself, but not where a field takes anything.
    if not has_numbers_only(message):
        raise PydanticCustomError("finite_number", "Numbers should be finite")
    return message


class _Message(BaseModel):
    """A frozen model that refuses infinity and NaN, which JSON doesn't have, wherever they stand."""

    # Names recur, values hardly do: to look in a cache for each of them takes a fifth of the time.
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, hide_input_in_errors=True, cache_strings="keys")

    personal: ClassVar[tuple[str, ...]] = ()
    """The names of the fields that are marked as `Personal[...]`."""

    @classmethod
    def __pydantic_on_complete__(cls) -> None:
        cls.personal = personal_fields(cls.model_fields)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        takes_anything = "'type': 'any'" in repr(schema)  # a field, or an item of one, has no type
        return no_info_after_validator_function(_check_numbers, schema) if takes_anything else schema


class Command(_Message):
    """Something to be done, in the imperative. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Event(_Message):
    """Something that happened, in the past tense. A recorded event never changes: it keeps the shape of its time.

    To change the shape, raise `schema_version` and add an upcaster: a pure function that turns the data of the version
    before into that of the next. `class AccountOpened(Event, begins_stream=True)`: the first event of each stream is of
    this type, and no later event is. `class AccountErased(Event, erases_subject=True)`: before such an event is
    recorded, the key under which the stream's personal fields are encrypted is destroyed; None stands for them then.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: ClassVar[int] = 1
    upcasters: ClassVar[Mapping[int, Callable[[Data], Data]]] = {}
    """The upcasters, each by the schema version that it starts from: one for each version below `schema_version`."""
    formerly_personal: ClassVar[tuple[str, ...]] = ()
    """The names of personal fields that only older shapes have. `cqrs protect` encrypts them as those of today."""
    begins_stream: ClassVar[bool] = False
    erases_subject: ClassVar[bool] = False

    def __init_subclass__(cls, *, begins_stream: bool = False, erases_subject: bool = False, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.begins_stream, cls.erases_subject = begins_stream, erases_subject

    @classmethod
    def recorded(cls, schema_version: int, data_json: str) -> Self:
        """Make the event from its recorded data, upcast to this class's shape. Raises UnknownShape for newer data."""
        if schema_version == cls.schema_version or cls is Event:  # Event itself reads no data
            validated: Self = cls.__pydantic_validator__.validate_json(data_json)  # model_validate_json is 0.3 µs more
            return validated
        if schema_version > cls.schema_version:
            raise UnknownShape(cls.__name__, schema_version)
        data = from_json(data_json)
        for version in range(schema_version, cls.schema_version):
            data = cls.upcasters[version](data)
        return cls.model_validate_json(to_json(data))


class UnknownShape(Plain):
    """An event has a type or a schema version that this version of the code doesn't know: a newer one recorded it."""

    def __init__(self, type: str, schema_version: int) -> None:
        super().__init__(f"{type} of schema version {schema_version} is not known to this version")


E = TypeVar("E", bound=Event)


Types = Mapping[str, type[E]]
"""Classes of events by their names."""


class NewEvent(NamedTuple):
    """An event to append. `data` and `metadata` are anything that Pydantic turns into a JSON object."""

    type: str
    data: Any
    metadata: Any
    schema_version: int = 1


def place_of(stream: str, version: int, type: str) -> str:
    """The place of an event, to which its sealed fields belong."""
    return f"{stream} {version} {type}"


class RecordedEvent(NamedTuple):
    """An event as it is stored. `position` is its place in the log, `version` its place in its stream, both from 1.

    Its JSON is decoded at each access of `data` and `metadata`.
    """

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
        """The fields of the event."""
        data: dict[str, Any] = from_json(self.data_json, cache_strings="keys")
        return data

    @property
    def place(self) -> str:
        """Where its sealed fields belong: they open nowhere else."""
        return place_of(self.stream, self.version, self.type)

    @property
    def metadata(self) -> dict[str, Any]:
        """The ids of the command and the request that led to it."""
        metadata: dict[str, Any] = from_json(self.metadata_json, cache_strings="keys")
        return metadata

    def hash(self, previous: bytes) -> bytes:
        """The hash of the event, given the hash of the one before it in the log."""
        return chain.link(
            previous,
            self.position,
            self.stream.encode(),
            self.version,
            self.type.encode(),
            self.data_json.encode(),
            self.metadata_json.encode(),
            self.recorded_at.encode(),
            self.schema_version,
        )

    def shown(self) -> dict[str, Any]:
        """The event as the API and the command show it."""
        return {
            "id": self.position,
            "type": self.type,
            "data": self.data,
            "schema_version": self.schema_version,
            "stream": self.stream,
            "version": self.version,
            "recorded_at": self.recorded_at,
            "metadata": self.metadata,
            **self.marks,
        }

    @property
    def marks(self) -> Mapping[str, bool]:
        """What is said beside its fields where some of them are null: that its person is erased, or the key lost."""
        return {}

    def model(self, events: Types[E]) -> E:
        """The event as the class in `events` that has its type's name. Raises UnknownShape."""
        try:
            event = events[self.type]
        except KeyError:
            raise UnknownShape(self.type, self.schema_version) from None
        return event.recorded(self.schema_version, self.data_json)


class ErasedEvent(RecordedEvent):
    """An event of a person who is erased: its personal fields are null."""

    __slots__ = ()

    @property
    def marks(self) -> Mapping[str, bool]:
        """Its person is erased."""
        return {"erased": True}


class UnreadableEvent(RecordedEvent):
    """An event whose personal fields can't be read, since the person's key is lost: they are null."""

    __slots__ = ()

    @property
    def marks(self) -> Mapping[str, bool]:
        """It can't be read in full."""
        return {"unreadable": True}
