"""Times: as they are stored, and as people and other programs write them."""

import re
from datetime import UTC, datetime, timedelta

MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"

RFC_3339 = re.compile(rf"(\d{{4}}-\d\d-\d\d)[Tt]({MINUTE}):(\d\d)(\.\d+)?([Zz]|[+-]{MINUTE})", re.ASCII)

LEAP_SECOND = "60"


def parsed(text: str) -> datetime:
    """A time written as in RFC 3339, in UTC. Raises ValueError, whose message says what it must be.

    A leap second is read as the second after it, as most clocks do.
    """
    match = RFC_3339.fullmatch(text)
    if not match:
        raise ValueError("must be a time as in RFC 3339: 2026-01-31T12:00:00Z")
    day, minute, second, fraction, offset = match.groups()
    is_leap = second == LEAP_SECOND
    try:
        moment = datetime.fromisoformat(
            f"{day}T{minute}:{'59' if is_leap else second}{(fraction or '')[:7]}{offset.upper()}"
        )
        moment = moment.astimezone(UTC)
        return _behind_leap_second(moment) if is_leap else moment
    except OverflowError:
        raise ValueError("must be a time that UTC has, too") from None
    except ValueError as error:
        raise ValueError(f"must be a time that there is: {error}") from None


def _behind_leap_second(moment: datetime) -> datetime:
    """The second after a leap second. Raises ValueError unless a month ends there (RFC 3339, section 5.7)."""
    after = moment + timedelta(seconds=1)
    if (after.day, after.hour, after.minute, after.second) != (1, 0, 0, 0):
        raise ValueError("leap seconds end a month in UTC")
    return after


def now() -> str:
    """The present time, as it is stored and shown."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """A time in UTC as RFC 3339 has it; always with microseconds, so that texts are in the order of times."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(time: str) -> datetime:
    """A stored time, in UTC if it has no offset; the present for what is no time, as imported logs may have it."""
    try:
        its = datetime.fromisoformat(time)
    except ValueError:
        return datetime.now(UTC)
    return its if its.tzinfo else its.replace(tzinfo=UTC)
