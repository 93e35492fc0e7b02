"""What every command and event is, and the JSON they are stored as."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Command(BaseModel):
    """Something to be done, in the imperative. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(BaseModel):
    """Something that happened, in the past tense. Unknown fields are ignored, so that old code reads new events."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def now() -> str:
    """The time as stored and shown."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """RFC 3339, with microseconds, so that order is that of time; it must be in UTC."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
